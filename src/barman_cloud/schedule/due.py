"""When a scheduled job is due. Pure: schedule and last run in, verdict out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim


@dataclass(frozen=True, slots=True)
class Schedule:
    """A cron expression of five fields in a time zone; starts are spread over ``jitter``."""

    expression: str
    zone: str = "UTC"
    jitter: timedelta = timedelta(0)

    def next_after(self, moment: datetime) -> datetime:
        """Return the first time after ``moment``, without jitter. Hours that a time zone leaves out or has twice count
        as cron does: once.
        """
        return next(CronSim(self.expression, moment.astimezone(ZoneInfo(self.zone))))

    def last_until(self, moment: datetime, since: datetime) -> datetime | None:
        """Return the latest time after ``since`` and not after ``moment``, or None."""
        latest = next(
            CronSim(self.expression, moment.astimezone(ZoneInfo(self.zone)) + timedelta(minutes=1), reverse=True)
        )
        while latest > moment:
            latest = next(CronSim(self.expression, latest, reverse=True))
        return latest if latest > since else None


def is_due(schedule: Schedule, job: str, last_start: datetime | None, known_since: datetime, now: datetime) -> bool:
    """Whether ``job`` is to be started now; see :func:`due_since`."""
    return due_since(schedule, job, last_start, known_since, now) is not None


def due_since(
    schedule: Schedule, job: str, last_start: datetime | None, known_since: datetime, now: datetime
) -> datetime | None:
    """Return the time of the schedule (in UTC) that ``job`` is to be started for now, None if it isn't due.

    It is due when a time of the schedule has come since it was last started and since the schedule is known. Times that
    were missed are made up for once, not one by one. Jitter delays each job by an amount of its own, always the same,
    so that many servers with one schedule don't start together.
    """
    since = known_since if last_start is None else max(last_start, known_since)
    planned = schedule.last_until(now - delay_of(schedule, job), since)
    return planned.astimezone(UTC) if planned else None


def next_start(schedule: Schedule, job: str, now: datetime) -> datetime:
    """Return when (in UTC) ``job`` is started next, if that isn't now."""
    delay = delay_of(schedule, job)
    return (schedule.next_after(now - delay) + delay).astimezone(UTC)


def delay_of(schedule: Schedule, job: str) -> timedelta:
    """Return the delay of a job within the schedule's jitter."""
    seconds = int(schedule.jitter.total_seconds())
    if seconds <= 0:
        return timedelta(0)
    number = int.from_bytes(hashlib.sha256(job.encode("utf-8", "surrogateescape")).digest()[:8])
    return timedelta(seconds=number % (seconds + 1))
