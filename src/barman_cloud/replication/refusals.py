"""Why a server gives no replication connection: each reason as one line that names the setting and its value.

What the server says depends on its version and language, so the ordinary connection is asked for the facts first, and
the words of the refusal are looked at only where no fact tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import psycopg

from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import Connection, first_line, tls_hint

_NO_CLIENT_AUTHENTICATION = "pg_hba.conf"
_POOLERS = ("unsupported startup parameter", "pgbouncer", "pooler", "odyssey", "pgpool")
"""What PgBouncer before 1.23 answers to the startup parameter ``replication``, and names that others sign with."""


class _Facts(NamedTuple):
    role: str
    may_replicate: bool
    wal_level: str
    max_wal_senders: int
    senders: int
    hba_file: str | None


_FACTS = (
    "SELECT CURRENT_USER::pg_catalog.text, rolsuper OR rolreplication,"
    " pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('max_wal_senders')::pg_catalog.int4,"
    " (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()),"
    " (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'hba_file')"
    " FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
)


def require_streaming(connection: Connection, *, same_role: bool = True) -> None:
    """Check what must be true before the server can stream; ``OperationError`` names what isn't.

    ``same_role`` tells that the replication connection is made as the role of ``connection``.
    """
    facts = _read_facts(connection)
    if facts.wal_level == "minimal":
        raise OperationError(
            "wal_level is minimal on the server, which can't be backed up while it runs",
            hint="set wal_level = replica and max_wal_senders = 10, and restart the server",
        )
    if facts.max_wal_senders == 0:
        raise OperationError(
            "max_wal_senders is 0 on the server: it streams to nobody",
            hint="set max_wal_senders = 10 and restart the server",
        )
    if same_role and not facts.may_replicate:
        raise OperationError(
            f"role {facts.role} may not stream: it has neither REPLICATION nor SUPERUSER",
            hint=f"ALTER ROLE {facts.role} REPLICATION, or name another role with --user or --streaming-conninfo",
        )


def refused_connection(error: psycopg.Error, beside: Connection, arguments: Mapping[str, Any]) -> OperationError:
    """Return why the server refused the replication connection that ``arguments`` describe."""
    text = first_line(error)
    where = f"{arguments.get('host') or 'the default host'}, port {arguments.get('port') or 'default'}"
    if any(word in text.lower() for word in _POOLERS):
        return OperationError(
            f"a connection pooler answers at {where}, which passes no replication connection on: {text}",
            hint="connect to PostgreSQL itself (--host, --port, or --streaming-conninfo for the stream alone)",
        )
    if hint := tls_hint(error, arguments):
        return OperationError(f"no replication connection: {text}", hint=hint)
    try:
        facts = _read_facts(beside)
    except OperationError:
        return OperationError(f"no replication connection: {text}")
    user = arguments.get("user") or facts.role
    if _NO_CLIENT_AUTHENTICATION in text:
        return OperationError(
            f"pg_hba.conf allows no replication connection of role {user} from here: {text}",
            hint=f"add 'host replication {user} ADDRESS scram-sha-256' to {facts.hba_file or 'hba_file'} and reload",
        )
    if facts.senders >= facts.max_wal_senders:
        return OperationError(
            f"max_wal_senders is {facts.max_wal_senders} on the server, and all of them are in use",
            hint="raise max_wal_senders and restart the server; pg_stat_replication shows who holds them",
        )
    return OperationError(
        f"no replication connection to {where}: {text}",
        hint=f"role {user} needs REPLICATION, a 'replication' line in pg_hba.conf, and a free one of "
        f"max_wal_senders ({facts.max_wal_senders})",
    )


def _read_facts(connection: Connection) -> _Facts:
    try:
        row = connection.execute(_FACTS).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"cannot read the server's settings: {first_line(error)}") from error
    assert row is not None
    return _Facts(str(row[0]), bool(row[1]), str(row[2]), int(row[3]), int(row[4]), row[5])
