"""Real PostgreSQL servers for the tests, the demo and the benchmarks.

Servers run as an unprivileged user (``privileges.py``), listen on a free loopback port and on a Unix socket in their
own directory, don't fsync, and archive for real when asked to. What belongs to a run (port, sockets) is given on the
server's command line, so a data directory holds nothing that would hinder its restored copy from running beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.support.clusters import make_cluster
from tests.support.installations import Installation, find_installations, find_tool, newest_installation
from tests.support.ports import end, free_port, tail, wait_for
from tests.support.privileges import server_account

SUPERUSER = "postgres"
SOCKET_PATH_LIMIT = 108
INITDB_OPTIONS = ("-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "-N")

FAST_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_senders": "5",
    "archive_timeout": "0",
    "checkpoint_timeout": "1h",
    "max_wal_size": "2GB",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "logging_collector": "off",
    "log_min_messages": "info",
    "timezone": "UTC",
}


@dataclass
class PostgresServer:
    """A data directory and the server process on it, if one runs."""

    installation: Installation
    data: Path
    """PGDATA; its parent holds the socket, the log and tablespaces made by :meth:`create_tablespace`."""
    settings: dict[str, str] = field(default_factory=dict)
    """Given on the command line of the server, so they win over the files in PGDATA."""
    environ: dict[str, str] = field(default_factory=dict)
    """Added to the environment of the server, and so of archive_command and restore_command."""
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(
        cls,
        directory: Path,
        installation: Installation | None = None,
        *,
        initdb: Sequence[str] = ("--data-checksums",),
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> PostgresServer:
        """Make a new cluster in ``directory``/data, not yet started; ``settings`` go into its postgresql.conf."""
        installation = installation or newest_installation()
        server_directory(directory)
        data = directory / "data"
        environment = command_environment(installation.environ)
        make_cluster(installation.tool("initdb"), [*INITDB_OPTIONS, *initdb], sorted(environment.items()), data)
        lines = [f"{name} = {_quoted(value)}" for name, value in {**FAST_SETTINGS, **(settings or {})}.items()]
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write("\n".join(["", "# settings of this test server", *lines, ""]))
        return cls(installation, data, environ=dict(environ or {}))

    # --- life of the process -------------------------------------------------------------------------------------

    @property
    def directory(self) -> Path:
        """The directory that holds PGDATA, the sockets and the log."""
        return self.data.parent

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self.directory / f"{self.data.name}.log"

    def start(self, *, wait: bool = True, timeout: float = 200.0) -> PostgresServer:
        """Start the server and, if ``wait``, return when it answers queries (a standby: read-only ones)."""
        run_settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.directory) if self._socket_fits() else "",
            **self.settings,
        }
        options = [option for name, value in run_settings.items() for option in ("-c", f"{name}={value}")]
        program = [self.installation.tool("postgres"), "-D", str(self.data), *options]
        command = server_account().command(program, parent_death_signal=signal.SIGQUIT)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=command_environment({**self.installation.environ, **self.environ}),
                cwd=self.directory,
            )
        if wait:
            try:
                wait_for(self._answers, timeout=timeout, what=f"PostgreSQL in {self.data} to answer")
            except Exception:
                self.stop(mode="immediate")
                raise
        return self

    def _answers(self) -> bool:
        self.check_alive()
        try:
            self.value("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def check_alive(self) -> None:
        """Raise RuntimeError with the end of the log if the server has gone."""
        if self.process is None or self.process.poll() is not None:
            status = self.process.returncode if self.process else "not started"
            raise RuntimeError(f"PostgreSQL in {self.data} isn't running ({status}): {tail(self.log)}")

    def stop(self, *, mode: str = "fast", timeout: float = 120.0) -> None:
        """Stop the server: ``smart``, ``fast`` or ``immediate``; nothing happens if it doesn't run."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(
                {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout)
        end(self.process)
        self.process = None

    def crash(self) -> None:
        """Kill the server and wait until its children are gone too."""
        self.stop(mode="immediate")

    def restart(self) -> PostgresServer:
        """Stop (fast) and start again."""
        self.stop()
        return self.start()

    def __enter__(self) -> PostgresServer:
        if self.process is None:
            self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop(mode="immediate")

    # --- talking to it -------------------------------------------------------------------------------------------

    @property
    def conninfo(self) -> str:
        """A libpq connection string over TCP."""
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname=postgres"

    @property
    def client_environ(self) -> dict[str, str]:
        """``PG*`` variables for client programs, over the Unix socket where its path isn't too long for one."""
        return {
            "PGHOST": str(self.directory) if self._socket_fits() else "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": "postgres",
        }

    def _socket_fits(self) -> bool:
        return len(str(self.directory)) + len("/.s.PGSQL.65535") < SOCKET_PATH_LIMIT

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection in autocommit mode."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=SUPERUSER, dbname=dbname, autocommit=True, connect_timeout=60
        )

    def query(self, sql: str, parameters: Sequence[object] | None = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows, if it has any."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def value(self, sql: str, parameters: Sequence[object] | None = None) -> Any:
        """Return the first column of the first row."""
        return self.query(sql, parameters)[0][0]

    def run_tool(self, tool: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a client program such as ``psql`` or ``pg_amcheck``, of this or a newer installation, on the server."""
        program, environ = find_tool(tool, self.installation)
        return run_as_server([program, *arguments], environ={**environ, **self.client_environ}, check=check)

    def pgbench(self, *arguments: str) -> None:
        """Run pgbench, such as ``pgbench("-i", "-s", "5")``."""
        quiet = ["--quiet"] if "-i" in arguments else []
        self.run_tool("pgbench", *quiet, *arguments)

    def amcheck(self) -> None:
        """Check every heap and B-tree of every database with pg_amcheck; CalledProcessError if something is wrong."""
        self.run_tool("pg_amcheck", "--all", "--install-missing", "--heapallindexed")

    # --- arranging it --------------------------------------------------------------------------------------------

    def configure(self, **settings: str) -> None:
        """Change settings with ALTER SYSTEM and reload; those that need a restart take effect at the next one."""
        for name, value in settings.items():
            self.query(f"ALTER SYSTEM SET {name} = {_quoted(value)}")
        self.query("SELECT pg_reload_conf()")

    def create_tablespace(self, name: str, location: Path | None = None) -> Path:
        """Create a tablespace in an own directory beside PGDATA (or at ``location``) and return the directory."""
        location = location or self.directory / f"tablespace-{name}"
        server_directory(location)
        self.query(f"CREATE TABLESPACE {name} LOCATION {_quoted(str(location))}")
        return location

    def archive_with(self, command: str) -> None:
        """Archive with this shell command from now on; restarts the server if archive_mode was off."""
        self.configure(archive_mode="on", archive_command=command)
        if self.value("SHOW archive_mode") != "on":
            self.restart()
        # Until the archiver is up, nobody hears of a finished segment, and it would look again only after a minute.
        archiver = "SELECT 1 FROM pg_stat_activity WHERE backend_type = 'archiver'"
        wait_for(lambda: self.query(archiver), what="the archiver to start")

    def switch_wal(self) -> str:
        """Finish the current segment and return its name; on an idle server too."""
        self.query("SELECT pg_create_restore_point('switch')")
        return str(self.value("SELECT pg_walfile_name(pg_switch_wal())"))

    def wait_archived(self, name: str, *, timeout: float = 200.0) -> None:
        """Wait until the archiver is done with the WAL file ``name``; what failed last is in the TimeoutError.

        After three failures the archiver pauses for a minute, so this waits for longer.
        """
        done = self.data / "pg_wal" / "archive_status" / f"{name}.done"
        ready = done.with_suffix(".ready")

        def archived() -> bool:
            self.check_alive()
            return done.exists() or (not ready.exists() and str(self._last_archived() or "") >= name)

        try:
            wait_for(archived, timeout=timeout, what=f"WAL file {name} to be archived")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {tail(self.log)}") from None

    def _last_archived(self) -> str | None:
        name: str | None = self.value("SELECT last_archived_wal FROM pg_stat_archiver")
        return name

    def standby(self, directory: Path, *, settings: Mapping[str, str] | None = None) -> PostgresServer:
        """Make a streaming standby of this server in ``directory``, started and caught up with the present."""
        server_directory(directory)
        data = directory / "data"
        mappings = [
            f"--tablespace-mapping={location}={directory / name}"
            for name, location in self.query(
                "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname !~ '^pg_'"
            )
        ]
        self.run_tool("pg_basebackup", "-D", str(data), "-R", "-X", "stream", "-c", "fast", *mappings)
        standby = PostgresServer(self.installation, data, settings=dict(settings or {}), environ=dict(self.environ))
        standby.start()
        try:
            wait_for(
                lambda: standby.query("SELECT status FROM pg_stat_wal_receiver") == [("streaming",)],
                what=f"standby in {data} to stream",
            )
        except TimeoutError:
            standby.stop(mode="immediate")
            raise
        return standby

    def promote(self) -> None:
        """Promote this standby and wait until it takes writes."""
        self.query("SELECT pg_promote()")
        wait_for(lambda: not self.in_recovery(), what="promotion")

    def in_recovery(self) -> bool:
        """Tell whether the server is a standby or still replays WAL."""
        return bool(self.value("SELECT pg_is_in_recovery()"))

    def recover_with(self, restore_command: str, **targets: str) -> None:
        """Prepare a restored PGDATA, before its start, for archive recovery; then start and :meth:`wait_recovered`.

        ``targets`` are ``recovery_target_*`` settings; the target action is ``promote``.
        """
        settings = {"restore_command": restore_command, "recovery_target_action": "promote", **targets}
        with (self.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        (self.data / "recovery.signal").touch(mode=0o600)
        server_account().own(self.data)

    def wait_recovered(self, *, timeout: float = 200.0) -> None:
        """Wait until archive recovery is over and the server takes writes."""

        def recovered() -> bool:
            return self._answers() and not self.in_recovery()

        wait_for(recovered, timeout=timeout, what=f"recovery in {self.data}")


def adopt(data: Path, installation: Installation | None = None, **settings: str) -> PostgresServer:
    """Return a server on a restored PGDATA, not yet started, that never archives.

    The directory is handed to the server's user and made private, as PostgreSQL wants it.
    """
    server_account().own(data)
    data.chmod(0o700)
    major = int((data / "PG_VERSION").read_text())
    installation = installation or next(found for found in find_installations() if found.major == major)
    return PostgresServer(installation, data, settings={"archive_mode": "off", **settings})


def server_directory(path: Path) -> Path:
    """Create ``path`` if it is missing, private to the server's user."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return server_account().own(path)


@contextlib.contextmanager
def temporary_server_directory() -> Iterator[Path]:
    """A short temporary directory that the servers' user can read and write; removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    server_account().own(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


SOURCE = "BARMAN_CLOUD_TEST_SOURCE"
"""Names the directory whose ``barman_cloud`` the commands are to run, if it isn't the installed one (tests/mutants)."""


def command_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a small environment with our commands first on the PATH."""
    own = os.path.dirname(sys.executable)
    kept = ("LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "COVERAGE_FILE", "TZ")
    source = {"PYTHONPATH": os.environ[SOURCE]} if SOURCE in os.environ else {}
    return {
        "PATH": os.pathsep.join([own, os.environ.get("PATH", os.defpath)]),
        "LC_ALL": "C.UTF-8",
        "HOME": "/nonexistent",
        **{name: os.environ[name] for name in kept if name in os.environ},
        **source,
        **(extra or {}),
    }


def run_as_server(
    argv: Sequence[str | os.PathLike[str]],
    *,
    environ: Mapping[str, str] | None = None,
    check: bool = True,
    timeout: float = 300.0,
) -> subprocess.CompletedProcess[str]:
    """Run a program as the servers' user and return its output; RuntimeError with stderr if ``check`` and it failed."""
    done = subprocess.run(
        server_account().command(argv),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=command_environment(environ),
        cwd="/",
        timeout=timeout,
        check=False,
    )
    if check and done.returncode != 0:
        shown = " ".join(os.fspath(argument) for argument in argv)
        raise RuntimeError(
            f"{shown} failed with status {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
