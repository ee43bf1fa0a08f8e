"""Dealing the files of one stream out to several archives at a time.

A stream brings one file after another, and compression and upload of an archive are one thread each. So several
archives are open at the same time, each on a *lane*: a thread with a queue before it. The next files go to the lane
with the least queued bytes. Queues are short: when all are full, the stream waits, and so does the server behind it.
While a file comes that is larger than its queue, only its lane has work; zstd has several threads for that.

An archive is closed when it has the size that restores in parallel best (``pack.target_size``); its lane ends when the
store has all of it, and meanwhile another one may begin: there is one lane more than there are jobs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.tar import Member
from barman_cloud.backup.members import Content
from barman_cloud.backup.pack import member_size, part_size_for
from barman_cloud.backup.worker import SPARE_WORKERS, Cancelled, PartNumbers, StoredArchive, Uploads, upload_archive

QUEUED = 8 << 20
"""Bytes that may wait in front of one archive."""
_BATCH = 1 << 20
"""Bytes that are put in a queue at a time, and in one buffer where they are of one file."""
_SMALL_BATCH = 256 << 10
"""Bytes of small files that go to the same lane, one after another."""

_MAX_COMPRESSING = 4
"""Threads that zstd may use for one archive. Each needs about 3 MiB, and no server sends more than four pack."""

_Item: TypeAlias = Member | bytes


class Lanes:
    """Where the members of a stream go. Used by the one thread that reads the stream; :meth:`cancel` by any.

    ``limit`` is the size in bytes at which an archive is closed. ``fail`` gets the error of a lane, in its thread.
    """

    def __init__(
        self,
        uploads: Uploads,
        numbers: PartNumbers,
        cancelled: threading.Event,
        *,
        jobs: int,
        limit: int,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._uploads = uploads
        self._numbers = numbers
        self._cancelled = cancelled
        self._jobs = jobs
        self._limit = limit
        self._fail = fail
        self._changed = threading.Condition()
        self._open: list[_Lane] = []
        self._running: set[_Lane] = set()
        self._current: _Lane | None = None
        self._base = ""
        self._wanted = 1
        self.results: list[StoredArchive] = []
        """What is complete in the store; all of it once :meth:`finish` has returned."""

    def begin(self, base: str, size: int) -> None:
        """Go on with another base, of about ``size`` bytes; the archives of the one before are closed."""
        self._close_all()
        self._base = base
        self._wanted = max(1, min(self._jobs, -(-size // self._limit)))

    def deal(self, member: Member, content: Iterable[Buffer]) -> None:
        """Put a member into one of the archives of the current base, and its content, which is consumed."""
        lane = self._lane_for(member_size(member.size))
        lane.add(member)
        for block in _blocks(content):
            lane.add(block)
        if member.size >= _BATCH or lane.batched >= _SMALL_BATCH:
            self._release()

    def finish(self) -> None:
        """Close all archives and wait until they are stored; ``Cancelled`` if that will never be."""
        self._close_all()
        with self._changed:
            self._changed.wait_for(lambda: not self._running or self._cancelled.is_set())
        self._check()

    def cancel(self, timeout: float) -> bool:
        """Wake everything that waits, once ``cancelled`` is set, and wait for the lanes to end; False if one didn't."""
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._running, max(0.0, deadline - time.monotonic()))

    def _lane_for(self, size: int) -> _Lane:
        """Return the lane of the next member, which takes ``size`` bytes of an archive."""
        lane = self._current
        if lane is None or not lane.has_room_for(size, self._limit):
            self._release()
            lane = self._current = self._choose(size)
        lane.size += size
        return lane

    def _choose(self, size: int) -> _Lane:
        """Open another archive while there are fewer than wanted, otherwise take the one with the shortest queue."""
        able = [lane for lane in self._open if lane.has_room_for(size, self._limit)]
        for lane in [lane for lane in self._open if lane not in able and lane.size >= self._limit // 2]:
            self._close(lane)
        if not able and len(self._open) >= self._wanted:
            self._close(max(self._open, key=lambda lane: lane.size))
        while True:
            self._check()
            with self._changed:
                running = len(self._running)
                if running >= self._jobs + SPARE_WORKERS and not able:
                    self._changed.wait()
                    continue
            if running < self._jobs + SPARE_WORKERS and len(self._open) < self._wanted:
                return self._start(size)
            return min(able, key=lambda lane: lane.queued)

    def _start(self, size: int) -> _Lane:
        """Open another archive; ``size`` is that of its first member."""
        part_size = part_size_for(
            max(self._limit, size), self._uploads.store.capabilities, self._uploads.min_chunk_size
        )
        lane = _Lane(self._base, self._numbers.take(self._base), self._changed, self._cancelled)
        with self._changed:
            self._running.add(lane)
        self._open.append(lane)
        name = f"lane-{lane.base}-{lane.part}"
        threading.Thread(target=self._work, args=(lane, part_size), name=name, daemon=True).start()
        return lane

    def _release(self) -> None:
        """Let the next member go to another lane; what was held back for a larger batch goes on."""
        if self._current:
            self._current.flush()
            self._current = None

    def _work(self, lane: _Lane, part_size: int) -> None:
        try:
            archive = upload_archive(
                self._uploads,
                lane.base,
                lane.part,
                lane.members(),
                part_size,
                self._cancelled,
                threads=min(self._jobs, _MAX_COMPRESSING),
            )
            self.results.append(archive)
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            self._fail(error)
        finally:
            lane.abandon()
            with self._changed:
                self._running.discard(lane)
                self._changed.notify_all()

    def _close(self, lane: _Lane) -> None:
        self._open.remove(lane)
        lane.end()
        if self._current is lane:
            self._current = None

    def _close_all(self) -> None:
        for lane in list(self._open):
            self._close(lane)

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled


class _Lane:
    """The queue in front of one archive. ``size`` is what its members will take in the tar, in bytes."""

    def __init__(self, base: str, part: int, changed: threading.Condition, cancelled: threading.Event) -> None:
        self.base = base
        self.part = part
        self.size = 0
        self.queued = 0
        """Bytes that the archive's thread hasn't taken yet."""
        self.batched = 0
        """Bytes that were added and wait for more to be put in the queue with them."""
        self._batch: list[_Item] = []
        self._queue: deque[list[_Item] | None] = deque()
        self._changed = changed
        self._cancelled = cancelled
        self._abandoned = False

    def has_room_for(self, size: int, limit: int) -> bool:
        """Tell whether a member fits; one always does into an empty archive."""
        return self.size == 0 or self.size + size <= limit

    def add(self, item: _Item) -> None:
        """Add what comes next: a member, then its content. Waits, and raises, as :meth:`flush`."""
        self._batch.append(item)
        self.batched += _weight(item)
        if self.batched >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Put what was added in the queue; waits while it is full. ``Cancelled`` if nobody takes it any more."""
        if not self._batch:
            return
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self.queued == 0 or self.queued + self.batched <= QUEUED)
            if self._stopped:
                raise Cancelled
            self.queued += self.batched
            self._queue.append(self._batch)
            self._changed.notify_all()
        self._batch, self.batched = [], 0

    def end(self) -> None:
        """Close the archive behind what was added."""
        self.flush()
        with self._changed:
            self._queue.append(None)
            self._changed.notify_all()

    def abandon(self) -> None:
        """Take nothing more, whether it ended well or not."""
        with self._changed:
            self._abandoned = True
            self._queue.clear()
            self._changed.notify_all()

    def members(self) -> Iterator[tuple[Member, Content]]:
        """Yield what was added, for the thread that makes the archive; waits for it."""
        items = self._items()
        for item in items:
            assert isinstance(item, Member)
            yield item, self._content(items, item.size)

    @property
    def _stopped(self) -> bool:
        return self._abandoned or self._cancelled.is_set()

    def _items(self) -> Iterator[_Item]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopped)
                if self._stopped:
                    raise Cancelled
                batch = self._queue.popleft()
            if batch is None:
                return
            yield from batch
            with self._changed:
                self.queued -= sum(map(_weight, batch))
                self._changed.notify_all()

    @staticmethod
    def _content(items: Iterator[_Item], size: int) -> Content:
        while size > 0:
            piece = next(items)
            assert isinstance(piece, bytes)
            size -= len(piece)
            yield piece


def _blocks(content: Iterable[Buffer]) -> Iterator[bytes]:
    """Join the pieces of a file into blocks of about ``_BATCH`` bytes; nothing keeps the pieces alive."""
    pieces: list[Buffer] = []
    held = 0
    for piece in content:
        pieces.append(piece)
        held += len(piece)
        if held >= _BATCH:
            yield b"".join(pieces)
            pieces.clear()
            held = 0
    if pieces:
        yield b"".join(pieces)


def _weight(item: _Item) -> int:
    return len(item) if isinstance(item, bytes) else 512
