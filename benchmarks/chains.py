"""Incremental backups: what an increment stores and takes for a change rate, and what the restore of a chain costs.

A share of the blocks is changed by locking one row in each of them, evenly spread: that changes these blocks and no
others, and is the worst case for everything that is faster on neighbours.
"""

from __future__ import annotations

import shlex
import shutil
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.barman_server import BarmanServer
from tests.support.installations import find_tool
from tests.support.peers import find_barman, our_commands
from tests.support.postgres import SUPERUSER, PostgresServer
from tests.support.privileges import server_account
from tests.support.servers import StoreServer, rclone_program

from benchmarks.contestants import SERVER, newest_for_pgbackrest, pgbackrest
from benchmarks.data import data_size, make_realistic
from benchmarks.disk import cache, discard, sync
from benchmarks.meter import Usage, measure
from benchmarks.results import OURS
from benchmarks.setting import Bench, Command, Place

_SCENARIO = "chains"
_BLOCK = 8192
_INCREMENTS = 6
_RATE = 0.02
_RATES = (0.001, 0.01, 0.02, 0.1, 0.5)
_SETTINGS = {"wal_level": "replica", "max_wal_size": "8GB"}


def run(bench: Bench) -> None:
    """Measure one increment at each change rate, then chains of one full backup and six increments.

    Servers before 17 have no WAL summaries: there the LSNs of the pages tell what changed, and neither
    ``pg_combinebackup`` nor Barman takes part.
    """
    server = make_realistic(bench.directory("chains"), bench.installation, bench.scale.rows // 2)
    summaries = bench.installation.major >= 17
    methods = ("stream", "files") if summaries else ("files",)
    with server:
        server.configure(**_SETTINGS, **({"summarize_wal": "on"} if summaries else {"wal_log_hints": "on"}))
        server.restart()
        server.archive_with("true")  # neither Barman's server nor pgBackRest backs up one that doesn't archive
        for method in methods:
            bench.results.take_turns(1, [partial(_rates, bench, server, method)])
        tools: list[_Tool] = [_Ours(bench, server, methods[0])]
        if summaries:
            tools.append(_Tools(bench, server))
            tools += [_Barman(bench, server)] if find_barman() else []
        program = shutil.which("pgbackrest")
        if program and newest_for_pgbackrest(program) >= bench.installation.major:
            tools.append(_PgBackRest(bench, server, program))
        bench.results.take_turns(1, [partial(_chain, bench, server, tool) for tool in tools])


def _rates(bench: Bench, server: PostgresServer, method: str) -> float:
    """Take a full backup, and one increment after another, each of one rate."""
    ours = _Ours(bench, server, method)
    cache(server.data)
    ours.take(None)
    full_bytes = ours.place.stored_bytes()
    _add(bench, f"full, {method}", OURS, ours.last, _stored(server, full_bytes))
    for rate in _RATES:
        change(server, rate)
        before = ours.place.stored_bytes()
        ours.take("latest")
        stored = ours.place.stored_bytes() - before
        note = f"{_stored(server, stored)}, {stored / full_bytes:.1%} of the full's"
        _add(bench, f"increment of {rate:.1%}, {method}", OURS, ours.last, note)
    ours.place.forget()
    return 0.0


def _chain(bench: Bench, server: PostgresServer, tool: _Tool) -> float:
    """Take a full backup and six increments of 2 %; restore the full one, then the last one."""
    cache(server.data)
    tool.take(None)
    stored = tool.place.stored_bytes()
    _add(bench, "full", tool.name, tool.last, _stored(server, stored))
    alone = [_restore(bench, tool.restore("latest")) for _ in range(bench.scale.rounds)]
    for used in alone:
        _add(bench, "restore of the full", tool.name, used)
    took: list[Usage] = []
    for _ in range(_INCREMENTS):
        change(server, _RATE)
        tool.take("latest")
        took.append(tool.last)
    mean = Usage(
        sum(usage.wall for usage in took) / _INCREMENTS,
        sum(usage.cpu for usage in took) / _INCREMENTS,
        max(usage.memory for usage in took),
    )
    increments = tool.place.stored_bytes() - stored
    _add(bench, f"increment of {_RATE:.0%}, mean of {_INCREMENTS}", tool.name, mean, _stored(server, increments // 6))
    whole = [_restore(bench, tool.restore("latest")) for _ in range(bench.scale.rounds)]
    ratio = statistics.median(used.wall for used in whole) / statistics.median(used.wall for used in alone)
    for used in whole:
        _add(bench, f"restore of the full and {_INCREMENTS}", tool.name, used, f"{ratio:.2f} x the full's")
    tool.place.forget()
    return 0.0


def change(server: PostgresServer, rate: float) -> None:
    """Change that share of the cluster's blocks, in the large tables, and write them out."""
    wanted = int(rate * data_size(server) / _BLOCK)
    sizes = server.query(
        "SELECT c.oid::regclass::text, pg_relation_size(c.oid) / 8192"
        " FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'orders'::regclass AND c.relkind = 'r'"
    )
    every = max(1, sum(blocks for _, blocks in sizes) // max(1, wanted))
    for table, blocks in sizes:
        server.query(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE ctid = ANY (ARRAY("
            f"SELECT format('(%s,1)', block)::tid FROM generate_series(0, {blocks - 1}, {every}) block)) FOR UPDATE) _"
        )
    server.query("CHECKPOINT")


class _Tool:
    """A tool that takes backups into ``place`` and restores them. ``last`` is the cost of the backup before."""

    name: str
    last: Usage

    def __init__(self, bench: Bench, server: PostgresServer, store: StoreServer | None = None) -> None:
        self.bench = bench
        self.server = server
        self.place = Place.new(store or bench.plain, bench.new_directory("contestant"))

    def take(self, parent: str | None) -> None:
        """Take a backup; of what changed since ``parent``, if it is given."""
        raise NotImplementedError

    def restore(self, backup: str) -> Callable[[Path], Command]:
        """Return what makes the command that restores a backup into a directory."""
        raise NotImplementedError


class _Ours(_Tool):
    name = OURS

    def __init__(self, bench: Bench, server: PostgresServer, method: str = "stream") -> None:
        super().__init__(bench, server)
        self.method = method

    def take(self, parent: str | None) -> None:
        arguments = ["--method", self.method, "--zstd", "--immediate-checkpoint", "--jobs", str(self.bench.jobs)]
        arguments += ["--host", "127.0.0.1", "--port", str(self.server.port), "--user", SUPERUSER]
        arguments += ["--incremental", parent] if parent else []
        self.last = _measured(self._command("barman-cloud-backup", *arguments, self.place.url, SERVER))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        def make(target: Path) -> Command:
            jobs = ["--jobs", str(self.bench.jobs)]
            return self._command("barman-cloud-restore", *jobs, self.place.url, SERVER, backup, str(target))

        return make

    def _command(self, program: str, *arguments: str) -> Command:
        path = our_commands().path(program)
        return Command.of(path, *self.place.store.options, *arguments, environ=self.place.environ)


class _Tools(_Tool):
    """PostgreSQL's own programs around objects that rclone puts and gets: ``pg_basebackup``, ``pg_combinebackup``."""

    name = "pg_combinebackup"

    def __init__(self, bench: Bench, server: PostgresServer) -> None:
        super().__init__(bench, server)
        self.taken: list[str] = []

    def take(self, parent: str | None) -> None:
        number = f"{len(self.taken):03}"
        manifest = self.place.directory / f"{self.taken[-1]}.manifest" if parent else None
        staging = self.place.directory / number
        program, _ = find_tool("pg_basebackup", self.server.installation)
        take = [program, "-Ft", "-X", "none", "-c", "fast", "--no-sync", "-D", str(staging)]
        take += ["--incremental", str(manifest)] if manifest else []
        steps = [
            shlex.join(take),
            f"zstd -2 -T0 -q -c {staging}/base.tar | {self._rclone('rcat', number)}",
            f"mv {staging}/backup_manifest {self.place.directory}/{number}.manifest",
            f"rm -r {staging}",
        ]
        self.last = _measured(self._shell(" && ".join(steps)))
        self.taken.append(number)

    def restore(self, backup: str) -> Callable[[Path], Command]:
        def make(target: Path) -> Command:
            places = [target.with_name(f"{target.name}-{number}") for number in self.taken]
            steps = []
            for number, place in zip(self.taken, places, strict=True):
                unpack = f"{self._rclone('cat', number)} | zstd -d -q -c | tar -x -C {place}"
                steps += [
                    f"mkdir -m 700 {place}",
                    unpack,
                    f"cp {self.place.directory}/{number}.manifest {place}/backup_manifest",
                ]
            if len(places) == 1:
                steps.append(f"mv {places[0]} {target}")
            else:
                program, _ = find_tool("pg_combinebackup", self.server.installation)
                steps.append(shlex.join([program, "-N", "-o", str(target), *map(str, places)]))
            return self._shell(" && ".join(steps))

        return make

    def _rclone(self, verb: str, number: str) -> str:
        return shlex.join([rclone_program(), verb, f":s3:{self.place.bucket}/{number}.tar.zst"])

    def _shell(self, script: str) -> Command:
        _, libraries = find_tool("pg_basebackup", self.server.installation)
        environ = {
            "RCLONE_CONFIG": str(self.place.directory / "none"),
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": self.place.store.endpoint,
            **self.place.environ,
            **libraries,
            **self.server.client_environ,
        }
        return Command.of("bash", "-o", "pipefail", "-c", script, environ=environ)


class _Barman(_Tool):
    """Barman's server, which streams through a directory, and combines what it has downloaded to another."""

    name = "Barman"

    def __init__(self, bench: Bench, server: PostgresServer) -> None:
        super().__init__(bench, server)
        commands = find_barman()
        assert commands is not None
        self.barman = BarmanServer.create(
            commands, self.place.directory, server, SERVER, self.place.url, self.place.environ
        )
        self.barman.archive_a_segment()

    def take(self, parent: str | None) -> None:
        increment = ["--incremental", "latest"] if parent else []
        self.last = _measured(self._command("backup", SERVER, "--immediate-checkpoint", *increment))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        def make(target: Path) -> Command:
            staging = target.with_name(f"{target.name}-staging")
            staging.mkdir()
            server_account().own(staging)
            return self._command("restore", SERVER, backup, str(target), "--staging-path", str(staging))

        return make

    def _command(self, *arguments: str) -> Command:
        return Command.of(*self.barman.command(*arguments), environ=self.barman.environ)


class _PgBackRest(_Tool):
    """pgBackRest, with incremental backups as its version makes them: whole files, unless it knows blocks."""

    def __init__(self, bench: Bench, server: PostgresServer, program: str) -> None:
        super().__init__(bench, server, bench.secure)
        self.rest = pgbackrest(program)
        self.name = self.rest.name
        self.rest.prepare(server, self.place, "zstd", bench.jobs)

    def take(self, parent: str | None) -> None:
        command = self.rest.backup(self.server, self.place, "zstd", self.bench.jobs)
        kind = "--type=incr" if parent else "--type=full"
        argv = [kind if word == "--type=full" else word for word in command.argv]
        self.last = _measured(Command(argv, command.environ))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        return lambda target: self.rest.restore(self.place, target, self.bench.jobs)


def _measured(command: Command) -> Usage:
    return measure(command.argv, command.environ)


def _restore(bench: Bench, make: Callable[[Path], Command]) -> Usage:
    parent = bench.new_directory("restored")
    command = make(parent / "data")
    sync(parent)
    used = measure(command.argv, command.environ, last=partial(sync, parent))
    discard(parent)
    return used


def _add(bench: Bench, case: str, contestant: str, used: Usage, note: str = "") -> None:
    bench.results.add(_SCENARIO, case, contestant, used, note)


def _stored(server: PostgresServer, stored: int) -> str:
    return f"{stored / 2**20:.1f} MiB stored of {data_size(server) / 2**20:.0f}"
