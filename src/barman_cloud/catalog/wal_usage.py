"""The WAL archive by name and size, from one listing: what a backup needs of it, and what has followed since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.store.base import ObjectStore


@dataclass(frozen=True, slots=True)
class StoredWal:
    """One object of the archive; ``size`` in stored bytes."""

    wal: WalObject
    size: int
    stored: datetime | None

    @property
    def name(self) -> str:
        return self.wal.name

    @property
    def key(self) -> str:
        return self.wal.key


@dataclass(frozen=True, slots=True)
class WalUsage:
    """The whole archive, ascending by name."""

    files: tuple[StoredWal, ...]

    @property
    def segments(self) -> list[StoredWal]:
        """Complete segments."""
        return [file for file in self.files if file.wal.is_full_segment]

    def needed_by(self, info: BackupInfo) -> list[StoredWal]:
        """Return the segments from a backup's begin to its end; none if it doesn't tell."""
        begin, end = info.begin_wal, info.end_wal
        if begin is None or end is None:
            return []
        return [file for file in self.segments if begin <= file.name <= end]

    def since(self, info: BackupInfo, following: BackupInfo | None) -> list[StoredWal]:
        """Return the segments behind a backup's end, up to the end of the one that follows it."""
        if info.end_wal is None:
            return []
        last = following.end_wal if following else None
        return [file for file in self.segments if file.name > info.end_wal and (last is None or file.name <= last)]


def read(store: ObjectStore, layout: Layout) -> WalUsage:
    """List the archive."""
    found = [
        StoredWal(wal, item.size, item.last_modified)
        for item in store.list(layout.wals_dir)
        if (wal := layout.parse_wal_key(item.key))
    ]
    return WalUsage(tuple(sorted(found, key=lambda file: file.name)))


def following(backups: Mapping[str, BackupInfo], backup_id: str) -> BackupInfo | None:
    """Return the complete backup after this one, None if it is the newest."""
    return next((info for other, info in sorted(backups.items()) if other > backup_id and info.is_complete), None)


def preceding(backups: Mapping[str, BackupInfo], backup_id: str) -> BackupInfo | None:
    """Return the complete backup before this one, None if it is the oldest."""
    earlier = [info for other, info in sorted(backups.items()) if other < backup_id and info.is_complete]
    return earlier[-1] if earlier else None


def total(files: Iterable[StoredWal]) -> int:
    """Return the stored bytes of these."""
    return sum(file.size for file in files)
