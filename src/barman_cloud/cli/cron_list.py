"""``barman-cloud cron --list``: the last and next run of each job, from the bucket."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.cli.commands import SUMMARIES
from barman_cloud.config.repository import open_wal_store
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError
from barman_cloud.report.terminal import write
from barman_cloud.schedule.active_model import with_active_model
from barman_cloud.schedule.maintain import PATIENCE, THREADS
from barman_cloud.schedule.overview import ServerStatus, overview

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments
    from barman_cloud.config.reader import Configuration

log = logs.get_logger(__name__)


def show(args: Arguments, configuration: Configuration, names: list[str]) -> int:
    """Print it, and return 1 if a server couldn't be looked at."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda name: _look(configuration, name), names))
    statuses = [one for one in found if isinstance(one, ServerStatus)]
    errors = {name: one for name, one in zip(names, found, strict=True) if isinstance(one, str)}
    for name, error in errors.items():
        log.error("server %s: %s", name, error)
    if args.format == "json":
        document = {"version": 1, "servers": [status.to_json() for status in statuses], "errors": errors}
        write(f"{json.dumps(document, indent=2)}\n")
    else:
        write("".join(f"{line}\n" for status in statuses for line in _lines(status)))
    return 1 if errors else 0


def _look(configuration: Configuration, name: str) -> ServerStatus | str:
    try:
        server = configuration.server(name)
        store, layout = open_wal_store(server, Deadline(PATIENCE))
        with store:
            return overview(store, layout, with_active_model(configuration, server, store, layout), SUMMARIES)
    except BarmanCloudError as error:
        return str(error)


def _lines(status: ServerStatus) -> list[str]:
    model = f" (model {status.model})" if status.model else ""
    lines = [f"{status.server}{model}"]
    if status.receiver:
        lines.append(f"  WAL is received by {status.receiver}")
    elif status.wants_receiver:
        lines.append("  WAL is not received now, although streaming_archiver is on")
    if status.receiver_problem:
        lines.append(f"  {status.receiver_problem}")
    if not status.exclusive:
        lines.append("  this store can't keep two hosts apart: run cron on one host only")
    lines += [f"  {job.job:16}  {job}" for job in status.jobs]
    return lines
