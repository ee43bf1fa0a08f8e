"""Which jobs a server has: what ``cron`` runs, and when. Pure: a server of the configuration in, jobs out."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from datetime import timedelta

from barman_cloud.config.server import Server
from barman_cloud.schedule.due import Schedule

BACKUP = "backup"
INCREMENTAL = "incremental"
VERIFY = "verify"
DRILL = "drill"
RETENTION = "retention"
CLEANUP = "cleanup"
ARCHIVE = "archive-incoming"
NAMES = (BACKUP, INCREMENTAL, VERIFY, DRILL, RETENTION, CLEANUP, ARCHIVE)
"""All jobs, in the order in which they are started."""

_LEASES = {BACKUP: "base-backup", INCREMENTAL: "base-backup"}
_LONG = frozenset((BACKUP, INCREMENTAL, VERIFY, DRILL))
_ALWAYS = "* * * * *"


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is done for a server again and again, by one of our own commands."""

    name: str
    server: str
    words: tuple[str, ...]
    """The command line behind ``barman-cloud``; empty for what ``cron`` does itself."""
    schedule: Schedule
    lease: str
    """Jobs of one lease never run at the same time."""
    long: bool
    """It may take hours: such jobs have places of their own, so that the short ones needn't wait for them."""
    retries: int = 0
    pause: float = 0.0
    """Seconds before a failed command is run again, and how often that is done."""

    @property
    def fingerprint(self) -> str:
        """Tells schedules apart: a changed one counts from when it was first seen."""
        text = f"{self.schedule.expression} {self.schedule.zone}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]

    @property
    def spread_by(self) -> str:
        """What decides about its delay within the jitter."""
        return f"{self.server} {self.name}"


def jobs_of(server: Server, commands: Container[str]) -> list[Job]:
    """Return the jobs of a server; ``commands`` are those that this program has."""
    return list(_jobs(server, commands))


def _jobs(server: Server, commands: Container[str]) -> Iterator[Job]:
    name = server.name
    retries = server["basebackup_retry_times"], float(server["basebackup_retry_sleep"])
    if expression := server["backup_schedule"]:
        yield _job(server, BACKUP, expression, ("backup", name), *retries)
    if expression := server["incremental_schedule"]:
        words = ("backup", "--incremental", "last", "--fallback-full", name)
        yield _job(server, INCREMENTAL, expression, words, *retries)
    if expression := server["verify_schedule"]:
        yield _job(server, VERIFY, expression, ("verify", name))
    if (expression := server["drill_schedule"]) and DRILL in commands:
        yield _job(server, DRILL, expression, ("drill", name))
    if server["retention_policy"]:
        yield _job(server, RETENTION, server["retention_schedule"], ("backup-delete", name))
    if CLEANUP in commands:
        yield _job(server, CLEANUP, server["cleanup_schedule"], ("cleanup", name))
    yield _job(server, ARCHIVE, _ALWAYS, ())


def _job(
    server: Server, name: str, expression: str, words: tuple[str, ...], retries: int = 0, pause: float = 0.0
) -> Job:
    jitter = 0 if name == ARCHIVE else server["schedule_jitter"]
    schedule = Schedule(expression, server["schedule_time_zone"], timedelta(seconds=jitter))
    return Job(name, server.name, words, schedule, _LEASES.get(name, name), name in _LONG, retries, pause)
