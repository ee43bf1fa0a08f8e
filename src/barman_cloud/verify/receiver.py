"""What ``wal-receive`` last said of itself, judged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from barman_cloud.catalog import receiver_state
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.receiver_state import ReceiverState
from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import format_lsn
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify.findings import Finding, critical, ok, warning
from barman_cloud.verify.times import duration

_OTHERWISE = timedelta(minutes=5)
"""WAL that was stored so long after a receiver's last word has come by another way."""


def look_at_receiver(
    store: ObjectStore, layout: Layout, now: datetime, newest_wal: datetime | None = None
) -> tuple[ReceiverState | None, tuple[Finding, ...]]:
    """Return the state of the server's receiver, None if there never was one, and what is to be said of it.

    ``newest_wal`` is when the newest WAL of the archive was stored.
    """
    try:
        state = receiver_state.read(store, layout)
    except IntegrityError as error:
        return None, (warning("receiver", str(error), error.hint or "delete the object"),)
    return state, tuple(_findings(state, now, newest_wal)) if state else ()


def _findings(state: ReceiverState, now: datetime, newest_wal: datetime | None) -> Iterator[Finding]:
    where = f"wal-receive ({state.mode}) on {state.host}"
    age = max(now - state.time, timedelta(0))
    if not state.is_alive(now) and newest_wal is not None and newest_wal - state.time > _OTHERWISE:
        yield ok("receiver", f"{where} ended {duration(age)} ago, and WAL comes by another way since")
    elif not state.running and state.problem:
        yield critical("receiver", f"{where} ended {duration(age)} ago: {state.problem}", "start it again", state.host)
    elif not state.running:
        yield warning(
            "receiver",
            f"{where} was stopped {duration(age)} ago",
            "start it again, or drop its slot if WAL is to come by archive_command",
            state.host,
        )
    elif not state.is_alive(now):
        yield critical(
            "receiver", f"{where} was last heard of {duration(age)} ago", "see whether it runs, and its log", state.host
        )
    elif state.problem:
        yield critical("receiver", f"{where}: {state.problem}", "see its log; what it can't take the server keeps")
    elif not state.connected:
        yield ok("receiver", f"{where} has just begun")
    else:
        yield ok(
            "receiver",
            f"{where} has WAL of timeline {state.timeline} up to {format_lsn(state.flushed_lsn)}, "
            f"{state.lag_bytes >> 10} KiB behind the server {duration(age)} ago; "
            f"{state.waiting_bytes >> 20} of {state.waiting_limit >> 20} MiB wait to be stored",
        )


def metrics(state: ReceiverState, now: datetime) -> dict[str, float]:
    """Return numbers for monitoring: sizes in bytes, times in seconds since 1970."""
    return {
        "receiver_up": float(state.is_alive(now)),
        "receiver_time_seconds": state.time.timestamp(),
        "receiver_lag_bytes": float(state.lag_bytes),
        "receiver_waiting_bytes": float(state.waiting_bytes),
        "receiver_waiting_limit_bytes": float(state.waiting_limit),
    }
