"""What an incremental backup stores of each file: the file whole, or the blocks that changed.

The rules are those of PostgreSQL 17's ``GetFileBackupMethod``: whatever isn't the main fork of a relation that the
parent has too is stored whole, and so is a file of which nearly everything changed. Visibility maps are whole as well,
because the WAL summaries of some releases don't tell of all that changes in them (``visibility``); they are small.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from barman_cloud.incremental.file_format import BLOCK, PREFIX, SEGMENT_BLOCKS, Header
from barman_cloud.incremental.relations import MAIN, RelationFile, RelationFork, parse

_NEARLY_ALL: Final = 0.9
"""Share of changed blocks above which a file is stored whole."""


class ForkChanges(NamedTuple):
    """What happened to one fork since the parent began. Blocks count from the beginning of the relation."""

    limit: int | None
    """The shortest length in blocks that it had (0: it was created or emptied); None: it was never cut."""
    blocks: array[int]
    """Changed blocks, ascending."""


ChangeMap: TypeAlias = Mapping[RelationFork, ForkChanges]


class SummaryRow(NamedTuple):
    """One row of ``pg_wal_summary_contents`` (PostgreSQL docs, 9.28.13)."""

    relfilenode: int
    reltablespace: int
    reldatabase: int
    relforknumber: int
    relblocknumber: int
    is_limit_block: bool


def from_summaries(rows: Iterable[SummaryRow]) -> ChangeMap:
    """Join the rows of all WAL summaries since the parent began.

    While it works, memory is a bit for each block of the relations that changed; the result has 4 bytes for each
    changed block.
    """
    limits: dict[RelationFork, int] = {}
    bitmaps: dict[RelationFork, bytearray] = {}
    for row in rows:
        fork = RelationFork(row.reltablespace, row.reldatabase, row.relfilenode, row.relforknumber)
        block = row.relblocknumber
        if row.is_limit_block:
            limits[fork] = min(limits.get(fork, block), block)
            continue
        bitmap = bitmaps.setdefault(fork, bytearray())
        if block >> 3 >= len(bitmap):
            bitmap.extend(bytes((block >> 3) + 1 - len(bitmap)))
        bitmap[block >> 3] |= 1 << (block & 7)
    return {fork: ForkChanges(limits.get(fork), _numbers(bitmaps.pop(fork, b""))) for fork in {*limits, *bitmaps}}


def _numbers(bitmap: bytes | bytearray) -> array[int]:
    """Return the numbers of the bits that are set, ascending."""
    return array("I", (index * 8 + bit for index, byte in enumerate(bitmap) if byte for bit in _BITS[byte]))


_BITS: Final = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))


def candidate(path: str, size: int, parent: Container[str]) -> RelationFile | None:
    """Return which relation file ``path`` is, if changed blocks can stand for it; None if it must be stored whole.

    ``size`` in bytes; ``parent`` holds the paths of the parent's manifest.
    """
    file = parse(path)
    if file is None or file.fork.fork != MAIN or size == 0 or size % BLOCK or size > SEGMENT_BLOCKS * BLOCK:
        return None
    return file if path in parent or incremental_path(path) in parent else None


def header_of(blocks: array[int], length: int) -> Header | None:
    """Return the header of a file of ``length`` blocks of which these changed; None if nearly all of them did."""
    return None if len(blocks) > length * _NEARLY_ALL else Header(blocks, length)


def header_for(path: str, size: int, changes: ChangeMap, parent: Container[str]) -> Header | None:
    """Return what to store of the file at ``path`` with ``size`` bytes; None: the file whole.

    ``parent`` holds the paths of the parent's manifest. A file that didn't change has a header without blocks.
    """
    file = candidate(path, size, parent)
    if file is None:
        return None
    if file.fork._replace(relation=0, fork=MAIN) in changes:
        return None  # the database was created since the parent began, maybe in the place of another
    length = size // BLOCK
    change = changes.get(file.fork)
    if change is None:
        return Header(array("I"), length)
    first = file.segment * SEGMENT_BLOCKS
    if change.limit is not None and change.limit <= first:
        return None  # all that this file holds was written since the parent began
    kept = length if change.limit is None else min(change.limit - first, length)
    start, end = bisect_left(change.blocks, first), bisect_left(change.blocks, first + kept)
    blocks = array("I", (block - first for block in change.blocks[start:end]))
    # Behind a cut nothing of the parent counts, and pages that were added without WAL are in no summary.
    blocks.extend(range(kept, length))
    return header_of(blocks, length)


def incremental_path(path: str) -> str:
    """Return the path of the incremental file that stands for a relation file."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{PREFIX}{name}"


def restored_path(path: str) -> str | None:
    """Return the path of the relation file that an incremental file stands for; None if ``path`` isn't of one."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.removeprefix(PREFIX)}" if name.startswith(PREFIX) else None
