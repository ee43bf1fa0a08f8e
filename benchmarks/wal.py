"""WAL through a real PostgreSQL: a backlog of segments archived by its archiver, and recovery that replays them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account

from benchmarks.contestants import Contestant, barman, others, ours
from benchmarks.meter import Usage, children, end_orphans, sampled, watch
from benchmarks.setting import Bench, Place

PARALLEL = 8
SETTINGS = {
    "archive_mode": "on",
    "archive_command": "",
    "wal_keep_size": "16GB",
    "synchronous_commit": "off",
    "max_wal_size": "16GB",
}
PGBENCH_SCALE = 20
TRANSACTIONS = 10_000
"""Between two checkpoints: after each, the first change of a page writes the whole page to the WAL."""
PATIENCE = 900.0


@dataclass(frozen=True)
class Backlog:
    """A running server with segments to archive, and a base backup from before them."""

    server: PostgresServer
    base: Path
    segments: list[str]
    transactions: int


def run(bench: Bench) -> None:
    """Generate the segments once, then let all contestants archive and replay them, in turns."""
    with _backlog(bench) as backlog:
        _measure_limits(bench, backlog)
        runs: list[Callable[[], float]] = [
            partial(_archive_and_recover, bench, backlog, contestants) for contestants in _contestants(bench)
        ]
        bench.results.take_turns(bench.scale.rounds, runs)


def _contestants(bench: Bench) -> list[list[Contestant]]:
    """Return who archives, each with those that recover from what it archived."""
    theirs: list[Contestant] = [found for found in (barman(), barman(PARALLEL)) if found]
    return [
        [ours()],
        [ours(PARALLEL)],
        *([theirs] if theirs else []),
        *([one] for one in others(bench.installation.major)),
    ]


@contextmanager
def _backlog(bench: Bench) -> Iterator[Backlog]:
    directory = bench.directory("wal")
    environ = dict(bench.secure.environ)
    with PostgresServer.create(directory, bench.installation, settings=SETTINGS, environ=environ) as server:
        server.pgbench("-i", "-s", str(PGBENCH_SCALE))
        server.stop()
        base = directory / "base"
        run_as_server(["cp", "-a", server.data, base])
        server.start()
        transactions = 0
        while len(_named(server, ".ready")) < bench.scale.segments:
            server.pgbench("-n", "-c", "4", "-t", str(TRANSACTIONS // 4))
            server.query("CHECKPOINT")
            transactions += TRANSACTIONS
        server.switch_wal()
        yield Backlog(server, base, _named(server, ".ready"), transactions)


def _named(server: PostgresServer, suffix: str) -> list[str]:
    """Return the names of the WAL files with this archive status."""
    status = server.data / "pg_wal" / "archive_status"
    return sorted(path.stem for path in status.glob(f"*{suffix}"))


def _measure_limits(bench: Bench, backlog: Backlog) -> None:
    """Recover from segments that are in ``pg_wal`` already, and by ``cp`` from a local directory."""
    archive = bench.directory("archive")
    stored = [backlog.server.data / "pg_wal" / name for name in backlog.segments]
    run_as_server(["cp", *stored, archive])
    for case, command, present in (("in pg_wal", "false", stored), ("cp", f"cp {archive}/%f %p", ())):
        used = _recover(bench, backlog, command, present)
        bench.results.add("limits", f"recovery, {case}", "machine", used, _each(used, backlog))
    shutil.rmtree(archive)


def _archive_and_recover(bench: Bench, backlog: Backlog, contestants: list[Contestant]) -> float:
    place = Place.new(bench.secure, bench.directory("contestant"))
    contestants[0].prepare(backlog.server, place, "lz4", bench.jobs)
    case = f"{len(backlog.segments)} segments, lz4"
    _empty_spool(place)
    archived = _archive(backlog, contestants[0].archive_command(place))
    bench.results.add("wal-archive", case, contestants[0].name, archived, _each(archived, backlog))
    slowest = archived.wall
    for contestant in contestants:
        _empty_spool(place)
        recovered = _recover(bench, backlog, contestant.restore_command(place))
        bench.results.add("recovery", case, contestant.name, recovered, _each(recovered, backlog))
        slowest = max(slowest, recovered.wall)
    place.forget()
    return slowest


def _empty_spool(place: Place) -> None:
    spool = place.directory / "spool"
    shutil.rmtree(spool, ignore_errors=True)
    spool.mkdir()
    server_account().own(place.directory)


def _each(usage: Usage, backlog: Backlog) -> str:
    return f"{usage.wall / len(backlog.segments) * 1000:.0f} ms each"


def _archive(backlog: Backlog, command: str) -> Usage:
    """Let PostgreSQL archive all segments with this command, and return what its children cost."""
    server = backlog.server
    status = server.data / "pg_wal" / "archive_status"
    for name in backlog.segments:
        if (status / f"{name}.done").exists():
            (status / f"{name}.done").rename(status / f"{name}.ready")
    with watch(_archiver(server)) as watched:
        server.configure(archive_command=command)
        wait_for(lambda: not _waiting(server), timeout=PATIENCE, what=f"all WAL to be archived by {command}")
        watched.stop()
        server.configure(archive_command="")
    return watched.usage


def _waiting(server: PostgresServer) -> bool:
    server.check_alive()
    return any(path.suffix == ".ready" for path in (server.data / "pg_wal" / "archive_status").iterdir())


def _archiver(server: PostgresServer) -> int:
    def found() -> list[int]:
        return [child.pid for child in _process(server).children() if "archiver" in " ".join(child.cmdline())]

    wait_for(found, what="the archiver process")
    return found()[0]


def _recover(bench: Bench, backlog: Backlog, command: str, present: Sequence[Path] = ()) -> Usage:
    """Recover a copy of the base backup to the end of the archive; the CPU seconds are those of PostgreSQL as well.

    The WAL files ``present`` are in ``pg_wal`` from the beginning.
    """
    parent = bench.directory("recovered")
    run_as_server(["cp", "-a", backlog.base, parent / "data"])
    if present:
        run_as_server(["cp", *present, parent / "data" / "pg_wal"])
    server = adopt(parent / "data", bench.installation)
    server.environ.update(bench.secure.environ)
    server.recover_with(command)
    try:
        used = _replay(server)
        count = server.value("SELECT count(*) FROM pgbench_history")
    finally:
        server.stop(mode="immediate")
    if count != backlog.transactions:
        raise RuntimeError(f"{count} transactions are there after recovery with {command}, not {backlog.transactions}")
    shutil.rmtree(parent)
    return used


def _replay(server: PostgresServer) -> Usage:
    """Start the server, wait for the end of recovery, and return the cost until then."""
    before, start = children(os.getpid()), time.perf_counter()
    with sampled(lambda: list(children(os.getpid()) - before)) as peak:
        server.start(timeout=PATIENCE)
        server.wait_recovered(timeout=PATIENCE)
        wall = time.perf_counter() - start
    process = _process(server)
    wait_for(lambda: not _unfinished(process), what="the startup process to end and to be waited for")
    cpu = sum(process.cpu_times()[:4])
    for child in process.children():
        with suppress(psutil.NoSuchProcess):
            cpu += sum(child.cpu_times()[:2])
    return Usage(wall, cpu + end_orphans(before | {process.pid}), peak.bytes)


def _unfinished(postmaster: psutil.Process) -> list[psutil.Process]:
    """Return the startup process, and whatever has ended and wasn't waited for, so that its CPU isn't counted yet."""
    found = []
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):
            ended = child.status() == psutil.STATUS_ZOMBIE
            found += [child] if ended or "startup" in " ".join(child.cmdline()) else []
    return found


def _process(server: PostgresServer) -> psutil.Process:
    server.check_alive()
    assert server.process is not None
    return psutil.Process(server.process.pid)
