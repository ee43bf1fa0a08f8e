"""What an incremental backup stores of each file: the file whole, or the blocks that changed.

The rules are those of PostgreSQL 17's ``GetFileBackupMethod``: whatever isn't the main or visibility-map fork of a
relation that the parent has too is stored whole, and so is a file of which nearly everything changed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from barman_cloud.incremental.file_format import BLOCK, PREFIX, SEGMENT_BLOCKS, Header
from barman_cloud.incremental.relations import FSM, INIT, RelationFork, parse

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
    """Join the rows of all WAL summaries since the parent began."""
    limits: dict[RelationFork, int] = {}
    blocks: dict[RelationFork, set[int]] = {}
    for row in rows:
        fork = RelationFork(row.reltablespace, row.reldatabase, row.relfilenode, row.relforknumber)
        if row.is_limit_block:
            limits[fork] = min(limits.get(fork, row.relblocknumber), row.relblocknumber)
        else:
            blocks.setdefault(fork, set()).add(row.relblocknumber)
    return {
        fork: ForkChanges(limits.get(fork), array("I", sorted(blocks.get(fork, ())))) for fork in {*limits, *blocks}
    }


def header_for(path: str, size: int, changes: ChangeMap, parent: Container[str]) -> Header | None:
    """Return what to store of the file at ``path`` with ``size`` bytes; None: the file whole.

    ``parent`` holds the paths of the parent's manifest. A file that didn't change has a header without blocks.
    """
    file = parse(path)
    if file is None or file.fork.fork in (FSM, INIT) or size == 0 or size % BLOCK:
        return None
    if path not in parent and _incremental_name(path) not in parent:
        return None
    length = size // BLOCK
    if length > SEGMENT_BLOCKS:
        return None
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
    return None if len(blocks) > length * _NEARLY_ALL else Header(blocks, length)


def _incremental_name(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{PREFIX}{name}"


def incremental_path(path: str) -> str:
    """Return the path of the incremental file that stands for a relation file."""
    return _incremental_name(path)


def restored_path(path: str) -> str | None:
    """Return the path of the relation file that an incremental file stands for; None if ``path`` isn't of one."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.removeprefix(PREFIX)}" if name.startswith(PREFIX) else None
