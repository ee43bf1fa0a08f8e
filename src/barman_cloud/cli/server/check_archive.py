"""Lines of ``check`` about the bucket, the backups in it and this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.catalog import wal_usage
from barman_cloud.catalog.backup_info import FAILED, BackupInfo
from barman_cloud.cli.server.check_line import Line
from barman_cloud.config.words import two_places
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.text import size
from barman_cloud.verify.check import duration

if TYPE_CHECKING:
    from barman_cloud.cli.server.session import OneServer

_CONTINUITY = ("wal-gap", "backup-wal", "timelines", "one-cluster")
"""Subjects of the findings that tell whether WAL is whole."""
_METHODS = ("postgres", "local-to-cloud", "snapshot")


@dataclass(frozen=True, slots=True)
class Archive:
    """What the bucket holds, as far as it could be read; ``problem`` says why it couldn't."""

    backups: tuple[BackupInfo, ...] = ()
    usage: wal_usage.WalUsage = field(default_factory=lambda: wal_usage.WalUsage(()))
    problem: str | None = None
    size: int = 0
    """Bytes of the newest complete backup, its WAL not counted."""

    @classmethod
    def look(cls, server: OneServer) -> Archive:
        from barman_cloud.cli.server.backups import data_sizes

        try:
            for repository in dict.fromkeys((server.base, server.wals)):
                repository.store.check()
            usage = wal_usage.read(server.wals.store, server.wals.layout)
            backups = tuple(server.view.backups.values())
            newest = next((info for info in reversed(backups) if info.is_complete), None)
            return cls(backups, usage, None, data_sizes(server)[newest.backup_id] if newest else 0)
        except BarmanCloudError as error:
            return cls(problem=str(error))

    @property
    def done(self) -> list[BackupInfo]:
        return [info for info in self.backups if info.is_complete]

    @property
    def wal_size(self) -> int:
        """Bytes of WAL behind the newest backup."""
        return wal_usage.total(self.usage.since(self.done[-1], None)) if self.done else 0


def first_lines(server: OneServer, archive: Archive) -> Iterator[Line]:
    """Yield the line about an archive without WAL, which Barman has first."""
    if archive.problem is None and not archive.usage.files:
        yield Line("WAL archive", False, "please make sure WAL shipping is setup")


def directories(server: OneServer) -> Line:
    """Return whether the directories of this machine can be used; those of caches and spools are made."""
    wanted = {"barman_lock_directory"}
    if server["streaming_archiver"]:
        wanted.add("streaming_wals_directory")
    for key in sorted(wanted):
        path = Path(server[key])
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return Line("directories", False, f"{key} {path}: {error.strerror}")
        if not os.access(path, os.W_OK | os.X_OK):
            return Line("directories", False, f"{key} {path}: this user can't write to it")
    return Line("directories", True)


def lines(server: OneServer, archive: Archive) -> Iterator[Line]:
    """Yield what follows the lines about PostgreSQL."""
    now = datetime.now(UTC)
    yield Line("retention policy settings", True)
    yield _backup_age(server, archive, now)
    yield _backup_size(server, archive)
    if server.in_cloud or archive.problem:
        yield _storage(server, archive)
    yield _wal_age(server, archive, now)
    yield Line("wal size", True, size(archive.wal_size))
    yield Line("compression settings", True)
    failed = sum(info.status == FAILED for info in archive.backups)
    yield Line("failed backups", not failed, f"there are {failed} failed backups")
    full = sum(info.parent_backup_id is None for info in archive.done)
    least = server["minimum_redundancy"]
    yield Line(
        "minimum redundancy requirements",
        full >= least,
        f"have {full} non-incremental backups, expected at least {least}",
    )


def _storage(server: OneServer, archive: Archive) -> Line:
    method = server["backup_method"]
    if method not in _METHODS:
        return Line(
            "cloud storage configuration",
            False,
            f"backup_method {method} copies by rsync; use {', '.join(_METHODS)}",
        )
    if problem := two_places(server.config):
        return Line("cloud storage configuration", False, f"{problem}: set both keys to one URL")
    return Line("cloud storage configuration", archive.problem is None, archive.problem or "")


def _backup_age(server: OneServer, archive: Archive, now: datetime) -> Line:
    limit: timedelta | None = server["last_backup_maximum_age"]
    if limit is None:
        return Line("backup maximum age", True, "no last_backup_maximum_age provided")
    ends = [info.end_time for info in archive.done if info.end_time]
    words = f"interval provided: {_interval(limit)}, latest backup age: "
    if not ends:
        return Line("backup maximum age", False, f"{words}No available backups")
    age = now - max(ends)
    return Line("backup maximum age", age <= limit, words + duration(age))


def _backup_size(server: OneServer, archive: Archive) -> Line:
    least = server["last_backup_minimum_size"]
    shown = size(archive.size)
    if least is None:
        return Line("backup minimum size", True, shown)
    return Line(
        "backup minimum size", archive.size >= least, f"{shown} {'>' if archive.size >= least else '<'} {size(least)}"
    )


def _wal_age(server: OneServer, archive: Archive, now: datetime) -> Line:
    limit: timedelta | None = server["last_wal_maximum_age"]
    if limit is None:
        return Line("wal maximum age", True, "no last_wal_maximum_age provided")
    words = f"interval provided: {_interval(limit)}, latest wal age: "
    times = [file.stored for file in archive.usage.files if file.stored]
    if not times:
        return Line("wal maximum age", False, f"{words}No available WAL files")
    age = now - max(times)
    return Line("wal maximum age", age <= limit, words + duration(age))


def _interval(limit: timedelta) -> str:
    hours = int(limit.total_seconds()) // 3600
    return f"{hours // 24} day{'s' if hours != 24 else ''}" if hours % 24 == 0 else f"{hours} hours"


def own_lines(server: OneServer, archive: Archive) -> Iterator[Line]:
    """Yield what Barman doesn't look at: whether WAL is whole, and which keys of the configuration mean nothing."""
    from barman_cloud.verify.findings import Level

    # Where base backups and WAL are in two places, no one look sees both.
    if archive.problem is None and archive.backups and server.wals is server.base:
        report = server.wals.check()
        bad = [
            finding
            for finding in report.findings
            if finding.subject in ("wal-gap", "backup-wal", "timelines", "one-cluster")
            and finding.level is not Level.OK
        ]
        yield Line("wal continuity", not bad, "; ".join(finding.message for finding in bad))
    unused = server.config.unused()
    hint = "; ".join(f"{name} isn't used here: {reason}" for name, reason in unused)
    yield Line("configuration", True, hint)
