"""A receiver's WAL in the spool: acknowledged when it is fsynced there, stored behind that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.catalog.wal_range import name_of
from barman_cloud.wal.receive_finish import Finisher
from barman_cloud.wal.receive_plan import acknowledged_up_to
from barman_cloud.wal.receive_sink import Sink
from barman_cloud.wal.receive_spool import PARTIAL

if TYPE_CHECKING:
    from barman_cloud.wal.receive_plan import Lineage
    from barman_cloud.wal.receive_spool import ReceiveSpool, SegmentFile
    from barman_cloud.wal.receive_upload import Uploader

log = logs.get_logger(__name__)

SYNC_INTERVAL = 1.0
"""Seconds of WAL that aren't fsynced at most while we are behind the server."""
STOP_SECONDS = 10.0
"""How long a clean end waits for the store; what isn't stored then stays in the spool."""
_ALMOST_FULL = 0.8
_LARGEST_MESSAGE = 256 << 10
"""Bytes; the server sends no more than 128 KiB of WAL at a time."""


@dataclass(frozen=True, slots=True)
class SpoolOptions:
    """Sizes in bytes, times in seconds."""

    spool_max: int
    partial_interval: float
    """Time between copies of the segment in progress in the store; 0: only at the end."""


class SpoolSink(Sink):
    """Writes segments into a spool. OSError if the disk fails."""

    mode = "spool"

    def __init__(self, spool: ReceiveSpool, uploader: Uploader, options: SpoolOptions) -> None:
        super().__init__()
        self._spool = spool
        self._uploader = uploader
        self._options = options
        self._file: SegmentFile | None = None
        self._flushed = 0
        self._unsynced_since: float | None = None
        self._next_partial = 0.0
        self._copied = 0
        """How far the last copy of the segment in progress went."""
        self._full = False
        self._finisher = Finisher(self._note_finished)

    @property
    def flushed(self) -> int:
        return self._flushed

    @property
    def failure(self) -> BaseException | None:
        return self._finisher.failure or self._uploader.failure

    @property
    def problem(self) -> str | None:
        return self._uploader.problem or ("the spool is almost full" if self._full else None)

    @property
    def waiting(self) -> int:
        current = 0 if self._copied == self.written else self.written % (self.segment_size or 1)
        return self._segments * self.segment_size + current

    @property
    def _segments(self) -> int:
        """How many files there are beside the one in progress."""
        return self._uploader.waiting + self._finisher.waiting

    @property
    def limit(self) -> int:
        return max(self._options.spool_max, 2 * self.segment_size)

    def held(self) -> Iterable[str]:
        return self._spool.names()

    def acknowledged_up_to(self, lineage: Lineage) -> int:
        return acknowledged_up_to(self._spool.begun, lineage)

    def store_history(self, name: str, content: bytes) -> None:
        path = self._spool.path(name)
        if not self._uploader.holds(path):
            self._spool.write(name, content)
            self._uploader.add(path)

    def begin(self, timeline: int, start: int, segment_size: int) -> None:
        self._finisher.drain()
        if self._file is not None:
            self._file.close()  # it is received again from its beginning
            self._file = None
        self._unsynced_since = None
        self._flushed = start
        self._uploader.may_have_partial(name_of(timeline, start // segment_size, segment_size))
        self._next_partial = time.monotonic() + self._options.partial_interval
        super().begin(timeline, start, segment_size)

    def take(self, data: memoryview, server_end: int) -> None:
        size = self.segment_size
        while data:
            position = self.written % size
            if self._file is None:
                self._file = self._spool.segment(self.name_at(self.written), size)
                self._copied = 0
            piece = data[: size - position]
            self._file.write(piece, position)
            self.written += len(piece)
            self._unsynced_since = self._unsynced_since or time.monotonic()
            data = data[len(piece) :]
            if self.written % size == 0:
                self._finish_segment()

    def _finish_segment(self) -> None:
        assert self._file is not None
        self._finisher.add(self._file, self.written)
        self._file = None
        self._unsynced_since = None

    def _note_finished(self, file: SegmentFile, end: int) -> None:
        """Acknowledge a segment that is durable, its name included; called by the finisher's thread."""
        self._uploader.add(self._spool.path(file.name))
        self._flushed = end
        self.on_progress()

    def pause(self, *, caught_up: bool) -> None:
        if self._unsynced_since is not None and (caught_up or self._sync_is_due()):
            self.settle()

    def tend(self) -> None:
        if self._sync_is_due():
            self.settle()
        if self._options.partial_interval and time.monotonic() >= self._next_partial:
            self._next_partial = time.monotonic() + self._options.partial_interval
            self._copy_partial()

    def _sync_is_due(self) -> bool:
        return self._unsynced_since is not None and time.monotonic() - self._unsynced_since >= SYNC_INTERVAL

    def settle(self, seconds: float = 0.0) -> None:
        self._finisher.drain()
        if self._file is not None and self._unsynced_since is not None:
            self._file.sync()
        self._unsynced_since = None
        self._flushed = self.written

    def has_room(self) -> bool:
        used = (self._segments + 1) * self.segment_size
        limit = self.limit
        on_disk = self._disk_has_room()
        full = used >= limit * _ALMOST_FULL or not on_disk
        if full and not self._full:
            what = "the spool is almost full" if on_disk else "the spool's disk has no room for a segment"
            log.warning("%s: %d of %d MiB; at its end no more WAL is taken from the server",
                        what, used >> 20, limit >> 20)  # fmt: skip
        elif self._full and not full:
            log.warning("the spool has room again")
        self._full = full
        return used <= limit and on_disk

    def _disk_has_room(self) -> bool:
        """Tell whether the next segment can be made, if the next message may need it."""
        in_progress = self._file is not None and self.segment_size - self.written % self.segment_size > _LARGEST_MESSAGE
        return in_progress or self._spool.free_bytes() >= self.segment_size

    def wait_for_room(self, seconds: float) -> None:
        self._uploader.wait(seconds, self._uploader.waiting - 1)

    def _copy_partial(self) -> None:
        """Have the segment in progress stored as it is now, if it has grown and the last copy is through."""
        if (
            self._file is None
            or self._copied == self.written
            or self._uploader.holds(self._spool.copy_path(self._file.name))
        ):
            return
        self._uploader.add(self._spool.copy_partial(self._file.name))
        self._copied = self.written

    def end_timeline(self) -> None:
        self._finisher.drain()
        if self._file is not None:
            self._store_unfinished()
        self._flushed = self.written
        self._unsynced_since = None

    def _store_unfinished(self) -> None:
        """Have the segment in progress stored as it is: no more of it comes, or not to us."""
        assert self._file is not None
        self._file.close()
        self._uploader.add(self._spool.path(f"{self._file.name}{PARTIAL}"))
        self._copied = self.written  # from here on it waits as a file, if it waits
        self._file = None

    def end(self) -> None:
        if self._finisher.failure is None:
            self._finisher.drain()
            if self._file is not None:
                self._store_unfinished()
        if self._uploader.failure is None and not self._uploader.wait(STOP_SECONDS):
            log.warning("%d files stay in the spool; the next wal-receive stores them", self._uploader.waiting)
