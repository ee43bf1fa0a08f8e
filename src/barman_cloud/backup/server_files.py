"""The files of a running server as this machine sees them: is it really its data directory, and what is elsewhere?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import EntrySpool
from barman_cloud.archive.tar import Member
from barman_cloud.backup.members import Content, describe, open_file, read_file
from barman_cloud.backup.readable import refusal
from barman_cloud.backup.scan import CONTROL_FILE
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import ServerMetadata
from barman_cloud.postgres.control_file import ControlFile, parse_control_file, read_control_file
from barman_cloud.postgres.wal import format_lsn

log = logs.get_logger(__name__)

_NOT_HERE = (
    "run the backup on the server's machine and as a user who may read its files, or let the server stream it: "
    "--method stream"
)
_ELSEWHERE = "the connection leads to another machine or container than this one; --method stream can back that up"


def visible_data_directory(metadata: ServerMetadata) -> str:
    """Return PGDATA, after a look at it: it must be readable here, and be the one of the server that was asked.

    The tablespaces must be readable too. Raises ``OperationError`` that names the directory.
    """
    root = metadata.data_directory
    if root is None:
        raise OperationError(
            "the server doesn't tell where its data directory is", hint="grant pg_read_all_settings to the role"
        )
    control = _control_file(root)
    if control.system_identifier != metadata.system_identifier:
        raise OperationError(
            f"data directory {root} belongs to cluster {control.system_identifier}, "
            f"but the server is of cluster {metadata.system_identifier}",
            hint=_ELSEWHERE,
        )
    if control.in_production == metadata.in_recovery:
        found, asked = ("a primary", "a standby") if control.in_production else ("a standby", "a primary")
        raise OperationError(
            f"data directory {root} is that of {found}, but the server that was asked is {asked} of the same cluster",
            hint=_ELSEWHERE,
        )
    for name, _, location in metadata.tablespaces:
        if not os.access(location, os.R_OK | os.X_OK):
            raise OperationError(f"directory {location} of tablespace {name} can't be read here", hint=_NOT_HERE)
    return root


def require_backup_mode_here(root: str, begin: int) -> None:
    """Check that the checkpoint of the backup's begin, an LSN, is known in the data directory at ``root``.

    A replica at the same path has the same system identifier, but it isn't in backup mode: its files with another
    server's label would be a backup that recovers to garbage. Raises ``OperationError``.
    """
    redo = _control_file(root).checkpoint_redo
    if redo < begin:
        raise OperationError(
            f"data directory {root} isn't that of the server in backup mode: its last checkpoint is at "
            f"{format_lsn(redo)}, before the backup's begin at {format_lsn(begin)}",
            hint=_ELSEWHERE,
        )


def external_files(root: str, metadata: ServerMetadata) -> tuple[str, ...]:
    """Return the configuration files that are outside PGDATA and belong into the backup.

    A missing ``ident_file`` or ``hosts_file`` is left out, any other missing file raises ``OperationError``. Files of
    ``include`` directives outside PGDATA aren't saved; a WARNING names them.
    """
    found: dict[str, str] = {}
    optional = (metadata.ident_file, metadata.hosts_file)
    for path in (metadata.config_file, metadata.hba_file, *optional):
        if not path or _is_inside(root, path):
            continue
        try:
            is_file = stat.S_ISREG(Path(path).stat().st_mode)
        except FileNotFoundError:
            is_file = False
        except PermissionError as error:
            raise refusal(error) from error
        if is_file:
            found[Path(path).name] = path
        elif path not in optional:
            raise OperationError(f"configuration file {path} can't be read here")
    others = [path for path in metadata.included_files if not _is_inside(root, path) and path not in found.values()]
    if others:
        log.warning("these configuration files outside PGDATA are not in the backup: %s", ", ".join(others))
    return tuple(found.values())


def configuration_files(metadata: ServerMetadata) -> tuple[str, ...]:
    """Return the paths of all configuration files that the server names, wherever they are."""
    named = (metadata.config_file, metadata.hba_file, metadata.ident_file, metadata.hosts_file)
    return (*(path for path in named if path), *metadata.included_files)


def external_member(path: str, spool: EntrySpool) -> Iterator[tuple[Member, Content]]:
    """Yield the archive member of a file outside PGDATA, under its base name, at the root; links are followed."""
    opened = open_file(os.path.realpath(path))
    if opened is None:
        log.warning("configuration file %s vanished during the backup", path)
        return
    descriptor, status = opened
    try:
        member = describe(Path(path).name, "file", status)
        data = b"".join(bytes(block) for block in read_file(descriptor, member.size))
        spool.add(member.name, member.size, member.mtime, crc32c(data))
        yield member, iter([data])
    finally:
        os.close(descriptor)


def _control_file(root: str) -> ControlFile:
    try:
        return parse_control_file(read_control_file(Path(root, CONTROL_FILE)))
    except OSError as error:
        raise OperationError(f"data directory {root} can't be read here: {error}", hint=_NOT_HERE) from error


def _is_inside(root: str, path: str) -> bool:
    return path.startswith(root.rstrip("/") + "/")
