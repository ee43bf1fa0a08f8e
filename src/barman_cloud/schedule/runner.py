"""Runs one job of a server: alone on all hosts, recorded, and ended if its lease is lost.

The process that calls this supervises the command, which is a process of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TextIO

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError, ConflictError
from barman_cloud.schedule import clock, history, local
from barman_cloud.schedule import state as states
from barman_cloud.schedule.history import JobRun, ListedRun
from barman_cloud.schedule.jobs import Job
from barman_cloud.schedule.lease import Lease, LeaseHeldError, acquire
from barman_cloud.schedule.plan import LEASE_PREFIX, judge
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

LEASE_DURATION = timedelta(minutes=5)
RENEWAL = 60.0
"""Seconds between renewals of a lease."""
_STAMP = r"\S+ \S+ \[\d+\] [A-Z]+: "
_FINDING = r"FAILED +(\S+) +"
"""Of the report of a verification or drill, whose last line is what to do."""
_SEVERE = r"\S+ \S+ \[\d+\] ERROR: "


@dataclass
class Supervision:
    """How a supervisor starts commands, and what stops them."""

    command: Sequence[str]
    """What stands before the words of a job: the interpreter, the module, and ``-c FILE``."""
    output: TextIO
    """Where the commands' messages go."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the supervisor is to end."""
    child: subprocess.Popen[str] | None = None

    def end(self) -> None:
        """End the supervisor, and the command that runs."""
        self.stop.set()
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()


def run_job(
    store: ObjectStore,
    layout: Layout,
    job: Job,
    lock_directory: Path,
    supervision: Supervision,
    work: Callable[[], int] | None = None,
) -> int | None:
    """Run ``job`` if it is still due and nobody else runs it; returns its exit code, None if it wasn't run.

    ``work`` is called in place of the job's words, if it has none.
    """
    lock = local.try_lock(local.lock_path(lock_directory, job.server, f"cron-{job.lease}"))
    if lock is None:
        return None
    with lock:
        try:
            lease = acquire(store, layout, f"{LEASE_PREFIX}{job.lease}", LEASE_DURATION)
        except LeaseHeldError as error:
            log.info("%s isn't started: %s", job.name, error)
            return None
        if not lease.exclusive:
            log.info("this store can't keep another host away from %s of %s", job.name, job.server)
        with _renewed(lease, supervision):
            started = _begin(store, layout, job, due_check=work is None)
            if started is None:
                return None
            code, message = _work(job, supervision, work)
            ended = max(clock.now(), started)
            history.record(store, layout, JobRun(job.name, started, ended, code, message if code else ""))
            history.forget_old(store, layout, job.name)
    return code


def _begin(store: ObjectStore, layout: Layout, job: Job, *, due_check: bool) -> datetime | None:
    """Record the start and return it; None if another host was quicker. Runs whose process is gone are closed."""
    state, now = states.look(store, layout), clock.now()
    if due_check:
        since = state.known_since(job.name, job.fingerprint)
        if since is None or judge(store, layout, job, _without_running(state, job), since, now) is None:
            return None
    for run in state.runs.get(job.name, []):
        if not run.ended:  # the lease is ours, so its process is gone
            message = "its process went away before it had ended"
            history.record(store, layout, JobRun(job.name, run.started, now, None, message))
    history.record(store, layout, JobRun(job.name, now, None, None))
    return now


def _without_running(state: states.State, job: Job) -> states.State:
    """Return the state with runs that were never ended as lost: who owns the lease knows that they are."""
    runs = [run if run.ended else ListedRun(run.started, True, None, run.key) for run in state.runs.get(job.name, [])]
    return states.State({**state.runs, job.name: runs}, state.anchors)


def _work(job: Job, supervision: Supervision, work: Callable[[], int] | None) -> tuple[int, str]:
    if work is not None:
        try:
            return work(), "some files could not be archived"
        except BarmanCloudError as error:
            log.error("%s of %s: %s", job.name, job.server, error)  # noqa: TRY400
            return error.exit_code, str(error)
    code, message = _run(job, supervision)
    for _ in range(job.retries):
        if code == 0 or supervision.stop.wait(job.pause):
            break
        log.warning("%s of %s failed with %d and is tried again", job.name, job.server, code)
        code, message = _run(job, supervision)
    return code, message


def _run(job: Job, supervision: Supervision) -> tuple[int, str]:
    """Run the command once; returns its exit code (128 and the signal's number for a killed one) and last message."""
    launcher = [sys.executable, "-P", "-m", "barman_cloud.schedule.launch", str(os.getpid())]
    supervision.child = subprocess.Popen(
        [*launcher, *supervision.command, *job.words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if supervision.stop.is_set():
        supervision.child.terminate()
    message = severe = finding = ""
    assert supervision.child.stdout is not None
    with supervision.child.stdout as lines:
        for line in lines:
            supervision.output.write(f"{job.server} {job.name}: {line.rstrip()}\n")
            supervision.output.flush()
            if line.strip():
                message = line.strip()
                severe = message if re.match(_SEVERE, message) else severe
                finding = finding or (message if re.match(_FINDING, message) else "")
    code = supervision.child.wait()
    told = re.sub(_FINDING, r"\1: ", finding) if finding and not severe else re.sub(_STAMP, "", severe or message)
    return (code if code >= 0 else 128 - code), told


@contextmanager
def _renewed(lease: Lease, supervision: Supervision) -> Iterator[None]:
    """Keep a lease while the block runs, and give it back; who loses it ends the command that runs."""
    ended = threading.Event()
    lost = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEWAL):
            try:
                lease.renew()
            except ConflictError as error:
                log.error("%s", error)  # noqa: TRY400
                lost.set()
                supervision.end()
                return
            except BarmanCloudError as error:
                log.info("the lease can't be renewed now: %s", error)
                if datetime.now(UTC) > lease.until:
                    # Somebody else may own it by now, and can't be seen.
                    log.error("the lease ended while the store was out of reach")  # noqa: TRY400
                    lost.set()
                    supervision.end()
                    return

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        if not lost.is_set():
            try:
                lease.release()
            except BarmanCloudError as error:
                log.info("the lease ends by itself: %s", error)


def stop_on_signals(supervision: Supervision) -> None:
    """Have SIGTERM and SIGINT end the command that runs and then this process, with both recorded."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervision.end())
