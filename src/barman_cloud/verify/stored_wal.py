"""Is archived WAL what PostgreSQL wrote? Page headers, the CRC of every record, and the cluster that it is of.

Segments are read in stretches that follow each other, so that a record is checked that begins in one and ends in the
next. Stretches are read in parallel; what is in memory doesn't depend on the size of the archive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog.layout import WalObject
from barman_cloud.catalog.wal_range import number_of
from barman_cloud.errors import ConflictError, IntegrityError, NotFoundError
from barman_cloud.postgres.wal import check_size, parse_wal_name
from barman_cloud.postgres.wal_check import SegmentCheck, begin_check, refuse_damage
from barman_cloud.report import progress
from barman_cloud.store.base import ObjectStore
from barman_cloud.wal.stored import open_stored

log = logs.get_logger(__name__)

_STRETCH = 16
"""Segments that one worker reads one after another."""


@dataclass(frozen=True, slots=True)
class SegmentVerdict:
    """What was found out about one segment."""

    timeline: int
    number: int
    size: int
    """Bytes, decompressed; 0 if it is damaged."""
    problem: str | None
    """What is wrong with it."""


def verify_wal(
    store: ObjectStore,
    wals: Iterable[WalObject],
    *,
    segment_size: int,
    system_identifier: int | None,
    jobs: int,
    until: int | None = None,
) -> Iterator[SegmentVerdict]:
    """Read each segment of ``wals``, which ascend, and yield what was found, in order.

    ``until`` is an LSN up to which WAL is known to go on: without it, damage to the last records of a segment can look
    like the end of WAL.
    Errors of the store other than a missing object are raised.
    """
    progress.current().phase("reading WAL")
    reader = _Reader(store, segment_size, system_identifier, until)
    pending: deque[Future[list[SegmentVerdict]]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="verify-wal") as pool:
        try:
            for stretch in _stretches(wals, segment_size):
                pending.append(pool.submit(reader.read, stretch))
                if len(pending) > jobs:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class _Reader:
    def __init__(self, store: ObjectStore, segment_size: int, system_identifier: int | None, until: int | None) -> None:
        self._until = until
        self._store = store
        self._size = segment_size
        self._system = system_identifier
        self._progress = progress.current()

    def read(self, stretch: list[tuple[int, WalObject]]) -> list[SegmentVerdict]:
        """Read segments that follow each other."""
        found = []
        before: SegmentCheck | None = None
        for number, wal in stretch:
            size, problem = 0, None
            try:
                size, before = self._check(wal, before)
            except (IntegrityError, NotFoundError, ConflictError) as error:
                before, problem = None, f"{self._store.object_url(wal.key)}: {error}"
            found.append(SegmentVerdict(wal.timeline, number, size, problem))
            self._progress.add(data=size, items=1)
        log.debug("read the WAL from %s to %s", stretch[0][1].name, stretch[-1][1].name)
        return found

    def _check(self, wal: WalObject, before: SegmentCheck | None) -> tuple[int, SegmentCheck]:
        name = parse_wal_name(wal.name)
        assert name is not None  # the layout parsed it
        content = open_stored(self._store, wal.key, self._size).content
        check, pieces = begin_check(content, name, system_identifier=self._system, before=before)
        size, damage = 0, []
        for piece in pieces:
            size += len(piece)
            damage += check.feed(piece)
        damage += check.finish()
        begin = name.start_lsn(self._size)
        if self._until is not None and begin < self._until <= begin + self._size:
            damage += check.missing_before(self._until - begin)
        refuse_damage(name, damage)
        check_size(size, name, check.header)
        return size, check


def _stretches(wals: Iterable[WalObject], size: int) -> Iterator[list[tuple[int, WalObject]]]:
    stretch: list[tuple[int, WalObject]] = []
    for wal in wals:
        number = number_of(wal.segment or "", size) if wal.segment else None
        if number is None or wal.name.endswith(".backup"):
            continue
        follows = stretch and (stretch[-1][1].timeline, stretch[-1][0] + 1) == (wal.timeline, number)
        if stretch and (not follows or len(stretch) >= _STRETCH):
            yield stretch
            stretch = []
        stretch.append((number, wal))
    if stretch:
        yield stretch
