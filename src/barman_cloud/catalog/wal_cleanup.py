"""Which archived WAL goes when a backup goes. Pure: catalog in, plan out; the plan then answers for one key at a time.

The rule is Barman's: WAL older than the first that the next newer backup needs goes, unless an older backup stays. On
top of it stands a guard of ours: whatever rule and catalog say, no file goes that a backup which stays may still need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from barman_cloud.catalog.backup_info import ANNOUNCED, EMPTY, FAILED, BackupInfo
from barman_cloud.catalog.keep import STANDALONE, Keeps
from barman_cloud.postgres.wal import WalKind, parse_wal_name


@dataclass(frozen=True, slots=True)
class NoCleanup:
    """Nothing of the WAL archive goes, and why."""

    backup_id: str
    reason: str


class Share(Enum):
    """How much of one folder of the WAL archive goes."""

    NOTHING = "nothing"
    SOME_FILES = "each segment is looked at"
    ALL_SEGMENTS = "everything that has the name of a WAL file"
    EVERYTHING = "whatever its name"


@dataclass(frozen=True, slots=True)
class Needs:
    """The WAL that the backups which stay may need.

    ``floors`` are timeline and position (the last 16 digits of a segment's name) of a begin: needed is that position
    and all after it, on that timeline and all later ones. ``ranges`` are first and last segment of standalone backups.
    """

    floors: tuple[tuple[int, str], ...] = ()
    ranges: tuple[tuple[str, str], ...] = ()

    def includes(self, segment: str) -> bool:
        timeline, position = int(segment[:8], 16), segment[8:]
        return any(timeline >= floor_timeline and position >= floor for floor_timeline, floor in self.floors) or any(
            first <= segment <= last for first, last in self.ranges
        )


@dataclass(frozen=True, slots=True)
class WalCleanup:
    """What of the WAL archive goes after ``backup_id`` was deleted: segments before ``limit``, with exceptions."""

    backup_id: str
    limit: str
    limit_of: str
    protected_timelines: frozenset[int]
    needs: Needs
    by_folder: bool
    """Folders that go as a whole take everything below them along (Barman does so on S3)."""

    def takes(self, segment: str) -> bool:
        """Tell whether the files of ``segment`` (24 upper-case digits) go. History files never do."""
        return (
            segment < self.limit
            and int(segment[:8], 16) not in self.protected_timelines
            and not self.needs.includes(segment)
        )

    def share_of(self, folder: str) -> Share:
        """Tell how much of a folder goes; ``folder`` is its bare name of 16 digits, upper case."""
        first, last = f"{folder}00000000", f"{folder}FFFFFFFF"
        timeline = int(folder[:8], 16)
        if first >= self.limit or timeline in self.protected_timelines:
            return Share.NOTHING
        needed = self.needs.includes(last) or any(low <= last and first <= high for low, high in self.needs.ranges)
        if last >= self.limit or needed:
            return Share.SOME_FILES
        return Share.EVERYTHING if self.by_folder and folder[:8] == self.limit[:8] else Share.ALL_SEGMENTS

    def describe(self) -> str:
        """Return one line for the log."""
        text = f"WAL before {self.limit}, where {self.limit_of} begins, is no longer needed"
        if self.protected_timelines:
            text += f"; timelines that stay: {', '.join(map(str, sorted(self.protected_timelines)))}"
        if self.needs.ranges:
            text += f"; ranges that stay: {', '.join(f'{first} to {last}' for first, last in self.needs.ranges)}"
        return text


def plan_wal_cleanup(
    backups: Mapping[str, BackupInfo], keeps: Keeps, deleted: str, *, by_policy: bool, by_folder: bool
) -> WalCleanup | NoCleanup:
    """Plan the cleanup after the backup ``deleted``, which is still in ``backups``, was deleted.

    ``by_policy`` tells a retention policy from a deletion by id: only the former looks past standalone backups.
    """
    complete = [info for _, info in sorted(backups.items()) if info.is_complete or info.backup_id == deleted]
    place = next(index for index, info in enumerate(complete) if info.backup_id == deleted)
    for older in reversed(complete[:place]):
        if not by_policy or keeps.get(older.backup_id) != STANDALONE:
            return NoCleanup(deleted, f"backup {older.backup_id} is older and may need any WAL since")
    until = complete[place + 1] if place + 1 < len(complete) else complete[place]
    limit = _segment(until.begin_wal)
    if limit is None:
        return NoCleanup(deleted, f"backup {until.backup_id} doesn't say where its WAL begins")
    remaining = {backup_id: info for backup_id, info in backups.items() if backup_id != deleted}
    needs = _needs_of(remaining, keeps)
    if isinstance(needs, str):
        return NoCleanup(deleted, f"backup {needs} stays and doesn't say where its WAL begins")
    timelines = {info.timeline for info in backups.values() if info.timeline is not None}
    protected = frozenset(timelines - {int(limit[:8], 16)})
    return WalCleanup(deleted, limit, f"backup {until.backup_id}", protected, needs, by_folder)


def plan_orphaned_wal(backups: Mapping[str, BackupInfo], keeps: Keeps) -> WalCleanup | NoCleanup:
    """Plan the removal of WAL that none of ``backups`` needs, such as what a deletion could not delete.

    What comes before the first complete backup that isn't kept as standalone goes, with the exceptions of a deletion.
    """
    complete = [info for _, info in sorted(backups.items()) if info.is_complete]
    oldest = next((info for info in complete if keeps.get(info.backup_id) != STANDALONE), None)
    if oldest is None:
        return NoCleanup("", "there is no complete backup that recovery could begin with")
    limit = _segment(oldest.begin_wal)
    if limit is None:
        return NoCleanup("", f"backup {oldest.backup_id} doesn't say where its WAL begins")
    needs = _needs_of(backups, keeps)
    if isinstance(needs, str):
        return NoCleanup("", f"backup {needs} doesn't say where its WAL begins")
    timelines = {info.timeline for info in backups.values() if info.timeline is not None}
    protected = frozenset(timelines - {int(limit[:8], 16)})
    return WalCleanup(oldest.backup_id, limit, f"backup {oldest.backup_id}", protected, needs, by_folder=False)


def _needs_of(remaining: Mapping[str, BackupInfo], keeps: Keeps) -> Needs | str:
    """Return the needs of the backups that stay, or the id of one whose need isn't known."""
    floors, ranges = set(), set()
    for backup_id, info in sorted(remaining.items()):
        if info.status in (FAILED, EMPTY) and info.deletion != ANNOUNCED:
            continue
        begin, end = _segment(info.begin_wal), _segment(info.end_wal)
        if begin is None:
            return backup_id
        if keeps.get(backup_id) == STANDALONE and end is not None:
            ranges.add((begin, end))
        else:
            floors.add((int(begin[:8], 16), begin[8:]))
    return Needs(tuple(sorted(floors)), tuple(sorted(ranges)))


def _segment(text: str | None) -> str | None:
    name = parse_wal_name(text) if text else None
    return name.segment_name if name and name.kind is WalKind.SEGMENT else None
