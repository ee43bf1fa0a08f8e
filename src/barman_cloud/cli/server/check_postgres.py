"""Lines of ``check`` about the server's PostgreSQL and how its WAL gets into the archive."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from barman_cloud.cli.server import check_archive, postgres, receiving
from barman_cloud.cli.server.check_line import Line
from barman_cloud.cli.wal_receive import RECEIVE
from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.archiving import archiving_problem
from barman_cloud.postgres.connection import first_line, read_metadata
from barman_cloud.replication import slots
from barman_cloud.replication.session import open_session
from barman_cloud.schedule import locks
from barman_cloud.schedule.local import lock_path

if TYPE_CHECKING:
    from barman_cloud.cli.server.check_archive import Archive
    from barman_cloud.cli.server.session import OneServer
    from barman_cloud.postgres.connection import Connection, ServerMetadata

_BUILT_IN = ("pg_basebackup", "pg_basebackup compatible", "pg_basebackup supports tablespaces mapping")
_BUILT_IN_RECEIVER = ("pg_receivexlog", "pg_receivexlog compatible")


def lines(server: OneServer, archive: Archive, timeout: int) -> Iterator[Line]:
    """Yield the lines about PostgreSQL, then those about the archive, in Barman's order."""
    connection, problem = _connection(server, timeout)
    if connection is None:
        yield Line("PostgreSQL", False, problem)
    else:
        yield Line("PostgreSQL", True)
        yield from _of_connection(server, connection)
    if server["streaming_archiver"] or server.streams:
        yield from _of_streaming(server, connection)
    yield check_archive.directories(server)
    yield from check_archive.lines(server, archive)
    if server.streams:
        yield from (Line(name, True) for name in _BUILT_IN)  # the stream is read by this program itself
    yield _system_id(connection, archive)
    if server["streaming_archiver"]:
        yield from (Line(name, True) for name in _BUILT_IN_RECEIVER)
        yield _receiver(server)
    if connection is not None and server["archiver"]:
        yield from _of_archiver(server, connection, read_metadata(connection))
    yield _errors(server)
    yield from check_archive.own_lines(server, archive)


def _connection(server: OneServer, timeout: int) -> tuple[Connection | None, str]:
    try:
        connection = server.connect(timeout=timeout)
        if timeout:
            connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (f"{timeout}s",))
    except BarmanCloudError as error:
        return None, str(error)
    except psycopg.Error as error:
        return None, first_line(error)
    return connection, ""


def _of_connection(server: OneServer, connection: Connection) -> Iterator[Line]:
    allowed = postgres.has_backup_privileges(connection)
    yield Line(
        "superuser or standard user with backup privileges",
        allowed,
        "" if allowed else "privileges for PostgreSQL backup functions are required (see the documentation)",
    )


def _of_streaming(server: OneServer, connection: Connection | None) -> Iterator[Line]:
    if connection is None:
        return
    try:
        with closing(open_session(connection, server["wal_streaming_conninfo"] or server["streaming_conninfo"])):
            pass
        yield Line("PostgreSQL streaming", True)
    except (BarmanCloudError, psycopg.Error) as error:
        yield Line("PostgreSQL streaming", False, str(error))
    level = postgres.value(connection, "SELECT pg_catalog.current_setting('wal_level')")
    yield Line(
        "wal_level", level != "minimal", "" if level != "minimal" else "please set it to a higher level than 'minimal'"
    )
    if server["streaming_archiver"] and server["slot_name"]:
        yield _slot(server, connection)


def _slot(server: OneServer, connection: Connection) -> Line:
    name = server["slot_name"]
    try:
        found = slots.look_at(connection, name)
    except BarmanCloudError as error:
        return Line("replication slot", False, str(error))
    if found is None:
        return Line(
            "replication slot",
            False,
            f"replication slot '{name}' doesn't exist. Please execute "
            f"'barman-cloud server receive-wal --create-slot {server.name}'",
        )
    if not found.is_physical:
        return Line("replication slot", False, f"replication slot '{name}' is a logical one")
    if found.is_lost:
        return Line(
            "replication slot", False, f"slot '{name}' has lost WAL (max_slot_wal_keep_size); drop it and take a backup"
        )
    if found.active_pid is None:
        return Line("replication slot", False, f"slot '{name}' not active: is 'receive-wal' running?")
    return Line("replication slot", True)


def _system_id(connection: Connection | None, archive: Archive) -> Line:
    known = {info.systemid for info in archive.done if info.systemid}
    if not known:
        return Line("systemid coherence", True, "no system Id stored on disk")
    if connection is None:
        return Line("systemid coherence", len(known) == 1)
    own = read_metadata(connection).system_identifier
    if known == {own}:
        return Line("systemid coherence", True)
    return Line(
        "systemid coherence",
        False,
        f"the server's system identifier is {own}, backups are of {', '.join(sorted(known))}",
    )


def _receiver(server: OneServer) -> Line:
    path = lock_path(Path(server["barman_lock_directory"]), server.name, RECEIVE)
    if locks.holder(path) is not None:
        return Line("receive-wal running", True)
    if owner := receiving.lease_owner(server):
        return Line("receive-wal running", True, owner)
    from barman_cloud.schedule.overview import receiver_problem

    problem = receiver_problem(server.wals.store, server.wals.layout)
    start = f"start it: barman-cloud server receive-wal {server.name}, or cron"
    return Line("receive-wal running", False, f"{problem}; {start}" if problem else start)


def _of_archiver(server: OneServer, connection: Connection, metadata: ServerMetadata) -> Iterator[Line]:
    on = metadata.archive_mode != "off"
    yield Line("archive_mode", on, "" if on else "please set it to 'on'")
    command = bool(metadata.archive_command or metadata.archive_library)
    yield Line("archive_command", command, "" if command else "please set it accordingly to documentation")
    problem = archiving_problem(connection, metadata)
    yield Line("continuous archiving", problem is None, problem or "")


def _errors(server: OneServer) -> Line:
    directory = Path(server["errors_directory"])
    try:
        kinds = [path.suffix for path in directory.iterdir() if path.is_file()]
    except OSError:
        return Line("archiver errors", True)
    if not kinds:
        return Line("archiver errors", True)
    told = ", ".join(f"{word}: {kinds.count(f'.{word}')}" for word in ("duplicate", "unknown") if f".{word}" in kinds)
    return Line("archiver errors", False, told or f"{len(kinds)} files in {directory}")
