"""The restore pipe of one archive: store → decompress → tar → files."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing

from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.compression import decompress_stream
from barman_cloud.archive.tar import Member, read_members
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.errors import IntegrityError, UnexpectedError
from barman_cloud.restore.extract import Extractor, FileRecorder
from barman_cloud.restore.pipeline import ahead, until_stopped
from barman_cloud.restore.tree import Outcome, Tree
from barman_cloud.store.base import ObjectStore

log = logging.getLogger(__name__)

LARGEST_RANGE = 8 << 20
"""Bytes of one ranged read. A worker needs memory of about ``LARGEST_RANGE * (ranges + 1)`` and ``AHEAD`` MiB."""

_SMALLEST_RANGE = 1 << 20
_ROUNDS = 4

AHEAD = 8
"""Decompressed buffers, of up to 1 MiB, that may wait for the writer."""


def read_archive(
    store: ObjectStore,
    archive: ArchiveObject,
    *,
    ranges: int,
    stop: threading.Event,
    expected: ArchiveRecord | None = None,
) -> Iterator[tuple[Member, Iterator[Buffer]]]:
    """Yield the members of an archive. Download, decompression and what the caller does overlap.

    ``ranges`` reads of the object are in flight at a time. Raises ``Stopped`` once ``stop`` is set, and
    ``IntegrityError``, at the end, if the stored bytes aren't those that ``expected`` tells of.
    """
    name = store.object_url(archive.key)
    # Small enough that all connections have something to do until near the end.
    range_size = min(max(archive.size // (ranges * _ROUNDS), _SMALLEST_RANGE), LARGEST_RANGE)
    stored: Iterable[Buffer] = store.read(archive.key, end=archive.size, concurrency=ranges, range_size=range_size)
    stored = until_stopped(stored, stop)
    if expected:
        stored = _checked(stored, expected, name)
    data = decompress_stream(stored, archive.compression, name)
    return read_members(ahead(data, AHEAD) if archive.compression else data, name)


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
    ranges: int,
    expected: ArchiveRecord | None,
    record: FileRecorder | None,
    stop: threading.Event,
) -> Outcome:
    """Extract one archive into ``tree`` and return what it leaves to be done. See :class:`Extractor` for ``order``."""
    began = time.monotonic()
    with closing(Extractor(tree, order, record)) as extractor:
        member = None
        try:
            for member, content in read_archive(store, archive, ranges=ranges, stop=stop, expected=expected):
                extractor.extract(member, content)
        except (OSError, OverflowError) as error:
            where = tree.root / member.name if member else tree.root
            raise UnexpectedError(
                f"{where}: {getattr(error, 'strerror', None) or error}",
                hint="once that is mended, the same command goes on from here",
            ) from error
    outcome = extractor.outcome
    seconds = max(time.monotonic() - began, 1e-3)
    log.info(
        "extracted %s: %d files, %.1f MiB in %.1f s (%.0f MiB/s)",
        os.path.basename(archive.key), outcome.files, outcome.size / 2**20, seconds, outcome.size / 2**20 / seconds,  # noqa: PTH119
    )  # fmt: skip
    return outcome
