"""A receiver's WAL straight into the bucket: nothing on disk, and acknowledged once the bucket has it.

The segment in progress goes as numbered pieces, which gather whatever comes while others are on their way (a group
commit). A complete segment goes into ``wals/``, and its pieces are deleted then. A segment that the server completed
before we could receive it goes into ``wals/`` at once, without pieces. Large segments always go as pieces, and leave
memory with them (``receive_memory.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.wal_range import number_of
from barman_cloud.postgres.wal import LONG_HEADER_SIZE
from barman_cloud.wal import receive_memory
from barman_cloud.wal.receive_plan import acknowledged_up_to
from barman_cloud.wal.receive_resume import take_over
from barman_cloud.wal.receive_segment import LARGEST_PIECE, OpenSegment
from barman_cloud.wal.receive_sink import Sink
from barman_cloud.wal.receive_spool import PARTIAL
from barman_cloud.wal.receive_workers import Shared, start_workers

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.store.base import ObjectStore, Tags
    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.receive_plan import Lineage
    from barman_cloud.wal.unfinished import Unfinished

log = logs.get_logger(__name__)

STOP_SECONDS = 10.0
"""How long a clean end waits for complete segments; what isn't in ``wals/`` then is in pieces, or at the server."""
MEMORY = 256 << 20
"""Bytes of complete segments that are held at most, but for one."""
LARGE_MEMORY = 128 << 20
"""Bytes of large segments that are held at most."""


class DirectOptions(NamedTuple):
    """How pieces and segments are stored."""

    epoch: int
    """The fencing number of our lease."""
    jobs: int
    """Complete segments stored at a time."""
    piece_jobs: int
    """Pieces on their way at a time."""
    tags: Tags | None = None


class DirectSink(Sink):
    """Holds segments in memory until the bucket has them; the workers' threads store them."""

    mode = "direct"

    def __init__(self, store: ObjectStore, layout: Layout, archiver: Archiver, options: DirectOptions) -> None:
        super().__init__()
        self._store = store
        self._layout = layout
        self._archiver = archiver
        self._jobs = options.jobs
        self._shared = Shared(store, layout, archiver, options.epoch, options.tags, self._progress)
        self._unfinished: dict[str, Unfinished] = {}
        self._base = 0
        """The LSN before which all is durable, whatever is open."""
        start_workers(self._shared, options.jobs, options.piece_jobs)

    def _progress(self) -> None:
        self.on_progress()

    @property
    def flushed(self) -> int:
        with self._shared.changed:
            self._forget_done()
            durable = self._base
            for segment in self._shared.open:
                durable = segment.durable_end
                if not segment.is_durable:
                    break
            unverified = self._shared.open[-1].unverified if self._shared.open else 0
            return min(durable, self.written - unverified)

    def _forget_done(self) -> None:
        while self._shared.open and self._shared.open[0].is_done:
            first = self._shared.open.popleft()
            self._base = first.start + first.goal

    @property
    def received(self) -> int:
        """What we hold in memory outlives nothing: ``synchronous_commit = remote_write`` waits for the bucket too."""
        return self.flushed

    @property
    def failure(self) -> BaseException | None:
        return self._shared.failure

    @property
    def problem(self) -> str | None:
        return (
            f"WAL can't be stored, so it isn't acknowledged: {self._shared.problem}" if self._shared.problem else None
        )

    @property
    def waiting(self) -> int:
        with self._shared.changed:
            return sum(segment.known - segment.durable.prefix for segment in self._shared.open if not segment.archived)

    @property
    def limit(self) -> int:
        if self.segment_size > receive_memory.LARGE:
            return LARGE_MEMORY
        return (self._most + 1) * self.segment_size if self.segment_size else 0

    @property
    def _most(self) -> int:
        """How many complete segments are held at most."""
        return max(2, min(self._jobs + 2, MEMORY // self.segment_size))

    def prepare(self, lineage: Lineage) -> None:
        left = take_over(self._store, self._layout, lineage, self._archiver)
        self._unfinished = dict(left.unfinished)
        self._shared.may_have_partial.update(left.unfinished)
        self._shared.delete_later(left.obsolete)

    def begun(self, lineage: Lineage) -> Iterable[int]:
        numbers = {name: number_of(name, lineage.segment_size) for name in self._unfinished}
        return [found for name, found in numbers.items() if found is not None and lineage.name(found) == name]

    def acknowledged_up_to(self, lineage: Lineage) -> int:
        return acknowledged_up_to({name: found.end for name, found in self._unfinished.items()}, lineage)

    def store_history(self, name: str, content: bytes) -> None:
        self._shared.archive(name, content)

    def begin(self, timeline: int, start: int, segment_size: int) -> None:
        first = self.written == 0
        super().begin(timeline, start, segment_size)
        with self._shared.changed:
            if first:
                self._base = start
            for segment in self._shared.open:
                if segment.name == self.name_at(start) and not segment.archived:
                    segment.begin_again()
            if not self._shared.open:
                self._base = min(self._base, start)  # of a new timeline, the bytes before the switch come again
        if first:
            self._shared.may_have_partial.add(self.name_at(start))

    def take(self, data: memoryview, server_end: int) -> None:
        while data:
            segment = self._segment_in_progress()
            with self._shared.changed:
                taken = segment.take(data)
                self.written += taken
                data = data[taken:]
                self._go_on_with(segment, is_live=server_end < segment.start + segment.size)

    def _segment_in_progress(self) -> OpenSegment:
        name = self.name_at(self.written)
        with self._shared.changed:
            last = self._shared.open[-1] if self._shared.open else None
            if last and last.name == name and not last.archived:
                return last
            start = self.written - self.written % self.segment_size
            segment = OpenSegment(name, start, self.segment_size, self._store, self._unfinished.pop(name, None))
            self._shared.open.append(segment)
            return segment

    def _go_on_with(self, segment: OpenSegment, *, is_live: bool) -> None:
        """Have pieces made of a segment that the server hasn't completed yet, or the whole of one that is complete."""
        in_pieces = segment.sent > 0
        enough = segment.position - segment.sent >= LARGEST_PIECE
        if (segment.is_complete and in_pieces) or ((is_live or segment.is_large) and enough):
            segment.allow(segment.position)
        if segment.is_complete:
            self._shared.queue(segment)
        if segment.is_complete or segment.has_piece():
            self._shared.changed.notify_all()

    def pause(self, *, caught_up: bool) -> None:
        if caught_up:
            self.settle()

    def tend(self) -> None:
        """Nothing is due by the clock: what can be stored is on its way."""

    def settle(self, seconds: float = 0.0) -> None:
        with self._shared.changed:
            if self._shared.open and self._shared.open[-1].allow(self._shared.open[-1].position):
                self._shared.changed.notify_all()
        end = time.monotonic() + seconds
        while self.flushed < self.written and self.failure is None and (left := end - time.monotonic()) > 0:
            with self._shared.changed:
                self._shared.changed.wait(min(left, 0.1))

    def has_room(self) -> bool:
        with self._shared.changed:
            self._forget_done()  # what is archived counts while something before it isn't
            held = sum(segment.held for segment in self._shared.open if segment.is_large)
            return sum(segment.is_complete for segment in self._shared.open) < self._most and held < LARGE_MEMORY

    def wait_for_room(self, seconds: float) -> None:
        with self._shared.changed:
            self._shared.changed.wait(seconds)

    def end_timeline(self) -> None:
        with self._shared.changed:
            last = self._shared.open[-1] if self._shared.open else None
            if last is None or last.is_complete:
                return
            last.allow(last.position)
            last.ended = True
            self._shared.queue(last)
            self._shared.changed.notify_all()

    def end(self) -> None:
        """Store a partial copy of the segment in progress too, for readers that know nothing of pieces."""
        with self._shared.changed:
            last = self._shared.open[-1] if self._shared.open else None
        if self.failure is None and last and not last.is_complete and last.known >= LONG_HEADER_SIZE:
            self._shared.archive(f"{last.name}{PARTIAL}", last.view)
        if self.failure is None and not self._shared.wait(STOP_SECONDS):
            log.warning("not all that was received is in wals/ yet: the next wal-receive goes on with it")
