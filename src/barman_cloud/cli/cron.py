"""``barman-cloud cron``: start what is due for the servers of the configuration, and return."""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.errors import BarmanCloudError, UsageError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.config.reader import Configuration
    from barman_cloud.schedule.jobs import Job
    from barman_cloud.schedule.maintain import Pass
    from barman_cloud.schedule.runner import Supervision

log = logs.get_logger(__name__)

ALL = "all"
_LAST_MESSAGES = 5.0
"""Seconds to wait for lines of processes that have ended."""


def add_arguments(parser: Declarations) -> None:
    options.add_configured(parser)
    parser.add_argument(
        "server_name", nargs="?", default=ALL, help="a server of the configuration, or 'all' (the default)"
    )
    parser.extra_positional = "server_name"
    parser.add_argument("--wait", action="store_true", help="end when the jobs have ended that were started")
    parser.add_argument("--no-receivers", action="store_true", help="start no receivers of WAL")
    parser.add_argument("--list", action="store_true", help="show the last and next run of each job, and start nothing")
    options.add_format(parser)
    parser.add_argument(
        "--run", nargs="+", default=[], metavar="JOB@SERVER", help="do these jobs here, in this order, if they are due"
    )


def run(args: Arguments) -> int:
    from barman_cloud.config.reader import load
    from barman_cloud.config.user import act_as_user
    from barman_cloud.report import progress

    if args.run:
        progress.current().hide()  # the messages of jobs go by
    configuration = load(args.configuration_file)
    act_as_user(configuration.common)
    if args.run:
        return _supervise(args, configuration)
    names = server_names(configuration, args.server_name)
    if args.list:
        from barman_cloud.cli.cron_list import show

        return show(args, configuration, names)
    return _pass(args, configuration, names)


def server_names(configuration: Configuration, given: str) -> list[str]:
    """Return the servers that are meant: one, or all that are active. ``ConfigurationError`` for an unknown one."""
    from barman_cloud.schedule.maintain import active_names

    return active_names(configuration) if given == ALL else [configuration.server(given).name]


def start_due(
    configuration: Configuration, names: list[str], *, output: int | None = None, receivers: bool = True
) -> Pass | None:
    """Start what is due for the servers and return what was started; None if another pass for them runs here.

    What is started writes to the log of the configuration, or to the descriptor ``output``. Errors of single servers
    are part of the result.
    """
    from barman_cloud.cli.commands import SUMMARIES
    from barman_cloud.schedule import local
    from barman_cloud.schedule.maintain import How, run_pass

    name = names[0] if len(names) == 1 else ALL
    lock = local.try_lock(local.lock_path(local.lock_directory(configuration.common), name, "cron"))
    if lock is None:
        log.info("another pass runs on this machine")
        return None
    with lock:
        place = local.open_log(configuration.common) if output is None else output
        return run_pass(configuration, names, How(program(configuration), place, SUMMARIES, receivers))


def _pass(args: Arguments, configuration: Configuration, names: list[str]) -> int:
    if not args.wait:
        done = start_due(configuration, names, receivers=not args.no_receivers)
        if done is None:
            return 0
        _tell(args, done)
        return _failed(done)
    messages = _Messages(beside_live_lines=args.is_shown and sys.stderr is not None and sys.stderr.isatty())
    try:
        done = start_due(configuration, names, output=messages.output, receivers=False)
    finally:
        messages.all_started()
    if done is None:
        return 0
    _tell(args, done)
    code = max(_failed(done), _wait(done))
    messages.finish()
    return code


def _failed(done: Pass) -> int:
    return 1 if any(look.error for look in done.looks) else 0


class _Messages:
    """Where the jobs write that are waited for: standard error, on a terminal by a pipe and past the live lines."""

    def __init__(self, *, beside_live_lines: bool) -> None:
        self.output = 2
        self._thread: threading.Thread | None = None
        if beside_live_lines:
            reader, self.output = os.pipe()
            self._thread = threading.Thread(target=self._copy, args=(reader,), name="messages", daemon=True)
            self._thread.start()

    def all_started(self) -> None:
        """Leave the pipe to the processes that were started: it ends with the last of them."""
        if self._thread:
            os.close(self.output)

    def finish(self) -> None:
        """Write what is still on its way."""
        if self._thread:
            self._thread.join(_LAST_MESSAGES)

    @staticmethod
    def _copy(reader: int) -> None:
        from barman_cloud.report.terminal import aside

        with os.fdopen(reader, encoding="utf-8", errors="backslashreplace") as lines:
            for line in lines:
                with aside():
                    print(logs.escape_controls(line.rstrip("\n")), file=sys.stderr, flush=True)


def _wait(done: Pass) -> int:
    """Wait for the supervisors, end them in order when this process is to end, and return 1 if a job failed."""
    import signal

    from barman_cloud.report import progress

    def end(*_: object) -> None:
        for process in done.processes:
            if process.poll() is None:
                process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    work, failed = progress.current(), 0
    work.phase("waiting for jobs", items=len(done.processes))
    for process in done.processes:
        failed |= bool(process.wait())
        work.add(items=1)
    return failed


def program(configuration: Configuration) -> list[str]:
    """Return what starts this program with this configuration, whatever the working directory."""
    return [sys.executable, "-P", "-m", "barman_cloud", "-c", str(Path(configuration.file).absolute())]


def _tell(args: Arguments, done: Pass) -> None:
    """Print what was started, one line each."""
    from barman_cloud.report.terminal import write

    for look in done.looks:
        if look.error:
            log.error("server %s: %s", look.server, look.error)
    if args.format == "json":
        import json

        write(f"{json.dumps(_as_json(done), indent=2)}\n")
        return
    lines = [f"{name}: receiver of WAL started" for name in done.receivers]
    for one, first in done.started:
        why = "the last run was lost" if one.again else f"due since {one.since:%Y-%m-%d %H:%M:%S}Z"
        lines.append(f"{one.job.server}: {one.job.name} {'started' if first else 'follows'} ({why})")
    lines += [f"{one.job.server}: {one.job.name} waits, every place is taken (cron_jobs)" for one in done.waiting]
    if not args.quiet:
        write("".join(f"{line}\n" for line in lines))


def lines_as_barman(done: Pass) -> list[str]:
    """Return what was started in the words of Barman's ``cron``, and in like words what Barman hasn't."""
    lines = [f"Starting streaming archiver for server {name}" for name in done.receivers]
    for one, _ in done.started:
        what = "WAL archiving" if not one.job.words else one.job.name
        lines.append(f"Starting {what} for server {one.job.server}")
    return lines


def _as_json(done: Pass) -> dict[str, object]:
    jobs = [
        {"server": one.job.server, "job": one.job.name, "since": one.since.isoformat(), "state": state}
        for state, some in (("started", [one for one, _ in done.started]), ("waiting", done.waiting))
        for one in some
    ]
    errors = {look.server: look.error for look in done.looks if look.error}
    servers = [look.server for look in done.looks]
    return {"version": 1, "servers": servers, "receivers": done.receivers, "jobs": jobs, "errors": errors}


def _supervise(args: Arguments, configuration: Configuration) -> int:
    """Do jobs one after the other; 1 if one of them failed."""
    from barman_cloud.schedule.runner import Supervision, stop_on_signals

    supervision = Supervision(program(configuration), sys.stderr)
    stop_on_signals(supervision)
    failed = False
    for pair in args.run:
        if supervision.stop.is_set():
            break
        name, _, server = pair.partition("@")
        try:
            failed = bool(_run_one(configuration, name, server, supervision)) or failed
        except BarmanCloudError as error:
            log.error("%s of %s: %s", name, server, error)  # noqa: TRY400
            failed = True
    return 1 if failed else 0


def _run_one(configuration: Configuration, name: str, server_name: str, supervision: Supervision) -> int | None:
    from barman_cloud.cli.commands import SUMMARIES
    from barman_cloud.cli.incoming import archive_incoming
    from barman_cloud.config.repository import open_wal_store
    from barman_cloud.schedule import jobs, local
    from barman_cloud.schedule.active_model import with_active_model
    from barman_cloud.schedule.runner import run_job

    server = configuration.server(server_name)
    store, layout = open_wal_store(server)
    with store:
        server = with_active_model(configuration, server, store, layout)
        found = [job for job in jobs.jobs_of(server, SUMMARIES) if job.name == name]
        if not found:
            if name not in jobs.NAMES:
                raise UsageError(f"there is no job '{name}'", hint=f"there are {', '.join(jobs.NAMES)}")
            log.info("%s has no job %s", server_name, name)
            return None
        job: Job = found[0]
        work = None if job.words else partial(archive_incoming, configuration, server)
        return run_job(store, layout, job, local.lock_directory(configuration.common), supervision, work)


COMMAND = Command("cron", add_arguments, run, configured=True)
