"""One pass of maintenance: look at each server, and start what is due. Safe at any time, twice at once, on two hosts.

The pass itself only looks and starts. Receivers are processes of their own. Jobs are given to a few supervisors
(``cron --run``), each with a place on this machine that it holds as long as it lives, and a share of the due jobs that
it does one after the other. Leases in the bucket and the history there decide in the end whether a job is run, so two
passes that start the same job do no harm.
"""

from __future__ import annotations

import subprocess
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from barman_cloud import logs
from barman_cloud.config.reader import Configuration
from barman_cloud.config.repository import open_wal_store
from barman_cloud.config.server import Server
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report import progress
from barman_cloud.schedule import clock, jobs, local, receivers
from barman_cloud.schedule import state as states
from barman_cloud.schedule.active_model import with_active_model
from barman_cloud.schedule.plan import Due, due

log = logs.get_logger(__name__)

STANDARD_ERROR = 2
THREADS = 8
"""Servers that are looked at at a time."""
PATIENCE = 30.0
"""Seconds of failures after which the store of one server is given up; the next pass asks again."""


@dataclass(slots=True)
class Look:
    """What a pass found out about one server."""

    server: str
    due: list[Due] = field(default_factory=list)
    needs_receiver: bool = False
    error: str | None = None
    """Why it couldn't be looked at."""


@dataclass(slots=True)
class Pass:
    """What a pass has found and started."""

    looks: list[Look] = field(default_factory=list)
    started: list[tuple[Due, bool]] = field(default_factory=list)
    """Jobs that were given to a supervisor, and whether it does this one first."""
    waiting: list[Due] = field(default_factory=list)
    """Jobs that are due, while every place of this machine is taken."""
    receivers: list[str] = field(default_factory=list)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Supervisors."""


@dataclass(frozen=True, slots=True)
class How:
    """How a pass starts processes."""

    command: Sequence[str]
    """What stands before the words of a command: the interpreter, the module, and ``-c FILE``."""
    output: int
    """Descriptor of what the processes write to."""
    commands: Container[str]
    """Names of the commands that this program has."""
    start_receivers: bool = True


def run_pass(configuration: Configuration, names: Sequence[str], how: How) -> Pass:
    """Look at the servers and start what is due; a server that can't be looked at doesn't stop the others."""
    directory = local.lock_directory(configuration.common)
    result, now = Pass(), clock.now()
    with ThreadPoolExecutor(THREADS) as pool:
        result.looks = list(pool.map(lambda name: _look_safely(configuration, name, how, now), names))
    if how.output == STANDARD_ERROR:
        progress.current().hide()
    for look in result.looks:
        if look.needs_receiver:
            _spawn(how, receivers.words(configuration.server(look.server)))
            result.receivers.append(look.server)
    for kind in ("short", "long"):
        waiting = [one for look in result.looks for one in look.due if one.job.long == (kind == "long")]
        _hand_out(sorted(waiting, key=lambda one: one.since), kind, directory, configuration, how, result)
    return result


def _look_safely(configuration: Configuration, name: str, how: How, now: datetime) -> Look:
    try:
        server = configuration.server(name)
        store, layout = open_wal_store(server, Deadline(PATIENCE))
        with store:
            server = with_active_model(configuration, server, store, layout)
            look = Look(name)
            look.needs_receiver = how.start_receivers and receivers.needs_receiver(store, layout, server)
            look.due = due(store, layout, server, jobs.jobs_of(server, how.commands), states.look(store, layout), now)
            return look
    except BarmanCloudError as error:
        return Look(name, error=f"{error}" + (f" (hint: {error.hint})" if error.hint else ""))
    except OSError as error:
        return Look(name, error=f"{error.filename or ''}: {error.strerror or error}")


def _hand_out(
    waiting: list[Due], kind: str, directory: Path, configuration: Configuration, how: How, result: Pass
) -> None:
    """Give the due jobs to as many supervisors as this machine has free places for."""
    if not waiting:
        return
    places = local.free_places(directory, kind, configuration.common["cron_jobs"])
    used = places[: len(waiting)]
    for number, place in enumerate(used):
        share = waiting[number :: len(used)]
        pairs = [f"{one.job.name}@{one.job.server}" for one in share]
        result.processes.append(_spawn(how, ("cron", "--run", *pairs), place.descriptor))
        result.started += [(one, first) for one, first in zip(share, [True, *[False] * len(share)], strict=False)]
    for place in places:
        place.close()
    if not used:
        result.waiting += waiting


def _spawn(how: How, words: Sequence[str], descriptor: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process that outlives this one."""
    return subprocess.Popen(
        [*how.command, *words],
        stdin=subprocess.DEVNULL,
        stdout=how.output,
        stderr=how.output,
        start_new_session=True,
        pass_fds=() if descriptor is None else (descriptor,),
    )


def active_names(configuration: Configuration) -> list[str]:
    """Return the servers that commands for all servers are for: those that are ``active``."""
    return [name for name in configuration.names if _is_active(configuration.server(name))]


def _is_active(server: Server) -> bool:
    return bool(server["active"])
