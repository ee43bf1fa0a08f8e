"""What the server itself says about archiving: settings, the archiver's state, slots, and how long its disk lasts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg

from barman_cloud import logs
from barman_cloud.catalog.receiver_state import ReceiverState
from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.archiving import archiving_problem, problem_of_settings, streams_to
from barman_cloud.postgres.connection import Connection, ConnectionParameters, connect, first_line, read_metadata
from barman_cloud.verify.findings import Finding, critical, ok, unknown, warning
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.pg_wal import look_at_lag, look_at_room, wal_rate

log = logs.get_logger(__name__)


def look_at_server(
    parameters: ConnectionParameters, limits: Limits, receiver: ReceiverState | None = None
) -> tuple[Finding, ...]:
    """Return what the server says; one that doesn't answer is a finding, not an error.

    ``receiver`` is what the receiver of the archive said last: the WAL of a server that it follows needn't be archived.
    """
    try:
        connection = connect(parameters, "barman_cloud_check")
    except BarmanCloudError as error:
        return (critical("server", str(error), error.hint or "check the connection"),)
    with connection:
        try:
            return tuple(_findings(connection, limits, receiver))
        except (BarmanCloudError, psycopg.Error) as error:
            reason = first_line(error) if isinstance(error, psycopg.Error) else str(error)
            return (unknown("server", f"the server doesn't tell: {reason}"),)


def _findings(connection: Connection, limits: Limits, receiver: ReceiverState | None) -> Iterator[Finding]:
    metadata = read_metadata(connection)
    wal_level = _setting(connection, "wal_level")
    if wal_level == "minimal":
        yield critical("wal-level", "wal_level is minimal", "set wal_level = replica and restart the server")
    else:
        yield ok("wal-level", f"wal_level is {wal_level}")
    problem = archiving_problem(connection, metadata)
    streamed = _slots(connection)
    received = receiver and receiver.is_alive(datetime.now(UTC)) and streams_to(connection, receiver.application_name)
    if problem and received:
        yield ok("archiver", f"WAL goes into the archive by wal-receive ({problem})")
    elif problem and not any(slot["active"] for slot in streamed):
        yield critical("archiver", problem, "set archive_mode and archive_command, or receive WAL by streaming")
    elif not problem:
        why = problem_of_settings(metadata)
        how = f"WAL is streamed to a receiver ({why})" if why else "archive_command works, as far as the server tells"
        yield ok("archiver", how)
    waiting = _waiting(connection, limits)
    yield waiting
    if metadata.archive_mode != "off":
        yield from look_at_lag(connection, metadata)
    unused = any(not slot["active"] for slot in streamed)
    behind = unused or waiting.problem or (bool(problem) and not received)
    yield look_at_room(connection, metadata, wal_rate(connection), limits, behind=behind)
    for slot in streamed:
        yield _slot_finding(slot)


def _waiting(connection: Connection, limits: Limits) -> Finding:
    """Judge the segments that wait for the archiver."""
    try:
        row = connection.execute(
            "SELECT count(*) FROM pg_catalog.pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return unknown(
            "archiver-queue", "the role may not count the segments that wait", "GRANT pg_monitor to the role"
        )
    ready = int(row[0]) if row else 0
    numbers = {"archiver_ready_segments": ready}
    if ready <= limits.max_ready:
        return ok("archiver-queue", f"{ready} segments wait for the archiver").with_numbers(numbers)
    return critical(
        "archiver-queue",
        f"{ready} segments wait for the archiver, more than {limits.max_ready}",
        "see the server's log for what archive_command says; wal-archive --parallel archives several at a time",
    ).with_numbers(numbers)


def _slots(connection: Connection) -> list[dict[str, Any]]:
    rows = connection.execute(
        "SELECT slot_name::pg_catalog.text, active, wal_status::pg_catalog.text, safe_wal_size"
        " FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical'"
    ).fetchall()
    return [{"name": row[0], "active": row[1], "status": row[2], "safe": row[3]} for row in rows]


def _slot_finding(slot: dict[str, Any]) -> Finding:
    name, status = slot["name"], slot["status"]
    if status == "lost":
        return critical(
            "slots", f"slot {name} has lost WAL that its receiver needs", "drop it, and take a backup", name
        )
    if not slot["active"]:
        return warning(
            "slots",
            f"nobody uses slot {name}: the server keeps WAL for it until its disk is full",
            f"start its receiver, or drop it: SELECT pg_drop_replication_slot('{name}')",
            name,
        )
    return ok("slots", f"slot {name} is in use, its WAL is {status or 'there'}", name)


def _setting(connection: Connection, name: str) -> str:
    row = connection.execute("SELECT pg_catalog.current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row else ""
