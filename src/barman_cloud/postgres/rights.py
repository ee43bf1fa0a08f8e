"""What a role needs in PostgreSQL, as the ``GRANT`` that gives it and the question whether it has it.

The one table for ``backup`` (which refuses to begin), ``doctor`` and ``setup``; docs/reference/permissions.md tells it.
"""

from __future__ import annotations

import re
from typing import LiteralString, NamedTuple

from barman_cloud.postgres.connection import MAY_READ_SETTINGS, Connection


class RoleRight(NamedTuple):
    """One right. ``question`` is SQL that is true for who has it; ``grant`` has a ``{}`` for the role."""

    name: str
    question: LiteralString
    grant: LiteralString


_MONITOR = RoleRight(
    "membership in pg_monitor",
    MAY_READ_SETTINGS,
    "GRANT pg_monitor TO {}",
)
_START, _STOP = "pg_catalog.pg_backup_start(text, boolean)", "pg_catalog.pg_backup_stop(boolean)"
_REPLICATION = RoleRight(
    "REPLICATION",
    "SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER",
    "ALTER ROLE {} REPLICATION",
)


def _execute(name: str, signature: LiteralString) -> RoleRight:
    question: LiteralString = "SELECT pg_catalog.has_function_privilege('" + signature + "', 'EXECUTE')"
    grant: LiteralString = "GRANT EXECUTE ON FUNCTION " + signature + " TO {}"
    return RoleRight(f"EXECUTE on {name}", question, grant)


def rights_of_backups(version: int, *, in_recovery: bool = False) -> tuple[RoleRight, ...]:
    """Return what a role needs to back up local files or take disk snapshots; ``version`` as server_version_num."""
    if version >= 150000:
        functions = [_execute("pg_backup_start", _START), _execute("pg_backup_stop", _STOP)]
    else:
        functions = [
            _execute("pg_start_backup", "pg_catalog.pg_start_backup(text, boolean, boolean)"),
            _execute("pg_stop_backup", "pg_catalog.pg_stop_backup(boolean, boolean)"),
        ]
    if not in_recovery:
        functions.append(_execute("pg_switch_wal", "pg_catalog.pg_switch_wal()"))
        functions.append(_execute("pg_create_restore_point", "pg_catalog.pg_create_restore_point(text)"))
    return (_MONITOR, *functions)


def rights_of_streams() -> tuple[RoleRight, ...]:
    """Return what a role needs for streamed backups and for receiving WAL."""
    restore_point = _execute("pg_create_restore_point", "pg_catalog.pg_create_restore_point(text)")
    return (_REPLICATION, _MONITOR, restore_point)


def has(connection: Connection, right: RoleRight) -> bool:
    row = connection.execute(right.question).fetchone()
    return bool(row and row[0])


def grants(connection: Connection, rights: tuple[RoleRight, ...]) -> list[str]:
    """Return the statement for each of these rights that the connection's role lacks."""
    role = connection.execute("SELECT pg_catalog.quote_ident(CURRENT_USER::pg_catalog.text)").fetchone()
    return [statement(right, str(role[0]) if role else "?") for right in rights if not has(connection, right)]


def statement(right: RoleRight, role: str) -> str:
    """Return the statement that gives a right; ``role`` is quoted already, as far as it must be."""
    return right.grant.replace("{}", role) + ";"


def quoted(name: str) -> str:
    """Return a name as SQL has it: in quotes unless it is a plain one."""
    plain = re.fullmatch(r"[a-z_][a-z0-9_]*", name)
    return name if plain else '"' + name.replace('"', '""') + '"'
