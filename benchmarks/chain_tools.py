"""The tools whose chains of incremental backups are measured: a full backup, increments, and the restore of either."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from tests.support.barman_server import BarmanServer
from tests.support.installations import find_tool
from tests.support.peers import find_barman, our_commands
from tests.support.postgres import SUPERUSER, PostgresServer
from tests.support.privileges import server_account
from tests.support.servers import StoreServer, rclone_program

from benchmarks.contestants import SERVER, PgBackRest, WalG
from benchmarks.meter import Usage, measure
from benchmarks.results import OURS
from benchmarks.setting import Bench, Command, Place

CODEC = "zstd"


class Tool:
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


class Ours(Tool):
    """Ours, by either method."""

    def __init__(self, bench: Bench, server: PostgresServer, method: str, store: StoreServer | None = None) -> None:
        super().__init__(bench, server, store)
        self.method = method
        self.name = f"{OURS}, {method}"

    def take(self, parent: str | None) -> None:
        arguments = ["--method", self.method, f"--{CODEC}", "--immediate-checkpoint", "--jobs", str(self.bench.jobs)]
        arguments += ["--host", "127.0.0.1", "--port", str(self.server.port), "--user", SUPERUSER]
        arguments += ["--incremental", parent] if parent else []
        self.last = measured(self._command("barman-cloud-backup", *arguments, self.place.url, SERVER))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        def make(target: Path) -> Command:
            jobs = ["--jobs", str(self.bench.jobs)]
            return self._command("barman-cloud-restore", *jobs, self.place.url, SERVER, backup, str(target))

        return make

    def _command(self, program: str, *arguments: str) -> Command:
        path = our_commands().path(program)
        return Command.of(path, *self.place.store.options, *arguments, environ=self.place.environ)


class PostgresTools(Tool):
    """PostgreSQL's own programs around objects that rclone puts and gets: ``pg_basebackup``, ``pg_combinebackup``."""

    name = "PostgreSQL's own"

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
        self.last = measured(self._shell(" && ".join(steps)))
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


class Barman(Tool):
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
        self.last = measured(self._command("backup", SERVER, "--immediate-checkpoint", *increment))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        def make(target: Path) -> Command:
            staging = target.with_name(f"{target.name}-staging")
            staging.mkdir()
            server_account().own(staging)
            return self._command("restore", SERVER, backup, str(target), "--staging-path", str(staging))

        return make

    def _command(self, *arguments: str) -> Command:
        return Command.of(*self.barman.command(*arguments), environ=self.barman.environ)


class Rest(Tool):
    """pgBackRest, with incremental backups as its version makes them: of whole files before 2.46, of blocks since."""

    def __init__(self, bench: Bench, server: PostgresServer, rest: PgBackRest) -> None:
        super().__init__(bench, server, bench.secure)
        self.rest = rest
        self.name = rest.name
        self.rest.prepare(server, self.place, CODEC, bench.jobs)

    def take(self, parent: str | None) -> None:
        command = self.rest.backup(self.server, self.place, CODEC, self.bench.jobs)
        kind = "--type=incr" if parent else "--type=full"
        argv = [kind if word == "--type=full" else word for word in command.argv]
        self.last = measured(Command(argv, command.environ))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        return lambda target: self.rest.restore(self.place, target, self.bench.jobs)


class Deltas(Tool):
    """WAL-G, whose delta backups build on the newest backup by themselves."""

    def __init__(self, bench: Bench, server: PostgresServer, wal_g: WalG) -> None:
        super().__init__(bench, server)
        self.wal_g = wal_g
        self.name = wal_g.name
        self.wal_g.prepare(server, self.place, CODEC, bench.jobs)

    def take(self, parent: str | None) -> None:
        self.last = measured(self.wal_g.backup(self.server, self.place, CODEC, self.bench.jobs))

    def restore(self, backup: str) -> Callable[[Path], Command]:
        return lambda target: self.wal_g.restore(self.place, target, self.bench.jobs)


def measured(command: Command) -> Usage:
    """Run a command to its end."""
    return measure(command.argv, command.environ)
