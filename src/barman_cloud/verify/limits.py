"""The limits that ``check`` judges by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from barman_cloud.catalog.retention import Policy


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too old, too small or too many; None: not judged."""

    max_backup_age: timedelta | None = None
    max_wal_age: timedelta | None = None
    max_verified_age: timedelta | None = None
    max_drill_age: timedelta | None = None
    min_backup_size: int | None = None
    """Bytes of the cluster, or of what is stored where the cluster's size isn't known."""
    minimum_redundancy: int = 0
    """Full backups that must be there."""
    running_too_long: timedelta = timedelta(days=1)
    """A STARTED backup that is older was abandoned."""
    retention: Policy | None = None
    """The policy that backups are deleted by, to compare with object locks."""
    max_ready: int = 100
    """Segments that wait for the archiver."""
    min_wal_time: timedelta | None = None
    """How long ``pg_wal`` has to last at the rate at which WAL is written."""
    wal_room: int | None = None
    """Bytes that ``pg_wal`` may take, where its file system can't be seen."""
