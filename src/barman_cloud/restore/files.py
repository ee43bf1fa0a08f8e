"""Small files of a restored directory: read with care, because they came out of a bucket."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from barman_cloud.errors import OperationError
from barman_cloud.restore.tree import is_root

_LARGEST = 16 << 20
_BY_HAND = "restore without recovery settings, and write them by hand"


def owner_of(directory: Path) -> tuple[int, int] | None:
    """Return uid and gid of a directory's owner, whom files written by root are given to; None for other users."""
    if not is_root():
        return None
    status = directory.stat()
    return status.st_uid, status.st_gid


def read_file(path: Path) -> tuple[bytes, int]:
    """Return content and mode of a configuration file, empty and private if it isn't there.

    ``OperationError`` for what isn't a regular file, or is larger than any configuration.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", 0o600
    except OSError as error:
        raise OperationError(f"{path} can't be read: {error.strerror}", hint=_BY_HAND) from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
            raise OperationError(f"{path} isn't a configuration file", hint=_BY_HAND)
        return file.read(_LARGEST), stat.S_IMODE(status.st_mode)
