"""A receiver's WAL in the spool: acknowledged when it is fsynced there, stored behind that."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.wal.receive_sink import Sink
from barman_cloud.wal.receive_spool import PARTIAL

if TYPE_CHECKING:
    from barman_cloud.wal.receive_spool import ReceiveSpool, SegmentFile
    from barman_cloud.wal.receive_upload import Uploader

log = logs.get_logger(__name__)

SYNC_INTERVAL = 1.0
"""Seconds of WAL that aren't fsynced at most while we are behind the server."""
STOP_SECONDS = 10.0
"""How long a clean end waits for the store; what isn't stored then stays in the spool."""
_ALMOST_FULL = 0.8


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

    @property
    def flushed(self) -> int:
        return self._flushed

    @property
    def failure(self) -> BaseException | None:
        return self._uploader.failure

    @property
    def problem(self) -> str | None:
        return self._uploader.problem or ("the spool is almost full" if self._full else None)

    @property
    def waiting(self) -> int:
        current = 0 if self._copied == self.written else self.written % (self.segment_size or 1)
        return self._uploader.waiting * self.segment_size + current

    @property
    def limit(self) -> int:
        return max(self._options.spool_max, 2 * self.segment_size)

    def held(self) -> Iterable[str]:
        return self._spool.names()

    def store_history(self, name: str, content: bytes) -> None:
        path = self._spool.path(name)
        if not self._uploader.holds(path):
            self._spool.write(name, content)
            self._uploader.add(path)

    def begin(self, timeline: int, start: int, segment_size: int) -> None:
        if self._file is not None:
            self._file.close()  # it is received again from its beginning
            self._file = None
        self._unsynced_since = None
        self._flushed = start
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
        self._file.finish()
        path = self._spool.path(self._file.name)
        self._file = None
        self._flushed = self.written
        self._unsynced_since = None
        self._uploader.add(path)

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
        if self._file is not None and self._unsynced_since is not None:
            self._file.sync()
        self._unsynced_since = None
        self._flushed = self.written

    def has_room(self) -> bool:
        used = (self._uploader.waiting + 1) * self.segment_size
        limit = self.limit
        full = used >= limit * _ALMOST_FULL
        if full and not self._full:
            log.warning("the spool is almost full: %d of %d MiB; at its end no more WAL is taken from the server",
                        used >> 20, limit >> 20)  # fmt: skip
        elif self._full and not full:
            log.warning("the spool has room again")
        self._full = full
        return used <= limit

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
        if self._file is not None:
            self._file.close()
            self._uploader.add(self._spool.path(f"{self._file.name}{PARTIAL}"))
            self._file = None
        self._flushed = self.written
        self._unsynced_since = None

    def end(self) -> None:
        if self._file is not None:
            self._file.sync()
            self._copy_partial()
            self._file.close()
        if self._uploader.failure is None and not self._uploader.wait(STOP_SECONDS):
            log.warning("%d files stay in the spool; the next wal-receive stores them", self._uploader.waiting)
