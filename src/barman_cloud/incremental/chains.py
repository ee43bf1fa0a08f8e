"""Which backup of a chain each file, and each changed block, comes from. Pure: manifests in, plan out.

A chain is a full backup and the increments on top of it, oldest first. A file of the newest backup is either stored
whole there, or as the blocks that changed; then what they lie on is in the backup before, which has it whole or as
changed blocks again. So each file has one *base*, the newest backup that has it whole, and the increments after that
one. Whatever else older backups hold is never written: files that are gone, and those that a later backup has whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.changes import incremental_path, restored_path


class Action(Enum):
    """What a restore does with a file of one backup of the chain."""

    WRITE = "write"
    """It is the base: write it whole."""
    OVERLAY = "overlay"
    """Write its blocks over what is there."""
    SKIP = "skip"
    """A later backup doesn't have the file any more, or has it whole."""


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """What to do with the files of each backup, oldest first.

    Memory grows with the number of files of the newest backup, about 200 bytes each for every backup that has a part.
    """

    written: Sequence[frozenset[str]]
    """For each backup the paths (of restored files) that it is the base of."""
    overlaid: Sequence[frozenset[str]]
    """For each backup the paths (of restored files) whose changed blocks it holds."""

    def action(self, backup: int, member: str) -> Action:
        """Return what to do with a file of the backup at this place of the chain; ``member`` is its path there."""
        path = restored_path(member)
        if path is None:
            return Action.WRITE if member in self.written[backup] else Action.SKIP
        return Action.OVERLAY if path in self.overlaid[backup] else Action.SKIP


def plan_chain(manifests: Sequence[Iterable[str]], names: Sequence[str]) -> ChainPlan:
    """Plan the restore of the newest backup of a chain.

    ``manifests`` holds the paths of each backup's manifest, oldest first; ``names`` what to call these backups in
    errors. Raises ``IntegrityError`` if a file's changed blocks lie on nothing.
    """
    count = len(manifests)
    written: list[frozenset[str]] = [frozenset()] * count
    overlaid: list[frozenset[str]] = [frozenset()] * count
    pending: set[str] | None = None  # paths that earlier backups must give; None: the newest is still to be read
    for number in range(count - 1, -1, -1):
        whole: set[str] = set()
        parts: set[str] = set()
        for member in manifests[number]:
            path = restored_path(member)
            if pending is None or (path or member) in pending:
                (parts if path else whole).add(path or member)
        if both := whole & parts:
            raise IntegrityError(f"backup {names[number]} holds {min(both)} both whole and as changed blocks")
        if pending is not None and (lost := pending - whole - parts):
            path = min(lost)
            raise IntegrityError(
                f"backup {names[number]} has no {path}, on which {incremental_path(path)} of {names[number + 1]} lies",
                hint="the chain is broken; restore another backup",
            )
        written[number], overlaid[number] = frozenset(whole), frozenset(parts)
        pending = parts
    if pending:
        path = min(pending)
        raise IntegrityError(
            f"backup {names[0]} is the first of its chain and holds {incremental_path(path)}, which lies on nothing",
            hint="the chain is broken; restore another backup",
        )
    return ChainPlan(written, overlaid)
