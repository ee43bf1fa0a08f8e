"""The threads of a direct receiver: some store pieces, some complete segments, one merges and deletes pieces."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.layout import WalPiece
from barman_cloud.errors import BarmanCloudError, ConflictError, IntegrityError
from barman_cloud.report import progress as counters
from barman_cloud.wal.receive_segment import OpenSegment
from barman_cloud.wal.receive_spool import PARTIAL
from barman_cloud.wal.receive_upload import LONGEST_WAIT, MAY_PASS, REMINDER

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.catalog.wal_pieces import Stored
    from barman_cloud.store.base import Buffer, ObjectStore, Tags
    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.receive_memory import SegmentBytes

    Content = Buffer | SegmentBytes

log = logs.get_logger(__name__)

DELETION_DELAY = 60.0
"""Seconds that pieces stay after the full segment is stored: who has just found no segment looks for them next."""
FIRST_PAUSE = 1.0
"""Seconds after the first failure; then twice as long, up to ``LONGEST_WAIT``."""
TIDY_PAUSE = 30.0
"""Seconds after a failure of what can wait."""


class Merge(NamedTuple):
    """Pieces in a row, and the one that they become."""

    segment: OpenSegment
    piece: WalPiece
    run: list[Stored]


class Shared:
    """What the receiver's thread and the workers share, under :attr:`changed`."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        archiver: Archiver,
        epoch: int,
        tags: Tags | None,
        progress: Callable[[], None],
    ) -> None:
        """``progress`` is called, outside of the lock, whenever more is durable."""
        self.store = store
        self.layout = layout
        self.archiver = archiver
        self.epoch = epoch
        self.tags = tags
        self.progress = progress
        self.counters = counters.current()
        self.changed = threading.Condition()
        self.open: deque[OpenSegment] = deque()
        """Segments that aren't archived, ascending; only the receiver's thread adds and removes."""
        self.may_have_partial: set[str] = set()
        """Segments of which there may be a partial copy, to be deleted once the full one is there."""
        self.failure: BaseException | None = None
        self.problem: str | None = None
        """Why the store doesn't take WAL now, if it doesn't."""
        self.deletions: deque[tuple[float, list[str]]] = deque()
        """Keys, and when they may be deleted (monotonic)."""
        self.to_archive: deque[tuple[str, Content, OpenSegment | None]] = deque()
        self._archiving = 0
        self._warned = 0.0

    def queue(self, segment: OpenSegment) -> None:
        """Have a segment archived; with the lock held."""
        name = f"{segment.name}{PARTIAL}" if segment.ended else segment.name
        segment.in_flight += 1
        self.to_archive.append((name, segment.view, segment))

    def archive(self, name: str, content: Content) -> None:
        """Have a small file, or a copy, archived."""
        with self.changed:
            self.to_archive.append((name, content, None))
            self.changed.notify_all()

    def delete_later(self, keys: Iterable[str]) -> None:
        """Delete keys when nobody looks for them any more."""
        with self.changed:
            self.deletions.append((time.monotonic() + DELETION_DELAY, list(keys)))
            self.changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until all that was queued is archived, and tell whether that is so."""
        with self.changed:
            return self.changed.wait_for(
                lambda: self.failure is not None or not (self.to_archive or self._archiving), seconds
            ) and (self.failure is None)

    def take_archiving(self) -> tuple[str, Content, OpenSegment | None] | None:
        """Return what is to be archived next, waiting for it; None after a failure."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or self.to_archive)
            if self.failure is not None:
                return None
            self._archiving += 1
            return self.to_archive.popleft()

    def archived(self, segment: OpenSegment | None, *, given_up: bool = False) -> None:
        """Note the end of what :meth:`take_archiving` returned; ``given_up``: it will never be archived."""
        with self.changed:
            self._archiving -= 1
            if segment is not None:
                segment.in_flight -= 1
                segment.given_up = given_up
                segment.archived = not given_up
                self._let_go(segment)
            self.changed.notify_all()
        self.progress()

    def take_piece(self) -> tuple[OpenSegment, WalPiece] | None:
        """Return the next piece to be stored, waiting for it; None after a failure."""
        with self.changed:
            self.changed.wait_for(lambda: self.failure is not None or any(one.has_piece() for one in self.open))
            if self.failure is not None:
                return None
            segment = next(one for one in self.open if one.has_piece())
            begin, end = segment.next_piece() or (0, 0)
            segment.in_flight += 1
            return segment, self._piece(segment, begin, end)

    def piece_stored(self, segment: OpenSegment, piece: WalPiece) -> None:
        """Note that a piece is in the store, or isn't needed any more."""
        with self.changed:
            segment.in_flight -= 1
            segment.note_stored(piece)
            self._let_go(segment)
            self.changed.notify_all()
        self.progress()

    def _let_go(self, segment: OpenSegment) -> None:
        if segment.archived and not segment.in_flight:
            self.deletions.append((time.monotonic() + DELETION_DELAY, segment.pieces()))

    def _piece(self, segment: OpenSegment, begin: int, end: int) -> WalPiece:
        key = self.layout.piece(segment.name, begin, end, self.epoch)
        return WalPiece(key, segment.name, begin, end, self.epoch)

    def take_merge(self) -> Merge | list[str]:
        """Return pieces to merge and what they become, or keys to delete; waits for either."""
        with self.changed:
            while self.failure is None:
                for segment in self.open:
                    if run := segment.run_to_merge():
                        segment.in_flight += 1
                        merged = self._piece(segment, run[0].piece.begin, run[-1].piece.end)
                        return Merge(segment, merged, run)
                due = self.deletions[0][0] - time.monotonic() if self.deletions else None
                if due is not None and due <= 0:
                    return self.deletions.popleft()[1]
                self.changed.wait(due)
            return []

    def merged(self, merge: Merge, *, stored: bool) -> None:
        """Note the end of what :meth:`take_merge` returned."""
        segment, piece, run = merge
        with self.changed:
            segment.in_flight -= 1
            if stored:
                segment.note_merged(piece, run)
                self.deletions.appendleft((time.monotonic(), [one.piece.key for one in run]))
            else:
                segment.orphans.add(piece.key)
            self._let_go(segment)

    def note_failure(self, error: BarmanCloudError) -> None:
        """Say that the store is away, now and then."""
        with self.changed:
            now = time.monotonic()
            if self.problem is None or now - self._warned >= REMINDER:
                self._warned = now
                waiting = sum(one.known - one.durable.prefix for one in self.open if not one.archived)
                log.warning("WAL can't be stored, so it isn't acknowledged to the server (%d KiB are in memory): %s",
                            waiting >> 10, error)  # fmt: skip
            self.problem = str(error)

    def note_success(self) -> None:
        """Say that the store is back."""
        with self.changed:
            if self.problem is not None:
                log.warning("the store takes WAL again")
            self.problem = None

    def fail(self, error: BaseException) -> None:
        """End all work."""
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()
        self.progress()


def start_workers(shared: Shared, jobs: int, piece_jobs: int) -> None:
    """Start all threads; they end with the process."""
    works = [_archive] * jobs + [_store_pieces] * piece_jobs + [_tidy]
    for number, work in enumerate(works):
        threading.Thread(target=work, args=(shared,), name=f"direct-{number}", daemon=True).start()


def _until_stored(shared: Shared, action: Callable[[], None], *, needless: Callable[[], bool] = lambda: False) -> bool:
    """Try until the store takes it, or it is ``needless``; raises what time won't mend, False when all work ended."""
    pause = FIRST_PAUSE
    while shared.failure is None:
        if needless():
            return True
        try:
            action()
        except MAY_PASS as error:
            shared.note_failure(error)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_WAIT)
        else:
            shared.note_success()
            return True
    return False


def _store_pieces(shared: Shared) -> None:
    while (task := shared.take_piece()) is not None:
        segment, piece = task
        content = segment.view[piece.begin : piece.end]
        put = partial(shared.store.put, piece.key, content, tags=shared.tags)
        try:
            if not _until_stored(shared, put, needless=partial(getattr, segment, "archived")):
                return
        except BaseException as error:  # noqa: BLE001 - a panic of the store's client must not end a thread in silence
            shared.fail(error)
            return
        shared.piece_stored(segment, piece)


def _archive(shared: Shared) -> None:
    while (task := shared.take_archiving()) is not None:
        name, content, segment = task
        try:
            if not _until_stored(shared, partial(_archive_one, shared, name, content)):
                return
        except (ConflictError, IntegrityError) as error:
            if not name.endswith(PARTIAL):
                shared.fail(error)
                return
            log.warning("a partial segment isn't stored, its pieces stay: %s", error)
            shared.archived(segment, given_up=True)
            continue
        except BaseException as error:  # noqa: BLE001 - as above
            shared.fail(error)
            return
        shared.archived(segment)
        if name in shared.may_have_partial:
            _drop_partial(shared, name)


def _archive_one(shared: Shared, name: str, content: Buffer | SegmentBytes) -> None:
    stored = shared.archiver.archive_content(name, content)
    if stored is not None and not name.endswith(PARTIAL):
        shared.counters.add(data=len(content), stored=stored, items=1)


def _drop_partial(shared: Shared, segment: str) -> None:
    shared.may_have_partial.discard(segment)
    try:
        shared.archiver.drop_partial(segment)
    except ConflictError as error:
        shared.fail(error)
    except BarmanCloudError as error:
        log.info("the partial copy of %s stays beside the full one: %s", segment, error)


def _tidy(shared: Shared) -> None:
    """Merge and delete pieces. Nobody waits for it, so failures only mean that more objects lie about for a while."""
    while shared.failure is None:
        task = shared.take_merge()
        try:
            if isinstance(task, list):
                shared.store.delete(task)
                continue
            piece = task.piece
            try:
                shared.store.put(piece.key, task.segment.view[piece.begin : piece.end], tags=shared.tags)
            except BaseException:
                shared.merged(task, stored=False)
                raise
            shared.merged(task, stored=True)
        except BarmanCloudError as error:
            log.info("pieces of WAL aren't merged or deleted now: %s", error)
            time.sleep(TIDY_PAUSE)
        except BaseException as error:  # noqa: BLE001 - as above
            shared.fail(error)
            return
