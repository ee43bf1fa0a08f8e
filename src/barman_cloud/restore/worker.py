"""The restore pipe of one archive: store → decompress → tar → files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.compression import decompress_stream
from barman_cloud.archive.tar import Member, read_members
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.errors import IntegrityError, UnexpectedError
from barman_cloud.report.progress import Item
from barman_cloud.restore.extract import Extractor, FileRecorder
from barman_cloud.restore.layer import LayerOfArchive
from barman_cloud.restore.pipeline import ahead, until_stopped
from barman_cloud.restore.tree import Outcome, Tree
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LARGEST_RANGE = 8 << 20
_SMALLEST_RANGE = 1 << 20
_ROUNDS = 4
_RANGES_IN_FLIGHT = 8
_LEAST_RANGES = 4
_BYTES_IN_FLIGHT = 96 << 20

_AHEAD = 8
"""Buffers of about 1 MiB, decompressed, that may wait for the writer."""


@dataclass(frozen=True, slots=True)
class Window:
    """How one archive is read ahead: so many ranges in flight, of so many bytes together."""

    ranges: int
    size: int

    @classmethod
    def of_each(cls, workers: int) -> Window:
        """Share connections and memory among ``workers``: 96 MiB at most are in flight for all of them together."""
        ranges = max(_LEAST_RANGES, _RANGES_IN_FLIGHT // workers)
        return cls(ranges, min(ranges * _LARGEST_RANGE, _BYTES_IN_FLIGHT // workers))

    def range_size(self, size: int) -> int:
        """Return the bytes of each range of an archive of ``size`` bytes.

        It is small enough for all connections to have something to do until near the end.
        """
        return min(
            max(size // (self.ranges * _ROUNDS), _SMALLEST_RANGE), max(self.size // self.ranges, _SMALLEST_RANGE)
        )


def read_archive(
    store: ObjectStore,
    archive: ArchiveObject,
    *,
    window: Window,
    stop: threading.Event,
    expected: ArchiveRecord | None = None,
    item: Item | None = None,
) -> Iterator[tuple[Member, Iterator[Buffer]]]:
    """Yield the members of an archive. Download, decompression and what the caller does overlap.

    Raises ``Stopped`` once ``stop`` is set, and ``IntegrityError``, at the end, if the stored bytes aren't those that
    ``expected`` tells of. ``item`` counts what is read and what comes of it.
    """
    name = store.object_url(archive.key)
    stored: Iterable[Buffer] = store.read(
        archive.key, end=archive.size, concurrency=window.ranges, range_size=window.range_size(archive.size)
    )
    stored = until_stopped(stored, stop)
    if expected:
        stored = _checked(stored, expected, name)
    if item:
        stored = item.counting_stored(stored)
    data = decompress_stream(stored, archive.compression, name)
    if item:
        data = item.counting_data(data)
    return read_members(ahead(data, _AHEAD), name)


def _checked(stored: Iterable[Buffer], expected: ArchiveRecord, name: str) -> Iterator[Buffer]:
    tally = Tally(stored)
    yield from tally
    if (tally.size, tally.crc32c) != (expected.size, expected.checksum):
        raise IntegrityError(
            f"{name} is not what was stored: {tally.size} bytes with checksum {tally.crc32c:08x} instead of "
            f"{expected.size} with {expected.checksum:08x}",
            hint="this backup is damaged; restore another one",
        )


def extract_archive(
    store: ObjectStore,
    archive: ArchiveObject,
    tree: Tree,
    order: int,
    *,
    window: Window,
    expected: ArchiveRecord | None,
    record: FileRecorder | None,
    keep: Callable[[str], bool] | None = None,
    layer: LayerOfArchive | None = None,
    stop: threading.Event,
    item: Item | None = None,
) -> Outcome:
    """Extract one archive into ``tree`` and return what it leaves to be done. See :class:`Extractor` for ``order``."""
    began = time.monotonic()
    with closing(Extractor(tree, order, record, keep, layer)) as extractor:
        member = None
        try:
            for member, content in read_archive(store, archive, window=window, stop=stop, expected=expected, item=item):
                extractor.extract(member, content)
        except (OSError, OverflowError) as error:
            where = tree.root / member.name if member else tree.root
            raise UnexpectedError(
                f"{where}: {getattr(error, 'strerror', None) or error}",
                hint="once that is fixed, the same command goes on from here",
            ) from error
    outcome = extractor.outcome
    seconds = max(time.monotonic() - began, 1e-3)
    log.info(
        "extracted %s: %d files, %.1f MiB in %.1f s (%.0f MiB/s)",
        os.path.basename(archive.key),  # noqa: PTH119
        outcome.files,
        outcome.size / 2**20,
        seconds,
        outcome.size / 2**20 / seconds,
    )
    return outcome
