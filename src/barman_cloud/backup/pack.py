"""Cutting a cluster into archives, and archives into parts.

Archives are the unit of parallelism of a backup and of its restore, so there are several per worker once the cluster
is large, and none is so big that one worker is left alone with it at the end. The files of an archive are neighbours in
the walk. A file is never split: one that is larger than the limit gets an archive of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from barman_cloud.backup.scan import FileRun, ScannedBase
from barman_cloud.store.base import Capabilities

MIB = 1 << 20
GIB = 1 << 30

MEMBER_OVERHEAD = 1536
"""Bytes of a member besides its content: a tar header, and a pax header with its record for the time."""

ARCHIVES_PER_JOB = 8
"""Enough for the workers, also those of a restore, to end at about the same time."""
MIN_TARGET = 32 * MIB
MAX_TARGET = 4 * GIB
DEFAULT_PART_SIZE = 8 * MIB

# Sizes are planned before compression and before files grow; this much of an upload's capacity is kept in reserve.
_RESERVE = 0.8


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """One archive to make: directories and special files first, then runs of files. ``size`` is its tar's, in bytes."""

    base: str
    root: str
    part: int
    directories: Sequence[str] = ()
    specials: Sequence[str] = ()
    runs: Sequence[FileRun] = field(default_factory=list)
    size: int = 0

    @property
    def file_count(self) -> int:
        return sum(len(run.names) for run in self.runs)


def member_size(size: int) -> int:
    """Return what a file of ``size`` bytes takes in a tar archive."""
    return MEMBER_OVERHEAD + (size + 511) // 512 * 512


def target_size(total: int, jobs: int, max_archive_size: int) -> int:
    """Return how big archives should be for ``total`` bytes: several per job, within sane bounds, below the limit."""
    balanced = -(-total // (jobs * ARCHIVES_PER_JOB))
    return min(max(MIN_TARGET, min(balanced, MAX_TARGET)), max_archive_size)


def plan_archives(trees: Sequence[ScannedBase], *, jobs: int, max_archive_size: int) -> list[ArchivePlan]:
    """Cut all trees into archives; part 0 of each base holds its directories, so that a reader finds them first.

    No archive is above ``max_archive_size`` bytes (before compression) unless a single file is.
    """
    total = sum(tree.size + tree.file_count * MEMBER_OVERHEAD for tree in trees)
    limit = target_size(total, jobs, max_archive_size)
    return [plan for tree in trees for plan in _plan_tree(tree, limit)]


def in_order_of_work(plans: Iterable[ArchivePlan]) -> list[ArchivePlan]:
    """Return the plans, largest first, so that the workers finish at about the same time."""
    return sorted(plans, key=lambda plan: -plan.size)


def part_size_for(size: int, capabilities: Capabilities, min_chunk_size: int | None = None) -> int:
    """Return the part size in bytes for uploading an archive that is planned to have ``size`` bytes.

    It is as small as the number of parts allows, because memory grows with it; ``min_chunk_size`` is a lower bound.
    """
    needed = -(-int(size / _RESERVE) // capabilities.max_parts)
    part_size = max(DEFAULT_PART_SIZE, capabilities.min_part_size, min_chunk_size or 0, needed)
    return -(-part_size // MIB) * MIB if part_size > DEFAULT_PART_SIZE else part_size


def archive_capacity(part_size: int, capabilities: Capabilities, max_archive_size: int) -> int:
    """Return how big (in bytes, before compression) an archive may become while it is written."""
    return min(int(part_size * capabilities.max_parts * _RESERVE), capabilities.max_object_size, max_archive_size)


def _plan_tree(tree: ScannedBase, limit: int) -> Iterator[ArchivePlan]:
    entries = len(tree.directories) + len(tree.specials)
    size = entries * MEMBER_OVERHEAD
    runs: list[FileRun] = []
    part = 0

    def finish() -> ArchivePlan:
        first = part == 0
        return ArchivePlan(
            tree.base,
            tree.root,
            part,
            tree.directories if first else (),
            tree.specials if first else (),
            runs,
            size,
        )

    for run in tree.runs:
        start = 0
        for index, file_size in enumerate(run.sizes):
            member = member_size(file_size)
            if size + member > limit and (runs or index > start):
                if index > start:
                    runs.append(run[start:index])
                yield finish()
                start, runs, size, part = index, [], 0, part + 1
            size += member
        runs.append(run[start:])
    yield finish()
