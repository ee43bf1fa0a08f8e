"""What was done for a server and what comes next: for ``cron --list``, and for a status."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.server import Server
from barman_cloud.schedule import clock, history, jobs, receivers
from barman_cloud.schedule import state as states
from barman_cloud.schedule.due import next_start
from barman_cloud.schedule.plan import judge
from barman_cloud.store.base import ObjectStore


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job of a server: its last run and its next."""

    job: str
    schedule: str
    last_start: datetime | None
    result: str
    """``ok``, ``failed (exit code N)``, ``running``, ``lost`` (its process went away), or ``never run``."""
    message: str
    """The last message of a run that failed."""
    next_start: datetime | None
    """None: it is due now."""

    def __str__(self) -> str:
        message = f": {self.message}" if self.message else ""
        following = "now" if self.next_start is None else _time(self.next_start)
        return f"last {_time(self.last_start):20}  {self.result}{message}; next {following}"

    def to_json(self) -> dict[str, Any]:
        return {
            "job": self.job,
            "schedule": self.schedule,
            "last_start": self.last_start.isoformat() if self.last_start else None,
            "result": self.result,
            "message": self.message,
            "next_start": self.next_start.isoformat() if self.next_start else None,
        }


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """The maintenance of one server."""

    server: str
    model: str | None
    receiver: str | None
    """Who receives its WAL; None: nobody."""
    receiver_problem: str | None
    """What is wrong with receiving WAL, or why it ended; None if nothing is, or it isn't to be received."""
    wants_receiver: bool
    exclusive: bool
    """Whether the store keeps two hosts apart."""
    jobs: tuple[JobStatus, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            "model": self.model,
            "receiver": {
                "wanted": self.wants_receiver,
                "owner": self.receiver,
                "problem": self.receiver_problem,
            },
            "exclusive": self.exclusive,
            "jobs": [job.to_json() for job in self.jobs],
        }


def overview(store: ObjectStore, layout: Layout, server: Server, commands: Container[str]) -> ServerStatus:
    """Return the maintenance of a server as the bucket knows it; ``commands`` are those that this program has."""
    state, now = states.look(store, layout), clock.now()
    holding = receivers.receiver_of(store, layout)
    found = [
        _status(store, layout, job, state, now)
        for job in jobs.jobs_of(server, commands)
        if job.name != jobs.ARCHIVE or state.last(job.name)
    ]
    return ServerStatus(
        server.name,
        server.model,
        str(holding.owner) if holding else None,
        receiver_problem(store, layout) if server["streaming_archiver"] else None,
        bool(server["streaming_archiver"]),
        store.capabilities.conditional_create,
        tuple(found),
    )


def receiver_problem(store: ObjectStore, layout: Layout) -> str | None:
    """Return what is wrong with receiving a server's WAL, by what its receiver last said in the bucket."""
    from barman_cloud.verify.findings import Level
    from barman_cloud.verify.receiver import look_at_receiver

    _, findings = look_at_receiver(store, layout, datetime.now(UTC))
    return next((found.message for found in findings if found.level is not Level.OK), None)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment else "-"


def _status(store: ObjectStore, layout: Layout, job: jobs.Job, state: states.State, now: datetime) -> JobStatus:
    last = state.last(job.name)
    message = ""
    if last is None:
        result = "never run"
    elif not last.ended:
        result = "running"
    elif last.exit_code is None:
        result = "lost"
    elif last.exit_code:
        result = f"failed (exit code {last.exit_code})"
        run = history.read(store, job.name, last)
        message = run.message if run else ""
    else:
        result = "ok"
    since = state.known_since(job.name, job.fingerprint)
    is_due = since is not None and judge(store, layout, job, state, since, now) is not None
    following = None if is_due or job.name == jobs.ARCHIVE else next_start(job.schedule, job.spread_by, now)
    return JobStatus(job.name, job.schedule.expression, last.started if last else None, result, message, following)
