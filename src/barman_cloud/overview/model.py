"""What a report tells of one server, as values. Sizes in bytes, durations in seconds, money in US dollars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from barman_cloud.verify.findings import Finding, TimeRange


@dataclass(frozen=True, slots=True)
class BackupEntry:
    """One backup."""

    backup_id: str
    name: str | None
    type: str
    status: str
    parent: str | None
    began: datetime | None
    ended: datetime | None
    size: int | None
    """Of the cluster."""
    stored: int
    objects: int
    stored_at: datetime | None
    """When the newest of its objects was written."""
    kept: str | None
    verified: datetime | None
    verified_state: str | None
    problem: str | None
    """Why it can't be restored, as far as is known."""

    @property
    def duration(self) -> float | None:
        if self.began is None or self.ended is None:
            return None
        return (self.ended - self.began).total_seconds()

    @property
    def ratio(self) -> float | None:
        return self.size / self.stored if self.size and self.stored and self.type == "full" else None


@dataclass(frozen=True, slots=True)
class WalRun:
    """Segments of one timeline that follow each other."""

    timeline: int
    first: str
    last: str
    count: int
    began: datetime | None
    """When the first of them was stored."""
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class WalGap:
    """Segments that are missing between two runs of one timeline."""

    timeline: int
    first: str
    count: int
    after: datetime | None
    """When the last segment before it was stored, and the first one behind it."""
    before: datetime | None


@dataclass(frozen=True, slots=True)
class Growth:
    """What is in the store now, by the day on which it was written; cumulative."""

    day: date
    backups: int
    wal: int


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate for one month, at what is stored now and was written in the last 30 days."""

    provider: str
    storage_class: str
    storage: float
    requests: float
    write_requests: int
    restore: float
    """Once: reading the newest backup with its chain and WAL; without traffic that leaves the provider."""

    @property
    def total(self) -> float:
        return self.storage + self.requests


@dataclass(frozen=True, slots=True)
class DrillEntry:
    """What one drill has shown."""

    moment: datetime
    backup_id: str
    succeeded: bool
    seconds: float | None
    """From the begin of the restore until the server was open for writing."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it."""

    url: str
    server: str
    moment: datetime
    backups: tuple[BackupEntry, ...] = ()
    """Ids ascending."""
    runs: tuple[WalRun, ...] = ()
    gaps: tuple[WalGap, ...] = ()
    recoverable: tuple[TimeRange, ...] = ()
    growth: tuple[Growth, ...] = ()
    wal_files: int = 0
    wal_stored: int = 0
    segment_size: int = 16 << 20
    findings: tuple[Finding, ...] = ()
    """What is wrong."""
    drills: tuple[DrillEntry, ...] = ()
    """The newest first."""
    cost: Cost | None = None
    """None where nothing is paid for, or the prices aren't known."""
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def complete(self) -> tuple[BackupEntry, ...]:
        return tuple(entry for entry in self.backups if entry.status == "DONE")

    @property
    def backup_stored(self) -> int:
        return sum(entry.stored for entry in self.backups)

    @property
    def wal_ratio(self) -> float | None:
        """How much smaller WAL is in the store."""
        return self.wal_files * self.segment_size / self.wal_stored if self.wal_stored and self.wal_files else None
