"""A PostgreSQL server that nobody else can reach, on a restored data directory, until it is stopped.

It listens on a Unix socket in a directory of its own user alone, archives nothing, follows nobody, and has a
configuration of its own: what the restored one includes, loads and logs to belongs to another machine. The few settings
that recovery compares with the primary's come from the control file.
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
from pathlib import Path
from typing import Any

import psycopg

from barman_cloud import logs
from barman_cloud.errors import OperationError
from barman_cloud.postgres.programs import Programs

log = logs.get_logger(__name__)

_COMPARED = {
    "max_connections": "max_connections setting",
    "max_worker_processes": "max_worker_processes setting",
    "max_wal_senders": "max_wal_senders setting",
    "max_prepared_transactions": "max_prepared_xacts setting",
    "max_locks_per_transaction": "max_locks_per_xact setting",
}
"""Settings that must not be lower than the primary's (PostgreSQL docs, 26.4.3), and how pg_controldata names them."""

_STOP_TIMEOUT = 60.0
_LOG_LINES = 5


class PrivateServer:
    """Starts on entering a ``with`` block, and is gone on leaving it, with everything but the data directory."""

    def __init__(self, programs: Programs, data: Path, recovery: Mapping[str, str], *, user: str = "postgres") -> None:
        """``recovery`` are the recovery settings, in the order in which they must be given."""
        self._programs = programs
        self._data = data
        self._recovery = recovery
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._private = Path(tempfile.mkdtemp(prefix="barman-cloud-drill-"))

    @property
    def log_file(self) -> Path:
        return self._private / "log"

    def __enter__(self) -> PrivateServer:
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

        ``OperationError`` with the server's last words if it ended, or isn't that far after ``timeout`` seconds.
        """
        began = time.monotonic()
        while time.monotonic() - began < timeout:
            assert self._process is not None
            if (code := self._process.poll()) is not None:
                raise OperationError(f"PostgreSQL ended with {code} during recovery: {self.last_words()}")
            try:
                with self.connect("postgres") as connection:
                    row = connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
                    if row == (False,):
                        return time.monotonic() - began
            except psycopg.OperationalError as error:
                if "role" in str(error) and "does not exist" in str(error):
                    raise OperationError(
                        f"the restored cluster has no role {self._user}", hint="name its superuser with --user"
                    ) from error
            time.sleep(0.05)
        raise OperationError(
            f"recovery isn't complete after {timeout:.0f} s: {self.last_words()}", hint="give it longer with --timeout"
        )

    def connect(self, dbname: str) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=str(self._private), port=5432, user=self._user, dbname=dbname, autocommit=True, connect_timeout=10
        )

    @property
    def connection_environ(self) -> dict[str, str]:
        """The environment in which PostgreSQL's client programs reach the server."""
        return {"PGHOST": str(self._private), "PGPORT": "5432", "PGUSER": self._user, **self._programs.environ}

    def last_words(self) -> str:
        """Return what the server logged last and worst, as one line."""
        try:
            lines = self.log_file.read_text("utf-8", "replace").splitlines()
        except OSError:
            return "it logged nothing"
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
        shutil.rmtree(self._private, ignore_errors=True)

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
        launcher = [sys.executable, "-P", "-m", "barman_cloud.verify.launch", str(os.getpid())]
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [*launcher, str(status.st_uid), str(status.st_gid), postgres, "-D", str(self._data), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._programs.environ, "LC_MESSAGES": "C"},
                cwd="/",
            )

    def _private_settings(self) -> dict[str, str]:
        return {
            "config_file": str(self._private / "conf"),
            "hba_file": str(self._private / "hba"),
            "ident_file": str(self._private / "ident"),
            "listen_addresses": "",
            "unix_socket_directories": str(self._private),
            "unix_socket_permissions": "0700",
            "port": "5432",
            "ssl": "off",
            "archive_mode": "off",
            "primary_conninfo": "",
            "primary_slot_name": "",
            "synchronous_standby_names": "",
            "shared_preload_libraries": self._present_libraries(),
            "session_preload_libraries": "",
            "local_preload_libraries": "",
            "logging_collector": "off",
            "log_destination": "stderr",
            # The copy is thrown away: what a power failure would do to it doesn't matter.
            "fsync": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            **self._compared_settings(),
        }

    def _compared_settings(self) -> dict[str, str]:
        program = self._programs.path("pg_controldata")
        if program is None:
            return {}
        shown = self._output([program, "-D", str(self._data)])
        found = dict(re.findall(r"^(.+?):\s*(\S+)\s*$", shown, re.MULTILINE))
        return {name: found[label] for name, label in _COMPARED.items() if label in found}

    def _present_libraries(self) -> str:
        """Return those of the cluster's preloaded libraries that this machine has: some WAL can't be read without."""
        if not (self._data / "postgresql.conf").exists():
            return ""
        program = self._programs.path("postgres")
        shown = self._output([str(program), "-D", str(self._data), "-C", "shared_preload_libraries"])
        wanted = [name.strip().strip('"') for name in shown.strip().split(",") if name.strip()]
        present = [name for name in wanted if self._has_library(name)]
        if missing := sorted(set(wanted) - set(present)):
            log.warning("not preloaded, because this machine doesn't have it: %s", ", ".join(missing))
        return ",".join(present)

    def _has_library(self, name: str) -> bool:
        if "/" in name.removeprefix("$libdir/"):
            return Path(name).exists() or Path(f"{name}.so").exists()
        file = name.removeprefix("$libdir/").removesuffix(".so") + ".so"
        return any((directory / file).exists() for directory in self._programs.library_directories)

    def _output(self, command: list[str]) -> str:
        """Return what a program prints, run as the owner of the data directory; nothing if it fails."""
        status = self._data.stat()
        launcher = [sys.executable, "-P", "-m", "barman_cloud.verify.launch", str(os.getpid())]
        done = subprocess.run(
            [*launcher, str(status.st_uid), str(status.st_gid), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
            env={**os.environ, **self._programs.environ, "LC_ALL": "C"},
        )
        return done.stdout if done.returncode == 0 else ""
