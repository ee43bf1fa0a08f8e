"""Which jobs of a server are due now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.server import Server
from barman_cloud.postgres.wal import is_wal_name
from barman_cloud.schedule import jobs as names
from barman_cloud.schedule import state as states
from barman_cloud.schedule.due import due_since
from barman_cloud.schedule.history import ListedRun
from barman_cloud.schedule.jobs import Job
from barman_cloud.schedule.lease import read
from barman_cloud.schedule.state import State
from barman_cloud.store.base import ObjectStore

MOST_LOST = 3
"""Runs in a row that may be lost before the next time of the schedule is waited for."""
LEASE_PREFIX = "cron-"


class Due(NamedTuple):
    """A job that is to be started."""

    job: Job
    since: datetime
    """The time of the schedule that it is started for, or when the run that it repeats was begun."""
    again: bool = False
    """Its last run was lost with its process."""


def due(store: ObjectStore, layout: Layout, server: Server, jobs: list[Job], state: State, now: datetime) -> list[Due]:
    """Return the jobs that are due. Schedules that are seen for the first time are remembered in the bucket."""
    found = []
    for job in jobs:
        if job.name == names.ARCHIVE:
            if waiting_files(server):
                found.append(Due(job, now))
            continue
        since = state.known_since(job.name, job.fingerprint)
        if since is None:
            states.remember_schedule(store, layout, state, job.name, job.fingerprint, now)
            since = now
        if verdict := judge(store, layout, job, state, since, now):
            found.append(verdict)
    return found


def judge(
    store: ObjectStore, layout: Layout, job: Job, state: State, known_since: datetime, now: datetime
) -> Due | None:
    """Return why a job is due, None if it isn't."""
    last = state.last(job.name)
    planned = due_since(job.schedule, job.spread_by, last.started if last else None, known_since, now)
    if planned is not None:
        return Due(job, planned)
    if last is None or not _is_open(last):
        return None
    recent = state.runs[job.name][-MOST_LOST:]
    if len(recent) == MOST_LOST and all(map(_is_open, recent)):
        return None  # it takes its process down each time
    if not last.ended and is_held(store, layout, job):
        return None
    return Due(job, last.started, again=True)


def _is_open(run: ListedRun) -> bool:
    """Whether nobody has seen the end of a run (yet)."""
    return run.lost or not run.ended


def is_held(store: ObjectStore, layout: Layout, job: Job) -> bool:
    """Whether a living process owns the job's lease."""
    holding = read(store, layout, f"{LEASE_PREFIX}{job.lease}")
    return holding is not None and not holding.ended(datetime.now(UTC))


def waiting_files(server: Server) -> list[Path]:
    """Return the WAL files that wait in the server's incoming directory of this machine, oldest first."""
    try:
        found = [path for path in Path(server["incoming_wals_directory"]).iterdir() if is_wal_name(path.name)]
    except OSError:
        return []  # there is none, or none that this user may see
    return sorted(path for path in found if path.is_file() and not path.is_symlink())
