"""``status``: a server and its backups in a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from barman_cloud.cli.server import postgres, retention
from barman_cloud.cli.server.session import add_servers
from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.connection import first_line, read_metadata
from barman_cloud.report.terminal import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

    from barman_cloud.cli.server.session import OneServer, Session
    from barman_cloud.postgres.connection import Connection

_Line = tuple[str, str, object]


def status_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)


def status(session: Session, args: Namespace) -> None:
    session.each(args.server_name, _status)


def _status(server: OneServer) -> None:
    lines = [*_of_configuration(server), *_of_postgres(server), *_of_catalogue(server), *_of_maintenance(server)]
    shown = [f"\t{label}: {printable(str(value))}\n" for _, label, value in lines]
    server.output.text("".join([f"Server {server.name}:\n", *shown]))
    server.output.result(
        server.name, {key: {"description": label, "message": str(value)} for key, label, value in lines}
    )


def _of_configuration(server: OneServer) -> Iterator[_Line]:
    if server["description"]:
        yield "description", "Description", server["description"]
    yield "active", "Active", server["active"]
    yield "disabled", "Disabled", False
    yield "active_model", "Active configuration model", server.config.model


def _of_postgres(server: OneServer) -> Iterator[_Line]:
    try:
        connection = server.connect()
        metadata = read_metadata(connection)
        yield "pg_version", "PostgreSQL version", postgres.version_text(connection)
        yield "is_in_recovery", "Cluster state", "in archive recovery" if metadata.in_recovery else "in production"
        if metadata.cluster_size is not None:
            yield "current_size", "Current data size", postgres.size_text(metadata.cluster_size)
        if metadata.data_directory:
            yield "data_directory", "PostgreSQL Data directory", metadata.data_directory
        if segment := postgres.current_segment(connection):
            yield "current_xlog", "Current WAL segment", segment
        if metadata.archive_command and metadata.archive_mode != "off":
            yield from _of_archiver(connection, metadata.archive_command)
    except (BarmanCloudError, psycopg.Error) as error:
        reason = first_line(error) if isinstance(error, psycopg.Error) else str(error)
        yield "pg_version", "PostgreSQL version", f"FAILED trying to get PostgreSQL version ({reason})"


def _of_archiver(connection: Connection, command: str) -> Iterator[_Line]:
    yield "archive_command", "PostgreSQL 'archive_command' setting", command
    row = connection.execute(
        "SELECT last_archived_wal::pg_catalog.text, last_archived_time::pg_catalog.text, failed_count,"
        " archived_count FROM pg_catalog.pg_stat_archiver"
    ).fetchone()
    if row is None:
        return
    last = f"{row[0]}, at {row[1]}" if row[0] else "No WAL segment shipped yet"
    yield "last_shipped_wal", "Last archived WAL", last
    if row[2]:
        yield "failed_count", "Failures of WAL archiver", row[2]


def _of_catalogue(server: OneServer) -> Iterator[_Line]:
    yield "passive_node", "Passive node", False
    yield "retention_policies", "Retention policies", retention.describe(server)
    done = [info for info in server.view.backups.values() if info.is_complete]
    yield "backups_number", "No. of available backups", len(done)
    yield "first_backup", "First available backup", done[0].backup_id if done else None
    yield "last_backup", "Last available backup", done[-1].backup_id if done else None
    full = sum(info.parent_backup_id is None for info in done)
    least = server["minimum_redundancy"]
    yield (
        "minimum_redundancy",
        "Minimum redundancy requirements",
        f"{'satisfied' if full >= least else 'FAILED'} ({full}/{least})",
    )


def _of_maintenance(server: OneServer) -> Iterator[_Line]:
    """Ours alone: what is wrong with the receiver, and what ``cron`` did and does next; nothing before its first pass
    but of what has a schedule.
    """
    from barman_cloud.cli.commands import SUMMARIES
    from barman_cloud.schedule.overview import overview, receiver_problem

    store, layout = server.wals.store, server.wals.layout
    if server["streaming_archiver"] and (problem := receiver_problem(store, layout)):
        yield "receive_wal", "Receiving of WAL", f"FAILED ({problem})"
    for job in overview(store, layout, server.config, SUMMARIES).jobs:
        if job.last_start is not None or f"{job.job}_schedule" in server.config.places:
            yield f"scheduled_{job.job}", f"Scheduled {job.job}", job
