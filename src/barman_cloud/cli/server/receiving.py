"""``receive-wal``, ``switch-wal``, ``list-processes``, ``terminate-process``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from barman_cloud.cli.server import incoming, postgres
from barman_cloud.cli.server.import_state import import_once
from barman_cloud.cli.server.session import add_server, add_servers, with_default
from barman_cloud.cli.wal_receive import RECEIVE
from barman_cloud.errors import BarmanCloudError, ConfigurationError, ConflictError, NotFoundError, OperationError
from barman_cloud.postgres.connection import first_line, read_metadata
from barman_cloud.postgres.wal import parse_lsn, segment_name
from barman_cloud.schedule import locks
from barman_cloud.schedule.local import lock_path

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session
    from barman_cloud.postgres.connection import Connection

_STOP_SECONDS = 60.0
ARCHIVE_TIMEOUT = 30
"""Seconds that ``switch-wal --archive`` waits, as Barman."""


def receive_wal_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("--stop", action="store_true", help="stop the receiver on this machine")
    parser.add_argument("--reset", action="store_true", help="tell where a receiver would begin")
    parser.add_argument("--create-slot", action="store_true", help="create the replication slot, and exit")
    parser.add_argument("--if-not-exists", action="store_true", help="a slot that is there is no error")
    parser.add_argument("--drop-slot", action="store_true", help="drop the replication slot, and exit")


def receive_wal(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    if sum((args.stop, args.reset, args.create_slot, args.drop_slot)) > 1:
        raise OperationError("--stop, --reset, --create-slot and --drop-slot exclude each other")
    if args.stop:
        _terminate(server, RECEIVE)
    elif args.create_slot:
        create_slot(server, if_not_exists=args.if_not_exists)
    elif args.drop_slot:
        _drop_slot(server)
    elif args.reset:
        session.output.info("Nothing to do. Position of receive-wal is aligned.")
    else:
        _receive(server)


def _receive(server: OneServer) -> None:
    if not server["streaming_archiver"]:
        raise ConfigurationError(
            f"Unable to start receive-wal process: streaming_archiver option set to off in the configuration of server "
            f"{server.name}",
            hint="set streaming_archiver = on",
        )
    server.output.info(f"Starting receive-wal for server {server.name}")
    from barman_cloud.cli.wal_receive import COMMAND, one_on_this_machine

    with one_on_this_machine(server.config):
        import_once(server)
    COMMAND.run(server.plain("wal-receive", receiver_words(server)))


def receiver_words(server: OneServer) -> list[str]:
    """Return what the configuration means beyond ``config.words``: Barman's name for the stream, also by default."""
    conninfo = server["wal_streaming_conninfo"] or server["streaming_conninfo"]
    if not conninfo:
        return []
    return ["--streaming-conninfo", with_default(conninfo, "application_name", server["streaming_archiver_name"])]


def create_slot(server: OneServer, *, if_not_exists: bool = False) -> None:
    name = _slot_name(server)
    server.output.info(f"Creating physical replication slot '{name}' on server '{server.name}'")
    connection = server.connect("wal_conninfo")
    try:
        connection.execute("SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", (name,))
    except psycopg.errors.DuplicateObject:
        if not if_not_exists:
            raise ConflictError(f"Replication slot '{name}' already exists") from None
        server.output.info(
            f"Replication slot '{name}' already exists and --if-not-exists was specified. Skipping creation"
        )
    except psycopg.Error as error:
        raise OperationError(f"Cannot create replication slot '{name}': {first_line(error)}") from error
    else:
        server.output.info(f"Replication slot '{name}' created")


def _drop_slot(server: OneServer) -> None:
    name = _slot_name(server)
    server.output.info(f"Dropping physical replication slot '{name}' on server '{server.name}'")
    connection = server.connect("wal_conninfo")
    try:
        connection.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))
    except psycopg.errors.UndefinedObject:
        raise NotFoundError(f"Replication slot '{name}' does not exist") from None
    except psycopg.errors.ObjectInUse:
        raise ConflictError(
            f"Cannot drop replication slot '{name}' on server '{server.name}' because it is in use.",
            hint=f"stop its receiver first: terminate-process {server.name} {RECEIVE}",
        ) from None
    except psycopg.Error as error:
        raise OperationError(f"Cannot drop replication slot '{name}': {first_line(error)}") from error
    server.output.info(f"Replication slot '{name}' dropped")


def _slot_name(server: OneServer) -> str:
    name: str | None = server["slot_name"]
    if not name:
        raise ConfigurationError(f"Unable to handle a replication slot: slot_name of server {server.name} is not set")
    return name


def switch_wal_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    parser.add_argument("--force", action="store_true", help="checkpoint first, so that there is something to close")
    parser.add_argument("--archive", action="store_true", help="wait until the segment is in the archive")
    parser.add_argument(
        "--archive-timeout", type=int, default=ARCHIVE_TIMEOUT, metavar="SECONDS", help="how long (default 30)"
    )


def switch_wal(session: Session, args: Namespace) -> None:
    session.each(args.server_name, lambda server: _switch(server, args))


def _switch(server: OneServer, args: Namespace) -> None:
    connection = server.connect()
    try:
        metadata = read_metadata(connection)
        if metadata.in_recovery:
            if not server["primary_conninfo"]:
                raise OperationError(
                    f"server '{server.name}' is a standby, which can't close a segment",
                    hint="set primary_conninfo, or run this for the primary",
                )
            connection = server.connect("primary_conninfo")
        closed = close_segment(connection, force=args.force, size=metadata.segment_size)
    except psycopg.Error as error:
        raise OperationError(
            f"Unable to perform pg_switch_wal for server '{server.name}': {first_line(error)}"
        ) from error
    if closed:
        server.output.info(f"The WAL file {closed} has been closed on server '{server.name}'")
    else:
        server.output.info(f"No switch performed because server '{server.name}' is idle")
    if not args.archive:
        return
    if not closed:
        return
    server.output.info(
        f"Waiting for the WAL file {closed} from server '{server.name}' (max: {args.archive_timeout} seconds)"
    )
    if not wait_for_wal(server, closed, args.archive_timeout):
        raise OperationError(
            f"The WAL file {closed} has not been received in {args.archive_timeout} seconds",
            hint="see whether receive-wal runs, or archive_command works",
        )


def close_segment(connection: Connection, *, force: bool, size: int) -> str | None:
    """Switch WAL and return the name of the segment that was closed, None if there was nothing in it."""
    if force:
        connection.execute("CHECKPOINT")
    before = parse_lsn(postgres.value(connection, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text"))
    timeline = postgres.timeline(connection)
    # A record that marks the place makes sure that there is one in the segment.
    end = parse_lsn(postgres.value(connection, "SELECT pg_catalog.pg_switch_wal()::pg_catalog.text"))
    after = parse_lsn(postgres.value(connection, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text"))
    if after // size == before // size:
        return None
    return segment_name(timeline, max(before, end - 1), size)


def wait_for_wal(server: OneServer, name: str, timeout: float | None) -> bool:
    """Wait until a segment is in the archive, storing what waits on this machine; False if it isn't in time."""
    deadline = None if timeout is None else time.monotonic() + timeout
    store, layout = server.wals.store, server.wals.layout
    while True:
        incoming.archive_waiting(server, say_nothing=True)
        found = (layout.parse_wal_key(item.key) for item in store.list(layout.wal_prefix(name)))
        if any(wal is not None and wal.is_full_segment for wal in found):
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(0.2)


def list_processes_arguments(parser: ArgumentParser) -> None:
    add_server(parser)


def list_processes(session: Session, args: Namespace) -> None:
    server = session.server(args.server_name)
    found = locks.running(server["barman_lock_directory"], server.name)
    if found:
        lines = [f"Active subprocesses for server {server.name}:", *(f"{pid} {task}" for task, pid in found.items())]
    else:
        lines = [f"No active subprocesses found for server {server.name}."]
    for line in lines:
        session.output.info(line)


def terminate_process_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("task", help="what to stop, such as receive-wal; list-processes tells what runs")


def terminate_process(session: Session, args: Namespace) -> None:
    _terminate(session.server(args.server_name), args.task)


def _terminate(server: OneServer, task: str) -> None:
    path = lock_path(Path(server["barman_lock_directory"]), server.name, task)
    pid = locks.holder(path)
    if not pid:
        raise NotFoundError(f"Termination of {task} failed: no such process for server {server.name}")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise OperationError(f"Termination of {task} failed: process {pid} is another user's") from error
    deadline = time.monotonic() + _STOP_SECONDS
    while locks.holder(path) == pid:
        if time.monotonic() > deadline:
            raise OperationError(f"Termination of {task} failed: process {pid} still runs after {_STOP_SECONDS:.0f} s")
        time.sleep(0.1)
    server.output.info(f"Stopped process {task}({pid})")


def lease_owner(server: OneServer) -> str | None:
    """Return who receives the server's WAL by the lease in the bucket, None if nobody does."""
    from datetime import UTC, datetime

    from barman_cloud.cli.wal_receive import LEASE_NAME
    from barman_cloud.schedule.lease import read

    try:
        holding = read(server.wals.store, server.wals.layout, LEASE_NAME)
    except BarmanCloudError:
        return None
    return None if holding is None or holding.ended(datetime.now(UTC)) else str(holding.owner)
