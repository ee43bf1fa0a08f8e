"""Visibility maps that increments of some PostgreSQL releases didn't follow, and what makes them right again.

A visibility map has two bits for each page of a table: all of its rows are visible to everybody, and all are frozen.
Before 17.11 and 18.6 the WAL record of a change that clears them doesn't name the map's page, so that no WAL summary
tells of it, and an increment leaves the map as the parent has it: in what ``pg_combinebackup`` makes of such a chain,
index-only scans see deleted rows, and VACUUM never freezes rows that it should.

A bit that is missing only costs the next VACUUM some work. So of every page that changed since the backup that a map
comes from, both bits are cleared. (Format: PostgreSQL's ``src/backend/access/heap/visibilitymap.c``.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from barman_cloud.archive.buffers import Buffer
from barman_cloud.incremental.chains import ChainPlan
from barman_cloud.incremental.file_format import BLOCK, SEGMENT_BLOCKS
from barman_cloud.incremental.relations import VISIBILITY_MAP, parse
from barman_cloud.postgres.page_checksum import checksum

HEADER: Final = 24
"""Bytes before the bits of a map's page."""
BLOCKS_PER_PAGE: Final = (BLOCK - HEADER) * 4
"""Blocks of a table that one page of its map is about."""

_FIXED: Final = ((170000, 170011), (180000, 180006))
"""From a release on, before a release: both such as 170011 for 17.11."""
_CHECKSUM_OFFSET: Final = 8

Changes: TypeAlias = Callable[[str, int], Iterable[Sequence[int]] | None]
"""Which blocks of a file increments hold that are newer than a backup of the chain; None: it isn't known which."""


def misses_clearings(version: int | None) -> bool:
    """Tell whether a server of this version, such as 170010, may lack changes of maps in its WAL summaries."""
    return version is None or any(since <= version < fixed for since, fixed in _FIXED)


class StaleMaps:
    """The maps of a chain whose bits can't all be trusted. Paths are those of restored files, as in manifests."""

    def __init__(self, plan: ChainPlan, versions: Sequence[int | None]) -> None:
        """``versions`` are those of the servers that the backups are of, oldest first."""
        self._plan = plan
        # What an increment holds was written to WAL since its parent began, maybe by the parent's release.
        suspect = [
            number
            for number in range(1, len(versions))
            if misses_clearings(versions[number]) or misses_clearings(versions[number - 1])
        ]
        self._paths = frozenset(path for number in suspect for path in plan.overlaid[number] if is_map(path))

    def __contains__(self, path: object) -> bool:
        return path in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def cleared(self, path: str, content: Iterable[Buffer], changes: Changes) -> Iterator[Buffer]:
        """Yield the content of a map without the bits of blocks that changed since the backup that it comes from."""
        number = _segment(path) * SEGMENT_BLOCKS
        for page in _pages(content):
            if len(page) == BLOCK and any(page[HEADER:]):
                yield self._cleared_page(path, page, number, changes)
            else:
                yield page
            number += 1

    def _cleared_page(self, path: str, page: bytes, number: int, changes: Changes) -> bytes:
        new = bytearray(page)
        first = number * BLOCKS_PER_PAGE
        end = first + BLOCKS_PER_PAGE
        since = self._base(path)
        for segment in range(first // SEGMENT_BLOCKS, -(-end // SEGMENT_BLOCKS)):
            start = segment * SEGMENT_BLOCKS
            blocks = self._changed(_table_of(path, segment), since, changes)
            if blocks is None:
                low, high = max(start, first) - first, min(start + SEGMENT_BLOCKS, end) - first
                new[HEADER + low // 4 : HEADER + high // 4] = bytes(high // 4 - low // 4)
                continue
            for block in blocks:
                place = start + block - first
                if 0 <= place < BLOCKS_PER_PAGE:
                    new[HEADER + place // 4] &= ~(3 << place % 4 * 2) & 0xFF
        return _with_checksum(page, new, number)

    def _changed(self, table: str, since: int, changes: Changes) -> Iterable[int] | None:
        """Return the changed blocks of one file of a table; None: maybe all of them."""
        if self._base(table) > since:
            return None  # a later backup has it whole, or it isn't in the newest one
        found = changes(table, since)
        return None if found is None else (block for blocks in found for block in blocks)

    def _base(self, path: str) -> int:
        """Return the number of the backup that has a file whole; if none has, that of the newest."""
        return next(
            (number for number, paths in enumerate(self._plan.written) if path in paths), len(self._plan.written)
        )


def is_map(path: str) -> bool:
    """Tell whether ``path`` is that of a visibility map."""
    file = parse(path)
    return file is not None and file.fork.fork == VISIBILITY_MAP


def _segment(path: str) -> int:
    file = parse(path)
    assert file is not None
    return file.segment


def _table_of(path: str, segment: int) -> str:
    """Return the path of a file of the table that a map is of."""
    table = path.rpartition("_vm")[0]
    return f"{table}.{segment}" if segment else table


def _pages(content: Iterable[Buffer]) -> Iterator[bytes]:
    left = b""
    for data in content:
        left += bytes(data)
        whole = len(left) - len(left) % BLOCK
        for start in range(0, whole, BLOCK):
            yield left[start : start + BLOCK]
        left = left[whole:]
    if left:
        yield left


def _with_checksum(page: bytes, new: bytearray, number: int) -> bytes:
    """Return a changed page with its checksum, if it had a right one."""
    (found,) = struct.unpack_from("=H", page, _CHECKSUM_OFFSET)
    if found and found == checksum(page, number):
        struct.pack_into("=H", new, _CHECKSUM_OFFSET, checksum(new, number))
    return bytes(new)
