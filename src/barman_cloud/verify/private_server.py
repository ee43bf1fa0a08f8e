"""A PostgreSQL server that nobody else can reach, on a restored data directory, until it is stopped.

It listens on a Unix socket in a directory of its own user alone, archives nothing, follows nobody, subscribes to
nothing, runs no jobs, and has a configuration of its own: what the restored one includes, loads and logs to belongs to
another machine. Of that one only ``postgresql.auto.conf`` is read, so whatever in it could reach beyond the data
directory is set on the command line. The few settings that recovery depends on come from the control file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from barman_cloud import logs
from barman_cloud.errors import DrillError, OperationError
from barman_cloud.postgres.programs import Programs
from barman_cloud.postgres.wal import parse_lsn

log = logs.get_logger(__name__)

_COMPARED = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
"""Settings that must not be lower than the primary's (PostgreSQL docs, 26.4.3), and how pg_controldata names them."""

_INERT: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "unix_socket_group": "",
    "port": "5432",
    "ssl": "off",
    "external_pid_file": "",
    "archive_mode": "off",
    "archive_command": "",
    # Somebody else's commands: a former standby may have one that removes WAL from an archive.
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "recovery_min_apply_delay": "0",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    # A restored subscription would take over the replication slot of the real one.
    "max_logical_replication_workers": "0",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "lc_messages": "C",
    # The copy is thrown away: what a power failure would do to it doesn't matter.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "restart_after_crash": "off",
    # Nobody reads before recovery is over. A hot standby pauses for ever where WAL raises max_connections, say.
    "hot_standby": "off",
    # Those of the restored cluster are made for another machine.
    "shared_buffers": "128MB",
    "huge_pages": "off",
}
_INERT_SINCE: Mapping[int, Mapping[str, str]] = {
    15: {"archive_library": ""},
    17: {"event_triggers": "off", "sync_replication_slots": "off"},
}
_INERT_UNTIL: Mapping[int, Mapping[str, str]] = {
    14: {"stats_temp_directory": "pg_stat_tmp"},
    15: {"promote_trigger_file": ""},
}
"""By major version: the first, or the last, that has the setting."""
_JOBS = {
    "pg_cron": {"cron.launch_active_jobs": "off"},
    "timescaledb": {"timescaledb.restoring": "on"},
}
"""Preloaded libraries that run jobs of their own, and what keeps them from it."""

_NOT_YET = re.compile(
    r"the database system is (starting up|not yet accepting|not accepting|in recovery)"
    r"|connection to server .*(No such file|refused)|connection timeout"
)
"""Why a server that is recovering can't be reached."""
_PATIENCE = 10.0
"""Seconds for which any other reason may be given."""
_LONGEST_SOCKET = 107
"""Bytes of the path of a Unix socket (unix(7))."""
_STOP_TIMEOUT = 60.0
_LOG_LINES = 5


class Recovered(NamedTuple):
    """How far recovery went."""

    timeline: int
    """The one that the server is on now."""
    lsn: int | None
    """The end of the last record of WAL that was applied; None if none was."""
    time: datetime | None
    """When the last transaction was committed that was applied; None if none was."""


class PrivateServer:
    """Starts on entering a ``with`` block, and is gone on leaving it, with everything but the data directory."""

    def __init__(
        self,
        programs: Programs,
        data: Path,
        recovery: Mapping[str, str],
        *,
        user: str = "postgres",
        place: Path | None = None,
    ) -> None:
        """``recovery`` are the recovery settings, in the order in which they must be given.

        What is private to the server goes to ``place``, unless a socket's path can't be so long.
        """
        self._programs = programs
        self._data = data
        self._recovery = recovery
        self._user = user
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._private_directory: Path | None = None

    @property
    def log_file(self) -> Path:
        return self._private / "log"

    @property
    def _private(self) -> Path:
        assert self._private_directory is not None, "the server wasn't started"
        return self._private_directory

    def __enter__(self) -> PrivateServer:
        self._private_directory = _private_directory(self._place)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def wait_for_recovery(self, timeout: float) -> float:
        """Return the seconds until the server had recovered and was open for writing.

        ``OperationError`` with the server's last words if it ended, or isn't that far after ``timeout`` seconds; with
        what it says if it lets nobody in. ``DrillError`` if it has no such user.
        """
        began = last_quiet = time.monotonic()
        while time.monotonic() - began < timeout:
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                raise OperationError(f"PostgreSQL ended with {code} during recovery: {self.last_words()}")
            try:
                with self.connect("postgres") as connection:
                    row = connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
                    if row == (False,):
                        return time.monotonic() - began
                    last_quiet = time.monotonic()
            except psycopg.OperationalError as error:
                if "role" in str(error) and "does not exist" in str(error):
                    raise DrillError(
                        f"the restored cluster has no role {self._user}", hint="name its superuser with --user"
                    ) from error
                if _NOT_YET.search(str(error)):
                    last_quiet = time.monotonic()
                elif time.monotonic() - last_quiet > _PATIENCE:
                    raise OperationError(f"the restored server lets nobody in: {error}") from error
            time.sleep(min(1.0, max(0.05, (time.monotonic() - began) / 50)))
        raise OperationError(
            f"recovery isn't complete after {timeout:.0f} s: {self.last_words()}",
            hint="give it longer with --recovery-timeout",
        )

    def recovered(self) -> Recovered:
        """Tell how far recovery went; the server must be open for writing."""
        with self.connect("postgres") as connection:
            row = connection.execute(
                "SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()),"
                " pg_catalog.pg_last_wal_replay_lsn()::text, pg_catalog.pg_last_xact_replay_timestamp()"
            ).fetchone()
        assert row is not None
        name, lsn, moment = row
        return Recovered(int(name[:8], 16), parse_lsn(lsn) if lsn else None, moment)

    def connect(self, dbname: str) -> psycopg.Connection[tuple[Any, ...]]:
        """Open a connection in autocommit mode. ``PGHOSTADDR`` and ``PGSERVICE`` of the environment must not be set."""
        return psycopg.connect(
            host=str(self._private), port=5432, user=self._user, dbname=dbname, autocommit=True, connect_timeout=10
        )

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's client programs on the server, as its user; it ends with this process."""
        path = self._programs.path(program)
        assert path is not None, program
        others = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        ours = {"PGHOST": str(self._private), "PGPORT": "5432", "PGUSER": self._user, "LC_ALL": "C"}
        return subprocess.run(
            [*self._launcher(), path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd="/",
            env={**others, **self._programs.environ, **ours},
        )

    def has(self, program: str) -> bool:
        """Tell whether the server's installation has this program."""
        return self._programs.path(program) is not None

    def last_words(self) -> str:
        """Return what the server logged last and worst, as one line."""
        try:
            lines = self.log_file.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "it logged nothing"
        lines = [line for line in lines if not _NOT_YET.search(line)]  # what we ourselves were told all the time
        bad = [line for line in lines if re.search(r"\b(PANIC|FATAL|ERROR):", line)]
        return " / ".join(line.strip() for line in (bad or lines)[-_LOG_LINES:]) or "it logged nothing"

    def stop(self) -> None:
        """End the server, at once if need be, and remove what is private to it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGQUIT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_STOP_TIMEOUT)
        if self._private_directory is not None:
            shutil.rmtree(self._private_directory, ignore_errors=True)

    def _start(self) -> None:
        status = self._data.stat()
        if status.st_uid == 0:
            raise OperationError(
                f"{self._data} belongs to root, which PostgreSQL refuses to run as",
                hint="run this as the user that PostgreSQL runs as",
            )
        (self._private / "hba").write_text("local all all trust\n")
        (self._private / "ident").touch()
        (self._private / "conf").touch()
        self.log_file.touch()
        if os.geteuid() == 0:
            for path in (self._private, *self._private.iterdir()):
                os.chown(path, status.st_uid, status.st_gid)
        settings = {**self._private_settings(), **self._recovery}
        postgres = self._programs.path("postgres")
        assert postgres is not None  # it told its version
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._launcher(), postgres, "-D", str(self._data), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._programs.environ, "LC_MESSAGES": "C"},
                cwd="/",
            )

    def _launcher(self) -> list[str]:
        """Return what a command begins with that is to run as the owner of the data, no longer than this process."""
        status = self._data.stat()
        launch = [sys.executable, "-P", "-m", "barman_cloud.verify.launch"]
        return [*launch, str(os.getpid()), str(status.st_uid), str(status.st_gid)]

    def _private_settings(self) -> dict[str, str]:
        major = self._programs.major
        libraries = self._present_libraries()
        settings = {
            "config_file": str(self._private / "conf"),
            "hba_file": str(self._private / "hba"),
            "ident_file": str(self._private / "ident"),
            "unix_socket_directories": str(self._private),
            "shared_preload_libraries": ",".join(libraries),
            **_INERT,
            **self._compared_settings(),
        }
        for first, added in _INERT_SINCE.items():
            settings |= added if major >= first else {}
        for last, added in _INERT_UNTIL.items():
            settings |= added if major <= last else {}
        for library, added in _JOBS.items():
            settings |= added if library in libraries else {}
        return settings

    def _compared_settings(self) -> dict[str, str]:
        program = self._programs.path("pg_controldata")
        if program is None:
            return {}
        shown = self._output([program, "-D", str(self._data)])
        found = dict(re.findall(r"^(.+?):\s*(\S+)\s*$", shown, re.MULTILINE))
        return {name: found[label] for name, label in _COMPARED.items() if label in found}

    def _present_libraries(self) -> list[str]:
        """Return those of the cluster's preloaded libraries that this machine has: some WAL can't be read without."""
        if not (self._data / "postgresql.conf").exists():
            return []
        program = self._programs.path("postgres")
        shown = self._output([str(program), "-D", str(self._data), "-C", "shared_preload_libraries"])
        wanted = [name.strip().strip('"') for name in shown.strip().split(",") if name.strip()]
        present = [name for name in wanted if self._has_library(name)]
        if missing := sorted(set(wanted) - set(present)):
            log.warning("not preloaded, because this machine doesn't have it: %s", ", ".join(missing))
        return present

    def _has_library(self, name: str) -> bool:
        if "/" in name.removeprefix("$libdir/"):
            return os.path.exists(name) or os.path.exists(f"{name}.so")
        file = name.removeprefix("$libdir/").removesuffix(".so") + ".so"
        return any((directory / file).exists() for directory in self._programs.library_directories)

    def _output(self, command: list[str]) -> str:
        """Return what a program prints, run as the owner of the data directory; nothing if it fails."""
        done = subprocess.run(
            [*self._launcher(), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            env={**os.environ, **self._programs.environ, "LC_ALL": "C"},
        )
        return done.stdout if done.returncode == 0 else ""


def _private_directory(place: Path | None) -> Path:
    """Make a directory of our own, in ``place`` if the path of a socket in it isn't too long."""
    prefix = "drill-server-"
    for parent in (place, Path(tempfile.gettempdir())):
        if parent and len(os.fsencode(parent / f"{prefix}12345678" / ".s.PGSQL.5432")) <= _LONGEST_SOCKET:
            return Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    return Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
