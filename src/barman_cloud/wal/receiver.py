"""``wal-receive``: WAL from a replication connection into a sink, which says when it is durable.

When the sink has no room nothing more is read, so the server keeps what follows; it is told that we live all the same.
One thread talks to PostgreSQL and takes; others store.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.receiver_state import ReceiverState
from barman_cloud.errors import ConflictError, IntegrityError, OperationError
from barman_cloud.postgres.timeline import history_name
from barman_cloud.postgres.wal import format_lsn
from barman_cloud.replication.session import ServerRefusal
from barman_cloud.replication.wal_stream import Keepalive, Wal, timeline_history
from barman_cloud.report import progress
from barman_cloud.report.text import size
from barman_cloud.wal import receive_plan
from barman_cloud.wal.receive_source import REMOVED, NotNowError, SlotInUseError, Source, SourceOptions, may_pass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.catalog.layout import Layout
    from barman_cloud.replication.wal_stream import NextTimeline, WalStream
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.receive_sink import Sink

log = logs.get_logger(__name__)

STATUS_INTERVAL = 10.0
"""Seconds between messages to the server; its ``wal_sender_timeout`` is 60."""
WAIT = 1.0
"""Seconds after which what is due by the clock is looked at, when nothing comes."""
STOP_SECONDS = 10.0
"""How long a clean end waits until what was taken is durable."""
SLOT_SECONDS = 70.0
"""How long the server may take a lost connection for alive: a little more than ``wal_sender_timeout``."""
_LONGEST_PAUSE = 30.0


class Received(NamedTuple):
    """What a receiver has received. LSNs as text; None before the first."""

    mode: str
    slot: str | None
    timeline: int | None
    first: str | None
    last: str | None
    waiting: int
    """Bytes of it that aren't in the bucket."""


class _StoppedError(Exception):
    """Told to stop while it waited for the server."""


class Receiver:
    """Receives until :meth:`request_stop` is called. ``check_lease`` raises when another receiver has taken over."""

    def __init__(
        self,
        source: SourceOptions,
        store: ObjectStore,
        layout: Layout,
        sink: Sink,
        *,
        accept_gap: bool,
        require_cluster: Callable[[int], None],
        check_lease: Callable[[], None],
    ) -> None:
        """``accept_gap``: go on behind WAL that the server no longer has."""
        self.stop = threading.Event()
        self._source_options = source
        self._store = store
        self._layout = layout
        self._sink = sink
        self._accept_gap = accept_gap
        self._require_cluster = require_cluster
        self._check_lease = check_lease
        self._segment_size = 0
        self._next_status = 0.0
        self._reported = 0
        self._waits_for_server = False
        self._acknowledged = (0, 0)
        """How far the server was told that WAL is durable, and of which timeline that is: ``(timeline, LSN)``."""
        self._server_end = 0
        self._first: int | None = None
        """Where the first stream began."""
        self._progress = progress.current()
        self._connected_now = False
        self._trouble: str | None = None
        """Why there is no connection."""
        self._started = datetime.now(UTC)
        self._thread: threading.Thread | None = None

    def request_stop(self) -> None:
        """End soon, in order; from a signal handler of the thread that receives, or from any other thread.

        While it waits for a server, which may be frozen, the handler's thread stops waiting at once.
        """
        self.stop.set()
        if self._waits_for_server and threading.current_thread() is self._thread:
            raise _StoppedError

    def run(self) -> None:
        """Receive until told to stop; any error is final, and all that was acknowledged is durable."""
        self._progress.position = self._position
        self._thread = threading.current_thread()
        try:
            self._receive()
        except _StoppedError:
            log.info("stopped while waiting for the server")
        finally:
            self._progress.phase("storing what was received")
            self._sink.end()

    def received(self) -> Received:
        """Return what was received since the begin; from any thread."""
        first, sink = self._first, self._sink
        slot = self._source_options.slot
        if first is None:
            return Received(sink.mode, slot, None, None, None, 0)
        return Received(
            sink.mode, slot, sink.timeline, format_lsn(first), format_lsn(max(sink.written, first)), sink.waiting
        )

    def _position(self) -> str:
        """Return where it is, in words for a live line."""
        sink = self._sink
        if not sink.written:
            return ""
        return f"timeline {sink.timeline} at {format_lsn(sink.written)}, {size(sink.waiting)} not stored yet"

    def describe(self) -> ReceiverState:
        """Return the state of things; from any thread."""
        return ReceiverState(
            time=datetime.now(UTC),
            started=self._started,
            mode=self._sink.mode,
            host=socket.gethostname(),
            pid=os.getpid(),
            application_name=self._source_options.application_name,
            slot=self._source_options.slot,
            connected=self._connected_now,
            timeline=self._sink.timeline,
            server_lsn=max(self._server_end, self._sink.written),
            received_lsn=self._sink.written,
            flushed_lsn=self._sink.flushed,
            waiting_bytes=self._sink.waiting,
            waiting_limit=self._sink.limit,
            problem=self._sink.problem or self._trouble,
        )

    def _receive(self) -> None:
        pause = 0.0
        slot_since: float | None = None
        while not self.stop.wait(pause):
            self._look_for_failures()
            self._progress.phase("connecting to PostgreSQL")
            before = self._sink.written
            try:
                with self._connected() as source:
                    slot_since = None
                    self._receive_from(source)
                return
            except SlotInUseError as error:
                slot_since = slot_since or time.monotonic()
                if time.monotonic() - slot_since > (SLOT_SECONDS if self._sink.written else STATUS_INTERVAL / 2):
                    raise
                reason: OperationError = error
            except OperationError as error:
                if not self._sink.written or not may_pass(error):
                    raise
                reason = error
            if self._sink.written != before:
                pause = 0.0
            pause = min(max(1.0, pause * 2), _LONGEST_PAUSE)
            self._trouble = str(reason)
            self._progress.phase("waiting to connect again")
            log.warning("%s; connecting again in %.0f s", reason, pause)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """For what the server alone decides how long it takes, and what nothing is lost with."""
        self._waits_for_server = True
        try:
            if self.stop.is_set():
                raise _StoppedError
            yield
        finally:
            self._waits_for_server = False

    @contextmanager
    def _connected(self) -> Iterator[Source]:
        with self._waiting():
            source = Source(self._source_options)
        try:
            self._segment_size = source.lineage.segment_size
            if not self._sink.written:
                self._require_cluster(source.system_identifier)
            self._sink.on_progress = source.session.wake
            self._server_end = source.flush_lsn
            yield source
        finally:
            self._connected_now = False
            self._sink.on_progress = lambda: None
            source.close()

    def _receive_from(self, source: Source) -> None:
        self._progress.phase("looking at the archive")
        self._fetch_history(source)
        slot = source.slot
        if self._sink.written:
            if slot and slot.is_lost:
                raise self._lost_by_slot(source, self._sink.written // self._segment_size)
            self._go_on(source)
            return
        self._sink.prepare(source.lineage)
        restart = slot.restart_lsn // self._segment_size if slot and slot.restart_lsn is not None else None
        present = receive_plan.held(self._store, self._layout, source.lineage, self._sink.held(), restart)
        current = source.flush_lsn // self._segment_size
        places = receive_plan.starts(present, restart, current, self._sink.begun(source.lineage))
        if slot and slot.is_lost:
            raise self._lost_by_slot(source, places[-1])
        self._begin_at_first_of(source, places, restart)

    def _begin_at_first_of(self, source: Source, places: list[int], restart: int | None) -> None:
        current = source.flush_lsn // self._segment_size
        if (end := self._sink.acknowledged_up_to(source.lineage)) > source.flush_lsn:
            raise self._ahead(source, end)
        for number in places:
            start = number * self._segment_size
            if start > source.flush_lsn:
                raise self._ahead(source, start)
            try:
                self._follow(source, source.lineage.timeline_of(number), start)
            except ServerRefusal as error:
                if error.sqlstate != REMOVED or self._sink.written > start:
                    raise
                source.session.finish()
                if number != places[-1]:
                    log.warning("a gap in the archive stays: the server no longer has %s",
                                receive_plan.missing_range(source.lineage, number, number + 1))  # fmt: skip
                    continue
                behind = restart if restart is not None and restart > number else None
                if not self._accept_gap:
                    raise self._lost(source, number, behind, str(error)) from error
                behind = behind or current
                log.warning("the archive has a gap: %s; take a new base backup",
                            receive_plan.missing_range(source.lineage, number, behind))  # fmt: skip
                self._follow(source, source.lineage.timeline_of(behind), behind * self._segment_size)
            return

    def _go_on(self, source: Source) -> None:
        """Continue with the segment in progress, on another connection."""
        timeline, flushed = self._sink.timeline, self._sink.flushed
        if self._acknowledged[0] == timeline:  # what came again before the connection was lost may be less
            flushed = max(flushed, self._acknowledged[1])
        end = source.lineage.end_of(timeline)
        if not source.lineage.has(timeline) or (end is not None and end < flushed):
            raise ConflictError(
                f"diverged timeline: WAL of timeline {timeline} was received up to {format_lsn(flushed)}, "
                "and the server " + ("never was on it" if end is None else f"left it at {format_lsn(end)}"),
                hint="receive from the server that has this WAL; what was received is kept",
            )
        start = self._sink.written - self._sink.written % self._segment_size
        if max(start, flushed) > source.flush_lsn:
            raise self._ahead(source, max(start, flushed))
        try:
            self._follow(source, timeline, start)
        except ServerRefusal as error:
            if error.sqlstate == REMOVED:
                raise self._lost(source, start // self._segment_size, None, str(error)) from error
            raise

    def _ahead(self, source: Source, start: int) -> OperationError:
        message = (
            f"diverged timeline: the archive holds WAL up to {format_lsn(start)}, "
            f"and the server has only written {format_lsn(source.flush_lsn)}"
        )
        if source.in_recovery:
            return NotNowError(
                f"the standby has WAL up to {format_lsn(source.flush_lsn)} only, the archive up to {format_lsn(start)}",
                hint="wait until the standby has caught up",
            )
        return ConflictError(message, hint="the server is an older copy: give it a server name of its own")

    def _lost(self, source: Source, first: int, behind: int | None, reason: str) -> OperationError:
        return OperationError(
            f"the server no longer has {receive_plan.missing_range(source.lineage, first, behind)}: {reason}",
            hint="archive it from another copy of pg_wal, or go on behind it with --accept-gap and take a new backup",
        )

    def _lost_by_slot(self, source: Source, first: int) -> OperationError:
        return OperationError(
            f"replication slot {self._source_options.slot} was invalidated by max_slot_wal_keep_size: "
            f"the server doesn't keep {receive_plan.missing_range(source.lineage, first, None)}",
            hint="drop it with --drop-slot, start again with --create-slot, and take a new backup if WAL is missing",
        )

    def _fetch_history(self, source: Source) -> None:
        if name := source.history:
            self._sink.store_history(name, source.history_content)

    def _follow(self, source: Source, timeline: int, start: int) -> None:
        """Receive from ``start``, the beginning of a segment, through all timelines that follow."""
        ended: NextTimeline | None = None
        while not self.stop.is_set():
            log.info("receiving timeline %d from %s", timeline, format_lsn(start))
            with self._waiting():
                stream = source.stream(timeline, start)
            self._sink.begin(timeline, start, self._segment_size)
            self._first = start if self._first is None else self._first
            self._progress.phase("receiving WAL")
            self._connected_now, self._trouble = True, None
            ended = stream.ended or self._pump(stream)
            if ended is None:
                return
            log.warning("the server left timeline %d at %s for timeline %d",
                        timeline, format_lsn(ended.begin), ended.timeline)  # fmt: skip
            self._sink.end_timeline()
            timeline, start = ended.timeline, ended.begin - ended.begin % self._segment_size
            with self._waiting():
                history = timeline_history(source.session, timeline)
            self._sink.store_history(history_name(timeline), history)

    def _pump(self, stream: WalStream) -> NextTimeline | None:
        """Receive one timeline to its end, or until told to stop (None)."""
        sink = self._sink
        while not self.stop.is_set():
            self._look_for_failures()
            self._report_news(stream)
            sink.tend()
            if not sink.has_room():
                sink.wait_for_room(WAIT)
                continue
            message = stream.receive(0)
            if message is None and stream.ended is None:
                sink.pause(caught_up=sink.written >= self._server_end)
                self._report_news(stream)
                message = stream.receive(WAIT)
            if stream.ended is not None:
                return stream.ended
            if message is not None:
                self._server_end = message.server_end
            if isinstance(message, Wal):
                self._take(message)
            elif isinstance(message, Keepalive) and message.wants_reply:
                sink.settle()
                self._report(stream)
        sink.settle(STOP_SECONDS)
        self._report(stream)
        stream.stop()
        return None

    def _take(self, message: Wal) -> None:
        if message.start != self._sink.written:
            raise IntegrityError(
                f"the server sent WAL from {format_lsn(message.start)} on, "
                f"{format_lsn(self._sink.written)} was to follow"
            )
        self._sink.take(message.data, message.server_end)

    def _report(self, stream: WalStream) -> None:
        self._reported = self._sink.flushed
        self._acknowledged = max(self._acknowledged, (self._sink.timeline, self._reported))
        stream.report(self._sink.received, self._reported)
        self._next_status = time.monotonic() + STATUS_INTERVAL

    def _report_news(self, stream: WalStream) -> None:
        """Tell the server when more is durable than it knows, and that we live."""
        if self._sink.flushed != self._reported or time.monotonic() >= self._next_status:
            self._report(stream)

    def _look_for_failures(self) -> None:
        if self._sink.failure is not None:
            raise self._sink.failure
        self._check_lease()
