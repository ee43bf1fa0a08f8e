"""``wal-receive``: WAL from a replication connection into the spool, and behind it into the store.

WAL is acknowledged when it is fsynced in the spool. When the spool is full nothing more is read, so the server keeps
what follows; it is told that we live all the same. One thread talks to PostgreSQL and writes; others store.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.catalog.wal_range import name_of
from barman_cloud.errors import ConflictError, IntegrityError, OperationError
from barman_cloud.postgres.timeline import history_name
from barman_cloud.postgres.wal import format_lsn
from barman_cloud.replication.session import ServerRefusal
from barman_cloud.replication.wal_stream import Keepalive, Wal, timeline_history
from barman_cloud.wal import receive_plan
from barman_cloud.wal.receive_source import REMOVED, NotNowError, SlotInUseError, Source, SourceOptions, may_pass
from barman_cloud.wal.receive_spool import PARTIAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.catalog.layout import Layout
    from barman_cloud.replication.wal_stream import NextTimeline, WalStream
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.receive_spool import ReceiveSpool, SegmentFile
    from barman_cloud.wal.receive_upload import Uploader

log = logs.get_logger(__name__)

STATUS_INTERVAL = 10.0
"""Seconds between messages to the server; its ``wal_sender_timeout`` is 60."""
SYNC_INTERVAL = 1.0
"""Seconds of WAL that aren't fsynced at most while we are behind the server."""
STOP_SECONDS = 10.0
"""How long a clean end waits for the store; what isn't stored then stays in the spool."""
SLOT_SECONDS = 70.0
"""How long the server may take a lost connection for alive: a little more than ``wal_sender_timeout``."""
_LONGEST_PAUSE = 30.0
_ALMOST_FULL = 0.8


@dataclass(frozen=True, slots=True)
class ReceiverOptions:
    """Sizes in bytes, times in seconds."""

    spool_max: int
    partial_interval: float
    """Time between copies of the segment in progress in the store; 0: only at the end."""
    accept_gap: bool = False
    """Go on behind WAL that the server no longer has."""


class Receiver:
    """Receives until :attr:`stop` is set. ``check_lease`` raises when another receiver has taken over."""

    def __init__(
        self,
        source: SourceOptions,
        store: ObjectStore,
        layout: Layout,
        spool: ReceiveSpool,
        uploader: Uploader,
        options: ReceiverOptions,
        *,
        require_cluster: Callable[[int], None],
        check_lease: Callable[[], None],
    ) -> None:
        self.stop = threading.Event()
        self._source_options = source
        self._store = store
        self._layout = layout
        self._spool = spool
        self._uploader = uploader
        self._options = options
        self._require_cluster = require_cluster
        self._check_lease = check_lease
        self._file: SegmentFile | None = None
        self._timeline = 0
        self._segment_size = 0
        self._written = self._flushed = 0
        """LSNs; 0 before the first segment is begun."""
        self._unsynced_since: float | None = None
        self._next_status = self._next_partial = 0.0
        self._copied = 0
        """How far the last copy of the segment in progress went."""
        self._full = False

    def run(self) -> None:
        """Receive until told to stop; any error is final, and all that was acknowledged is in the store or spool."""
        try:
            self._receive()
        finally:
            self._end()

    def _receive(self) -> None:
        pause = 0.0
        slot_since: float | None = None
        while not self.stop.wait(pause):
            self._look_for_failures()
            before = self._written
            try:
                with self._connected() as source:
                    slot_since = None
                    self._receive_from(source)
                return
            except SlotInUseError as error:
                slot_since = slot_since or time.monotonic()
                if time.monotonic() - slot_since > (SLOT_SECONDS if self._written else STATUS_INTERVAL / 2):
                    raise
                reason: OperationError = error
            except OperationError as error:
                if not self._written or not may_pass(error):
                    raise
                reason = error
            if self._written != before:
                pause = 0.0
            pause = min(max(1.0, pause * 2), _LONGEST_PAUSE)
            log.warning("%s; connecting again in %.0f s", reason, pause)

    @contextmanager
    def _connected(self) -> Iterator[Source]:
        source = Source(self._source_options)
        try:
            self._segment_size = source.lineage.segment_size
            if not self._written:
                self._require_cluster(source.system_identifier)
            yield source
        finally:
            source.close()

    def _receive_from(self, source: Source) -> None:
        self._fetch_history(source)
        slot = source.slot
        if self._written:
            if slot and slot.is_lost:
                raise self._lost_by_slot(source, self._written // self._segment_size)
            self._go_on(source)
            return
        restart = slot.restart_lsn // self._segment_size if slot and slot.restart_lsn is not None else None
        present = receive_plan.held(self._store, self._layout, source.lineage, self._spool.names(), restart)
        places = receive_plan.starts(present, restart, source.flush_lsn // self._segment_size)
        if slot and slot.is_lost:
            raise self._lost_by_slot(source, places[-1])
        self._begin_at_first_of(source, places, restart)

    def _begin_at_first_of(self, source: Source, places: list[int], restart: int | None) -> None:
        current = source.flush_lsn // self._segment_size
        for number in places:
            start = number * self._segment_size
            if start > source.flush_lsn:
                raise self._ahead(source, start)
            try:
                self._follow(source, source.lineage.timeline_of(number), start)
            except ServerRefusal as error:
                if error.sqlstate != REMOVED or self._written > start:
                    raise
                source.session.finish()
                if number != places[-1]:
                    log.warning("a gap in the archive stays: the server no longer has %s",
                                receive_plan.missing_range(source.lineage, number, number + 1))  # fmt: skip
                    continue
                behind = restart if restart is not None and restart > number else None
                if not self._options.accept_gap:
                    raise self._lost(source, number, behind, str(error)) from error
                behind = behind or current
                log.warning("the archive has a gap: %s; take a new base backup",
                            receive_plan.missing_range(source.lineage, number, behind))  # fmt: skip
                self._follow(source, source.lineage.timeline_of(behind), behind * self._segment_size)
            return

    def _go_on(self, source: Source) -> None:
        """Continue with the segment in progress, on another connection."""
        end = source.lineage.end_of(self._timeline)
        if not source.lineage.has(self._timeline) or (end is not None and end < self._flushed):
            raise ConflictError(
                f"diverged timeline: WAL of timeline {self._timeline} was received up to "
                f"{format_lsn(self._flushed)}, and the server "
                + ("never was on it" if end is None else f"left it at {format_lsn(end)}"),
                hint="receive from the server that has this WAL; what was received is kept",
            )
        start = self._written - self._written % self._segment_size
        if start > source.flush_lsn:
            raise self._ahead(source, start)
        try:
            self._follow(source, self._timeline, start)
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
        if (name := source.history) and not self._uploader.holds(self._spool.path(name)):
            self._spool.write(name, source.history_content)
            self._uploader.add(self._spool.path(name))

    def _follow(self, source: Source, timeline: int, start: int) -> None:
        """Receive from ``start``, the beginning of a segment, through all timelines that follow."""
        ended: NextTimeline | None = None
        while not self.stop.is_set():
            self._abandon_file()
            log.info("receiving timeline %d from %s", timeline, format_lsn(start))
            stream = source.stream(timeline, start)
            self._timeline = timeline
            self._written = self._flushed = start
            ended = stream.ended or self._pump(stream)
            if ended is None:
                return
            log.warning("the server left timeline %d at %s for timeline %d",
                        timeline, format_lsn(ended.begin), ended.timeline)  # fmt: skip
            self._keep_partial()
            timeline, start = ended.timeline, ended.begin - ended.begin % self._segment_size
            content = timeline_history(source.session, timeline)
            path = self._spool.path(history_name(timeline))
            self._spool.write(history_name(timeline), content)
            self._uploader.add(path)

    def _pump(self, stream: WalStream) -> NextTimeline | None:
        """Receive one timeline to its end, or until told to stop (None)."""
        server_end = 0
        self._next_partial = time.monotonic() + self._options.partial_interval
        while not self.stop.is_set():
            self._look_for_failures()
            self._report_in_time(stream)
            if not self._has_room():
                if self._sync_is_due():
                    self._sync(stream)
                self._uploader.wait(SYNC_INTERVAL, self._uploader.waiting - 1)
                continue
            message = stream.receive(0)
            if message is None and stream.ended is None:
                if self._unsynced_since is not None and (self._written >= server_end or self._sync_is_due()):
                    self._sync(stream)
                message = stream.receive(SYNC_INTERVAL)
            if stream.ended is not None:
                return stream.ended
            if isinstance(message, Wal):
                server_end = message.server_end
                self._take(message)
                if self._sync_is_due():
                    self._sync(stream)
            elif isinstance(message, Keepalive) and message.wants_reply:
                self._sync(stream)
            self._copy_partial_in_time()
        self._sync(stream)
        stream.stop()
        return None

    def _take(self, message: Wal) -> None:
        if message.start != self._written:
            raise IntegrityError(
                f"the server sent WAL from {format_lsn(message.start)} on, {format_lsn(self._written)} was to follow"
            )
        data = message.data
        size = self._segment_size
        while data:
            position = self._written % size
            if self._file is None:
                self._file = self._spool.segment(self._name_at(self._written), size)
                self._copied = 0
            piece = data[: size - position]
            self._file.write(piece, position)
            self._written += len(piece)
            self._unsynced_since = self._unsynced_since or time.monotonic()
            data = data[len(piece) :]
            if self._written % size == 0:
                self._finish_segment()

    def _finish_segment(self) -> None:
        assert self._file is not None
        self._file.finish()
        path = self._spool.path(self._file.name)
        self._file = None
        self._flushed = self._written
        self._unsynced_since = None
        self._next_status = 0.0
        self._uploader.add(path)

    def _sync_is_due(self) -> bool:
        return self._unsynced_since is not None and time.monotonic() - self._unsynced_since >= SYNC_INTERVAL

    def _sync(self, stream: WalStream) -> None:
        if self._file is not None and self._unsynced_since is not None:
            self._file.sync()
        self._unsynced_since = None
        self._flushed = self._written
        self._report(stream)

    def _report(self, stream: WalStream) -> None:
        stream.report(self._written, self._flushed)
        self._next_status = time.monotonic() + STATUS_INTERVAL

    def _report_in_time(self, stream: WalStream) -> None:
        if time.monotonic() >= self._next_status:
            self._report(stream)

    def _has_room(self) -> bool:
        used = (self._uploader.waiting + 1) * self._segment_size
        limit = max(self._options.spool_max, 2 * self._segment_size)
        full = used >= limit * _ALMOST_FULL
        if full and not self._full:
            log.warning("the spool is almost full: %d of %d MiB; at its end no more WAL is taken from the server",
                        used >> 20, limit >> 20)  # fmt: skip
        elif self._full and not full:
            log.warning("the spool has room again")
        self._full = full
        return used <= limit

    def _copy_partial_in_time(self) -> None:
        """Have the segment in progress stored as it is now, if it has grown and the last copy is through."""
        if not self._options.partial_interval or time.monotonic() < self._next_partial:
            return
        self._next_partial = time.monotonic() + self._options.partial_interval
        self._copy_partial()

    def _copy_partial(self) -> None:
        if (
            self._file is None
            or self._copied == self._written
            or self._uploader.holds(self._spool.copy_path(self._file.name))
        ):
            return
        self._uploader.add(self._spool.copy_partial(self._file.name))
        self._copied = self._written

    def _keep_partial(self) -> None:
        """Have the last segment of a timeline stored as far as it goes: there will be no more of it."""
        if self._file is not None:
            self._file.close()
            self._uploader.add(self._spool.path(f"{self._file.name}{PARTIAL}"))
            self._file = None
        self._flushed = self._written
        self._unsynced_since = None

    def _abandon_file(self) -> None:
        """Close the segment in progress; it is received again from its beginning."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._unsynced_since = None

    def _name_at(self, lsn: int) -> str:
        return name_of(self._timeline, lsn // self._segment_size, self._segment_size)

    def _look_for_failures(self) -> None:
        if self._uploader.failure is not None:
            raise self._uploader.failure
        self._check_lease()

    def _end(self) -> None:
        """Store what can be stored soon."""
        if self._file is not None:
            self._file.sync()
            self._copy_partial()
            self._file.close()
        if self._uploader.failure is None and not self._uploader.wait(STOP_SECONDS):
            log.warning("%d files stay in the spool; the next wal-receive stores them", self._uploader.waiting)
