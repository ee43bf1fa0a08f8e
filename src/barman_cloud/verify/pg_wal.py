"""How fast the server writes WAL, how far the archive is behind it, and when the disk of ``pg_wal`` will be full."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg

from barman_cloud.postgres.connection import Connection, ServerMetadata
from barman_cloud.postgres.wal import WalKind, parse_wal_name
from barman_cloud.report.text import size
from barman_cloud.verify.findings import Finding, critical, ok, unknown
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.times import duration

_RATE_SECONDS = 1.0
_SETTLED_SECONDS = 60
"""Statistics that are younger say nothing about an average."""
_START_SECONDS = 60
"""A server may need so long from its lock file to the time that it says it has begun."""
_SOON = timedelta(days=1)


class Room(NamedTuple):
    """Bytes that ``pg_wal`` can still grow by; None if that can't be known from here, for the reason given."""

    free: int | None
    why: str = ""


def look_at_lag(connection: Connection, metadata: ServerMetadata) -> Iterator[Finding]:
    """Tell how far the archive is behind the server, if it archives."""
    row = connection.execute(
        "SELECT last_archived_wal::pg_catalog.text,"
        " EXTRACT(epoch FROM pg_catalog.clock_timestamp() - last_archived_time)::pg_catalog.float8"
        " FROM pg_catalog.pg_stat_archiver"
    ).fetchone()
    if row is None or row[0] is None or row[1] is None:
        if metadata.archive_mode in ("on", "always"):
            yield ok("archiver-lag", "no segment was archived since the statistics were reset")
        return
    seconds = max(0.0, float(row[1]))
    name = parse_wal_name(str(row[0]))
    text = f"{row[0]} was archived {duration(timedelta(seconds=seconds))} ago"
    numbers = {"archiver_lag_seconds": seconds}
    written = _written(connection)
    if name is not None and name.kind is not WalKind.HISTORY and written is not None:
        # The file of a backup is archived behind the segment whose name it has.
        behind = max(0, written - name.start_lsn(metadata.segment_size) - metadata.segment_size)
        text += f"; {size(behind)} of WAL are newer"
        numbers["archiver_lag_bytes"] = behind
    yield ok("archiver-lag", text).with_numbers(numbers)


def wal_rate(connection: Connection) -> float:
    """Return bytes of WAL per second: those of one second, or if it is more the average since statistics were reset.

    Writing comes in bursts, and a second between two of them would promise too much.
    """
    first, began = _written(connection), time.monotonic()
    time.sleep(_RATE_SECONDS)
    second, seconds = _written(connection), time.monotonic() - began
    now = 0.0 if first is None or second is None else (second - first) / seconds
    return max(now, _average(connection))


def _written(connection: Connection) -> int | None:
    """Return the LSN up to which there is WAL; None on a standby that receives none by streaming."""
    row = connection.execute(
        "SELECT pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()"
        " THEN pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, '0/0')"
    ).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _average(connection: Connection) -> float:
    if connection.info.server_version < 140000:  # pg_stat_wal came with it
        return 0.0
    row = connection.execute(
        "SELECT wal_bytes::pg_catalog.float8,"
        " EXTRACT(epoch FROM pg_catalog.clock_timestamp() - stats_reset)::pg_catalog.float8 FROM pg_catalog.pg_stat_wal"
    ).fetchone()
    if row is None or row[1] is None or row[1] < _SETTLED_SECONDS:
        return 0.0
    return float(row[0]) / float(row[1])


def look_at_room(
    connection: Connection, metadata: ServerMetadata, rate: float, limits: Limits, *, behind: bool
) -> Finding:
    """Judge how long ``pg_wal`` can grow at ``rate`` (bytes per second); ``behind``: archiving doesn't keep up.

    Segments that the server will write over first aren't counted: it lasts at least so long.
    """
    room = _room(connection, metadata, limits)
    speed = f"{size(round(rate))}/s"
    numbers = {"wal_bytes_per_second": rate}
    if room.free is None:
        text = f"how long pg_wal lasts is unknown: {room.why}; WAL is written at {speed}"
        hint = "run this on the server's machine, as its user, or give --wal-room"
        judged = limits.min_wal_time is not None
        return (unknown("pg-wal", text, hint) if judged else ok("pg-wal", text)).with_numbers(numbers)
    numbers["pg_wal_free_bytes"] = room.free
    if rate < 1:
        text = f"pg_wal can grow by {size(room.free)}; hardly any WAL is written"
        return ok("pg-wal", text).with_numbers(numbers)
    seconds = room.free / rate
    numbers["pg_wal_seconds_until_full"] = seconds
    left = timedelta(seconds=min(seconds, timedelta.max.total_seconds() / 2))
    text = f"pg_wal is full in {duration(left)} at {speed}, if nothing is archived: it can grow by {size(room.free)}"
    hint = "repair archiving or enlarge its disk; never delete anything in pg_wal"
    if limits.min_wal_time is not None and left < limits.min_wal_time:
        found = critical("pg-wal", f"{text}; the limit is {duration(limits.min_wal_time)}", hint)
    elif behind and left < _SOON:
        found = critical("pg-wal", f"{text}, and archiving doesn't keep up", hint)
    else:
        found = ok("pg-wal", text)
    return found.with_numbers(numbers)


def _room(connection: Connection, metadata: ServerMetadata, limits: Limits) -> Room:
    if limits.wal_room is not None:
        try:
            row = connection.execute("SELECT sum(size)::pg_catalog.int8 FROM pg_catalog.pg_ls_waldir()").fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return Room(None, "the role may not list pg_wal (GRANT pg_monitor)")
        return Room(max(0, limits.wal_room - int(row[0] or 0 if row else 0)))
    if metadata.data_directory is None:
        return Room(None, "the role may not see where it is (GRANT pg_monitor)")
    if not _is_here(connection, metadata.data_directory):
        return Room(None, "its file system can't be seen from here")
    try:
        status = os.statvfs(Path(metadata.data_directory, "pg_wal"))
    except OSError as error:
        return Room(None, f"its file system doesn't tell: {error.strerror}")
    return Room(status.f_bavail * status.f_frsize)


def _is_here(connection: Connection, data_directory: str) -> bool:
    """Tell whether the server runs on the directory that has this path here: another machine may have one like it.

    The lock file has the time at which its server began, in whole seconds (third line).
    """
    row = connection.execute(
        "SELECT EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time())::pg_catalog.float8"
    ).fetchone()
    try:
        locked = int(Path(data_directory, "postmaster.pid").read_text().split("\n")[2])
    except (OSError, ValueError, IndexError):
        return False
    return row is not None and -2 < float(row[0]) - locked < _START_SECONDS
