"""PostgreSQL 17's WAL summaries: which blocks changed between two LSNs (PostgreSQL docs, 9.28.13).

The WAL summarizer writes one for each checkpoint cycle, and removes those that are older than
``wal_summary_keep_time``. An incremental backup needs them for all WAL from its parent's begin to its own, without a
gap, on each timeline that the server was on meanwhile.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import psycopg

from barman_cloud import logs
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import Connection, first_line
from barman_cloud.postgres.wal import format_lsn, parse_lsn

log = logs.get_logger(__name__)

SUMMARIES_SINCE = 170000
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_GRANT = "grant EXECUTE on pg_available_wal_summaries and pg_wal_summary_contents to the role"


class Summary(NamedTuple):
    """A summary of the WAL from ``start`` (inclusive) to ``end`` (exclusive)."""

    timeline: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the summaries that are there say of some stretches of WAL, which are given as summaries too."""

    summaries: tuple[Summary, ...]
    """Those that are needed."""
    missing: Summary | None
    """The first WAL that no summary covers."""
    is_lost: bool = False
    """There are summaries of later WAL, so that this one won't come any more."""


def coverage(needed: Iterable[Summary], available: Iterable[Summary]) -> Coverage:
    """Return which of the available summaries cover the stretches of WAL in ``needed``."""
    available = sorted(available)
    found: list[Summary] = []
    for timeline, start, end in needed:
        position = start
        for summary in available:
            if summary.timeline != timeline or summary.end <= start or summary.start >= end:
                continue
            if summary.start > position:
                return Coverage(tuple(found), Summary(timeline, position, summary.start), is_lost=True)
            found.append(summary)
            position = max(position, summary.end)
        if position < end:
            later = any(
                other.timeline > timeline or (other.timeline == timeline and other.start >= end) for other in available
            )
            return Coverage(tuple(found), Summary(timeline, position, end), is_lost=later)
    return Coverage(tuple(found), None)


def available_summaries(connection: Connection) -> list[Summary]:
    """Return all summaries that the server has; ``OperationError`` if it doesn't tell."""
    with _explained():
        rows = connection.execute(
            "SELECT tli, start_lsn::pg_catalog.text, end_lsn::pg_catalog.text"
            " FROM pg_catalog.pg_available_wal_summaries()"
        ).fetchall()
    return [Summary(int(timeline), parse_lsn(start), parse_lsn(end)) for timeline, start, end in rows]


def wait_for_summaries(
    connection: Connection, needed: Sequence[Summary], timeout: float, sleep: Callable[[float], None]
) -> tuple[Summary, ...]:
    """Return the summaries of all WAL in ``needed``; waits up to ``timeout`` seconds for the server to write them.

    ``OperationError`` names the WAL of which there is none, at once if the server has removed it.
    """
    deadline = time.monotonic() + timeout
    pause = _PAUSE
    while True:
        found = coverage(needed, available_summaries(connection))
        if found.missing is None:
            return found.summaries
        if found.is_lost:
            raise _lost(connection, found.missing)
        left = deadline - time.monotonic()
        if left <= 0:
            raise OperationError(
                f"after {timeout:.0f} seconds the server has no WAL summaries {_span(found.missing)}",
                hint="see in its log whether the WAL summarizer works; --summary-timeout waits longer",
            )
        if pause == _PAUSE:
            log.info("waiting up to %.0f seconds for WAL summaries %s", timeout, _span(found.missing))
        sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def require_first_summary(connection: Connection, needed: Sequence[Summary]) -> None:
    """Raise ``OperationError`` if the server has removed summaries of ``needed``; those to come are not waited for."""
    found = coverage(needed, available_summaries(connection))
    if found.missing is not None and found.is_lost:
        raise _lost(connection, found.missing)


def summary_rows(connection: Connection, summaries: Iterable[Summary]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of ``pg_wal_summary_contents`` for each of ``summaries``, one by one: there may be many millions.

    ``OperationError`` if the server has removed a summary meanwhile.
    """
    for timeline, start, end in summaries:
        with _explained(), connection.cursor() as cursor:
            yield from cursor.stream(
                "SELECT relfilenode::pg_catalog.int8, reltablespace::pg_catalog.int8, reldatabase::pg_catalog.int8,"
                " relforknumber, relblocknumber, is_limit_block FROM pg_catalog.pg_wal_summary_contents(%s, %s, %s)",
                (timeline, format_lsn(start), format_lsn(end)),
            )


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise OperationError(f"the WAL summaries can't be read: {first_line(error)}", hint=_GRANT) from error
    except psycopg.Error as error:
        raise OperationError(f"the WAL summaries can't be read: {first_line(error)}") from error


def _lost(connection: Connection, missing: Summary) -> OperationError:
    row = connection.execute("SELECT pg_catalog.current_setting('wal_summary_keep_time')").fetchone()
    kept = row[0] if row else "unknown"
    return OperationError(
        f"the server has no WAL summaries {_span(missing)}",
        hint=f"take a full backup; wal_summary_keep_time ({kept}) must be longer than from an increment's parent to it",
    )


def _span(missing: Summary) -> str:
    return f"from {format_lsn(missing.start)} to {format_lsn(missing.end)} on timeline {missing.timeline}"
