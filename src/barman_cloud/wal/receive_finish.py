"""Making complete segments of the spool durable, while the next one is being received."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barman_cloud.wal.receive_spool import SegmentFile

AHEAD = 2
"""Complete segments that aren't durable yet, at most: what is received ahead of the disk."""


class Finisher:
    """Finishes segments in their order, by a thread of its own, which ends with the process."""

    def __init__(self, done: Callable[[SegmentFile, int], None]) -> None:
        """``done`` is called by the thread with each segment that is durable under its name, and its end (an LSN)."""
        self._done = done
        self._waiting: deque[tuple[SegmentFile, int]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self.failure: BaseException | None = None
        """What the disk said; nothing is finished any more."""

    @property
    def waiting(self) -> int:
        """How many segments aren't durable yet."""
        with self._changed:
            return len(self._waiting)

    def add(self, file: SegmentFile, end: int) -> None:
        """Finish ``file``, which ends at the LSN ``end``; waits while :data:`AHEAD` wait. Raises what failed before."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="finish", daemon=True)
            self._thread.start()
        self._wait_for(AHEAD - 1)
        with self._changed:
            self._waiting.append((file, end))
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all are durable. Raises what failed."""
        self._wait_for(0)

    def _wait_for(self, most: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.failure is not None or len(self._waiting) <= most)
            if self.failure is not None:
                raise self.failure

    def _work(self) -> None:
        while self.failure is None:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                file, end = self._waiting[0]
            try:
                file.finish()
                self._done(file, end)
            except BaseException as error:  # noqa: BLE001 - an error must not end a thread in silence
                with self._changed:
                    self.failure = error
                    self._changed.notify_all()
                return
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()
