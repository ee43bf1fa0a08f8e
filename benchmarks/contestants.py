"""The tools that are compared, each behind the same few verbs.

All are run as black boxes by what their documentation says; none is told anything that makes it slower than its
defaults, except that every one uses as many workers as ours, and what its documentation recommends for speed is on. All
compress WAL with fast LZ4, the default of pgBackRest and WAL-G.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.support.peers import Commands, find_barman, our_commands
from tests.support.postgres import SUPERUSER, PostgresServer, run_as_server
from tests.support.privileges import server_account
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY

from benchmarks.results import OURS
from benchmarks.setting import NONE, Command, Place

SERVER = "main"
_UNKNOWN = "0.0"
"""The version of a program that doesn't tell."""
_FOR_BOTO3 = (("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),)
"""Over TLS, boto3 sends checksums behind the data by default, which ``rclone serve s3`` doesn't take."""


class Contestant(Protocol):
    """A tool that backs up, restores, archives and fetches."""

    @property
    def name(self) -> str: ...

    @property
    def codecs(self) -> frozenset[str]:
        """Return the compressions of backups that it knows."""

    def prepare(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> None:
        """Do what must be done once for a new bucket; not measured."""

    def backup(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> Command:
        """Return the command that takes a full backup."""

    def restore(self, place: Place, target: Path, jobs: int) -> Command:
        """Return the command that restores the only backup into ``target``, which isn't there yet."""

    def archive_command(self, place: Place) -> str:
        """Return a value of ``archive_command``, compressing with lz4."""

    def restore_command(self, place: Place) -> str:
        """Return a value of ``restore_command``."""


@dataclass(frozen=True)
class CloudScripts:
    """Ours and Barman's, which share their command lines."""

    name: str
    commands: Commands
    parallel: int = 0
    """For the WAL commands."""
    parallel_archive: bool = False
    jobs_to_restore: bool = False
    environ: tuple[tuple[str, str], ...] = ()
    codecs: frozenset[str] = frozenset({NONE, "gzip", "lz4", "zstd", "snappy"})

    def prepare(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> None:
        pass

    def backup(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> Command:
        flags = [] if codec == NONE else [f"--{codec}"]
        where = ["--host", "127.0.0.1", "--port", str(server.port), "--user", SUPERUSER]
        program = self.commands.path("barman-cloud-backup")
        return self._command(
            place, program, *flags, "--immediate-checkpoint", "--jobs", str(jobs), *where, place.url, SERVER
        )

    def restore(self, place: Place, target: Path, jobs: int) -> Command:
        parallel = ["--jobs", str(jobs)] if self.jobs_to_restore else []
        program = self.commands.path("barman-cloud-restore")
        return self._command(place, program, *parallel, place.url, SERVER, "latest", str(target))

    def archive_command(self, place: Place) -> str:
        # Their default level, "medium", is another algorithm that is many times slower than pgBackRest's default.
        level = ["--lz4", "--compression-level", "low"]
        program = [self.commands.path("barman-cloud-wal-archive"), *level, *place.store.options]
        spool = self._spool(place) if self.parallel_archive else []
        return f"{self._assignments}{shlex.join([*program, *spool, place.url, SERVER])} %p"

    def restore_command(self, place: Place) -> str:
        program = [self.commands.path("barman-cloud-wal-restore"), *place.store.options]
        spool = self._spool(place) if self.parallel else []
        return f"{self._assignments}{shlex.join([*program, *spool, place.url, SERVER])} %f %p"

    @property
    def _assignments(self) -> str:
        return "".join(f"{name}={value} " for name, value in self.environ)

    def _spool(self, place: Place) -> list[str]:
        return ["--parallel", str(self.parallel), "--spool-dir", str(place.directory / "spool")]

    def _command(self, place: Place, program: str, *arguments: str) -> Command:
        return Command.of(program, *place.store.options, *arguments, environ={**place.environ, **dict(self.environ)})


@dataclass(frozen=True)
class PgBackRest:
    """pgBackRest, with bundles of small files and asynchronous WAL; it insists on TLS.

    It has as many processes for WAL as for backups: with eight of them, on two processors, it was slower.
    """

    program: str
    name: str = "pgBackRest"
    codecs: frozenset[str] = frozenset({NONE, "gzip", "lz4", "zstd"})
    blocks: bool = False
    """Whether its incremental backups store changed blocks, which it knows from 2.46 on, and not whole files."""

    _TYPES = {NONE: "none", "gzip": "gz", "lz4": "lz4", "zstd": "zst"}

    def prepare(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> None:
        port = place.store.endpoint.rpartition(":")[2]
        settings = {
            "repo1-type": "s3",
            "repo1-path": "/repo",
            "repo1-bundle": "y",
            "repo1-s3-bucket": place.bucket,
            "repo1-s3-endpoint": "localhost",
            "repo1-s3-region": REGION,
            "repo1-s3-key": ACCESS_KEY,
            "repo1-s3-key-secret": SECRET_KEY,
            "repo1-s3-uri-style": "path",
            "repo1-storage-port": port,
            "repo1-storage-ca-file": str(place.store.certificate),
            "lock-path": str(place.directory / "lock"),
            "spool-path": str(place.directory / "spool"),
            "log-level-file": "off",
            "log-level-console": "warn",
            "process-max": str(jobs),
            "compress-type": self._TYPES[codec],
            "start-fast": "y",
            "archive-async": "y",
            "archive-check": "n",
            "archive-get-queue-max": "256MiB",
            **({"repo1-block": "y"} if self.blocks else {}),
        }
        cluster = {
            "pg1-path": str(server.data),
            "pg1-port": str(server.port),
            "pg1-user": SUPERUSER,
            "pg1-socket-path": str(server.directory),
        }
        sections = {"global": settings, SERVER: cluster}
        text = "".join(
            f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in values.items())
            for name, values in sections.items()
        )
        self._configuration(place).write_text(text)
        self._configuration(place).chmod(0o644)
        (place.directory / "spool").mkdir()
        server_account().own(place.directory)
        run_as_server([*self._call(place), "stanza-create"])

    def backup(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> Command:
        return Command.of(*self._call(place), "backup", "--type=full", environ=place.environ)

    def restore(self, place: Place, target: Path, jobs: int) -> Command:
        target.mkdir(mode=0o700)
        server_account().own(target)
        return Command.of(*self._call(place), f"--pg1-path={target}", "restore", environ=place.environ)

    def archive_command(self, place: Place) -> str:
        return f"{shlex.join(self._call(place))} archive-push %p"

    def restore_command(self, place: Place) -> str:
        # The cluster that recovers isn't the one of the configuration, and the working directory is its own.
        return f'{shlex.join(self._call(place))} --pg1-path="$PWD" archive-get %f %p'

    def _configuration(self, place: Place) -> Path:
        return place.directory / "pgbackrest.conf"

    def _call(self, place: Place) -> list[str]:
        return [self.program, f"--config={self._configuration(place)}", f"--stanza={SERVER}"]


@dataclass(frozen=True)
class WalG:
    """WAL-G, which archives and fetches WAL with the concurrency of its defaults."""

    program: str
    name: str = "WAL-G"
    codecs: frozenset[str] = frozenset({"lz4", "zstd"})
    deltas: int = 0
    """How many delta backups may build on a full one."""

    def prepare(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> None:
        settings = {
            **place.environ,
            "WALG_S3_PREFIX": f"{place.url}/walg",
            "AWS_ENDPOINT": place.store.endpoint,
            "AWS_S3_FORCE_PATH_STYLE": "true",
            "AWS_REGION": REGION,
            "WALG_COMPRESSION_METHOD": codec,
            "WALG_DELTA_MAX_STEPS": str(self.deltas),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGUSER": SUPERUSER,
        }
        if place.store.certificate:
            settings["WALG_S3_CA_CERT_FILE"] = str(place.store.certificate)
        text = "#!/bin/sh\n" + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
        script = self._script(place)
        script.write_text(f'{text}exec {shlex.quote(self.program)} "$@"\n')
        script.chmod(0o755)

    def backup(self, server: PostgresServer, place: Place, codec: str, jobs: int) -> Command:
        return self._backup(place, jobs, str(server.data))

    def remote_backup(self, place: Place, jobs: int) -> Command:
        """Return the command that takes a backup over a replication connection."""
        return self._backup(place, jobs)

    def _backup(self, place: Place, jobs: int, *arguments: str) -> Command:
        environ = {"WALG_UPLOAD_CONCURRENCY": str(jobs), "WALG_UPLOAD_DISK_CONCURRENCY": str(jobs)}
        return Command.of(self._script(place), "backup-push", *arguments, environ={**place.environ, **environ})

    def restore(self, place: Place, target: Path, jobs: int) -> Command:
        environ = {**place.environ, "WALG_DOWNLOAD_CONCURRENCY": str(jobs)}
        return Command.of(self._script(place), "backup-fetch", target, "LATEST", environ=environ)

    def archive_command(self, place: Place) -> str:
        return f"{self._script(place)} wal-push %p"

    def restore_command(self, place: Place) -> str:
        return f"{self._script(place)} wal-fetch %f %p"

    def _script(self, place: Place) -> Path:
        return place.directory / "wal-g"


def ours(parallel: int = 0) -> CloudScripts:
    """Return our own commands, with ``--parallel`` for WAL if it isn't 0."""
    name = f"{OURS} --parallel {parallel}" if parallel else OURS
    return CloudScripts(name, our_commands(), parallel, bool(parallel), jobs_to_restore=True)


def barman(parallel: int = 0) -> CloudScripts | None:
    """Return Barman's, if ``make peers`` was run; only its restore_command knows ``--parallel``."""
    commands = find_barman()
    if commands is None:
        return None
    version = ".".join(map(str, commands.version))
    name = f"Barman {version} --parallel {parallel}" if parallel else f"Barman {version}"
    return CloudScripts(name, commands, parallel, environ=_FOR_BOTO3)


def others(major: int) -> list[Contestant]:
    """Return what is on the PATH; pgBackRest only if it knows this major version of PostgreSQL."""
    found: list[Contestant] = []
    if (program := shutil.which("pgbackrest")) and newest_for_pgbackrest(program) >= major:
        found.append(pgbackrest(program))
    return [*found, *wal_g()]


def pgbackrest(program: str) -> PgBackRest:
    """Return the one at this path."""
    version = _version(program, "version")
    return PgBackRest(program, f"pgBackRest {version}", blocks=_numbers(version) >= (2, 46))


def wal_g(deltas: int = 0) -> list[WalG]:
    """Return the one on the PATH, if there is one."""
    program = shutil.which("wal-g")
    if program is None:
        return []
    name = f"WAL-G {_version(program, '--version')}".removesuffix(f" {_UNKNOWN}")
    return [WalG(program, name, deltas=deltas)]


def newest_for_pgbackrest(program: str) -> int:
    """Return the newest major version of PostgreSQL that this pgBackRest knows (from its release notes)."""
    version = _numbers(_version(program, "version"))
    known = {(2, 41): 15, (2, 48): 16, (2, 54): 17, (2, 57): 18}
    return max((major for since, major in known.items() if version >= since), default=14)


def _version(program: str, question: str) -> str:
    shown = subprocess.run([program, question], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\d+(\.\d+)+", shown)
    return match[0] if match else _UNKNOWN


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
