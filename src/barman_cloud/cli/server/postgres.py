"""What the commands ask of a server's PostgreSQL. Errors of queries are ``psycopg.Error``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from barman_cloud.postgres.connection import may_read_settings, read_metadata
from barman_cloud.postgres.wal import parse_lsn, segment_name
from barman_cloud.report.text import size

if TYPE_CHECKING:
    from typing import LiteralString

    from barman_cloud.postgres.connection import Connection

_LSN = (
    "SELECT (CASE WHEN pg_catalog.pg_is_in_recovery() THEN COALESCE(pg_catalog.pg_last_wal_receive_lsn(),"
    " pg_catalog.pg_last_wal_replay_lsn()) ELSE pg_catalog.pg_current_wal_lsn() END)::pg_catalog.text"
)
_SETTINGS = ("archive_timeout", "checkpoint_timeout", "hot_standby", "max_replication_slots", "max_wal_senders",
             "wal_compression", "wal_keep_size", "wal_level")  # fmt: skip


def value(connection: Connection, query: LiteralString, *parameters: object) -> Any:
    """Return the first value of the first row, None if there is none."""
    row = connection.execute(query, parameters or None).fetchone()
    return row[0] if row else None


def current_lsn(connection: Connection) -> int | None:
    """Return the LSN that the server writes, or on a standby has received."""
    text = value(connection, _LSN)
    return parse_lsn(text) if text else None


def current_segment(connection: Connection) -> str | None:
    """Return the name of the segment that is being written; on a standby, of the newest that it has."""
    lsn = current_lsn(connection)
    if lsn is None:
        return None
    metadata = read_metadata(connection)
    return segment_name(timeline(connection), lsn, metadata.segment_size)


def timeline(connection: Connection) -> int:
    """Return the timeline that the server is on; a standby tells that of its last restartpoint."""
    name = None
    if not value(connection, "SELECT pg_catalog.pg_is_in_recovery()"):
        name = value(connection, "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())")
    if name:
        return int(name[:8], 16)
    return int(value(connection, "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()") or 1)


def version_text(connection: Connection) -> str:
    """Return the version as ``17.11``."""
    number = connection.info.server_version
    return f"{number // 10000}.{number % 10000}"


def describe(connection: Connection) -> dict[str, Any]:
    """Return the values that ``show-servers`` adds to those of the configuration."""
    metadata = read_metadata(connection)
    found: dict[str, Any] = {name: _setting(connection, name) for name in _SETTINGS}
    found |= {
        "archive_command": metadata.archive_command,
        "archive_mode": metadata.archive_mode,
        "config_file": metadata.config_file,
        "current_lsn": value(connection, _LSN),
        "current_size": metadata.cluster_size,
        "current_xlog": current_segment(connection),
        "data_checksums": metadata.data_checksums,
        "data_directory": metadata.data_directory,
        "has_backup_privileges": has_backup_privileges(connection),
        "has_monitoring_privileges": may_read_settings(connection),
        "hba_file": metadata.hba_file,
        "ident_file": metadata.ident_file,
        "is_in_recovery": metadata.in_recovery,
        "is_superuser": is_superuser(connection),
        "postgres_systemid": metadata.system_identifier,
        "server_txt_version": version_text(connection),
        "summarize_wal": metadata.summarize_wal,
        "version_supported": True,
        "xlog_segment_size": metadata.segment_size,
    }
    return found


def is_superuser(connection: Connection) -> bool:
    return bool(value(connection, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"))


def has_backup_privileges(connection: Connection) -> bool:
    """Tell whether the role may start and stop backups, switch WAL and read what a backup records."""
    if is_superuser(connection):
        return True
    start = "pg_backup_start" if connection.info.server_version >= 150000 else "pg_start_backup"
    functions = value(
        connection,
        "SELECT bool_and(pg_catalog.has_function_privilege(oid, 'EXECUTE')) FROM pg_catalog.pg_proc"
        " WHERE proname IN (%s, 'pg_switch_wal', 'pg_create_restore_point')",
        start,
    )
    return bool(functions) and may_read_settings(connection)


def size_text(number: int | None) -> str:
    return "None" if number is None else size(number)


def _setting(connection: Connection, name: str) -> str | None:
    found: str | None = value(connection, "SELECT pg_catalog.current_setting(%s, true)", name)
    return found
