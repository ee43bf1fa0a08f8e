"""Finding out before a backup begins that a file of the cluster can't be read, and by whom it could."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from barman_cloud.backup.scan import ScannedBase
from barman_cloud.errors import OperationError

HINT = "run the backup as the user that the server runs as, or let this user read it, or move what isn't the server's"
_NAMED = 3
_EFFECTIVE = os.access in os.supports_effective_ids


def require_readable(trees: Iterable[ScannedBase], others: Sequence[str] = ()) -> None:
    """Check that every file of the trees, and ``others`` (paths), may be read; ``OperationError`` names some if not.

    Root may read everything. A file that vanishes meanwhile isn't missed.
    """
    if os.geteuid() == 0:
        return
    refused = [path for path in _files(trees, others) if not _may_read(path)]
    if refused:
        named = ", ".join(f"{path} ({_owner(path)})" for path in refused[:_NAMED])
        more = f" and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        raise OperationError(f"user {_name(os.geteuid())} can't read {named}{more}", hint=HINT)


def refusal(error: OSError) -> OperationError:
    """Return the error of the same kind for a directory (or file) that the system refused to open."""
    path = str(error.filename or "the data directory")
    return OperationError(f"user {_name(os.geteuid())} can't read {path} ({_owner(path)})", hint=HINT)


def _files(trees: Iterable[ScannedBase], others: Sequence[str]) -> Iterator[str]:
    for tree in trees:
        for run in tree.runs:
            prefix = f"{tree.root}/{run.directory}/" if run.directory else f"{tree.root}/"
            for name in run.names:
                yield prefix + name
    yield from others


def _may_read(path: str) -> bool:
    if os.access(path, os.R_OK, effective_ids=_EFFECTIVE):
        return True
    try:
        os.stat(path)  # noqa: PTH116 - called for many files
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _owner(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:
        return "in a directory that can't be searched"
    return f"owner {_name(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
