"""``barman-cloud cron`` as a user has it: a configuration file, a home, and passes at times that a test chooses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import psutil

from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule.history import JobRun, last_runs
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.postgres import command_environment
from tests.support.schemas import require_valid


class Host:
    """A machine with a configuration and a home of its own, that shares its stores with others."""

    def __init__(self, directory: Path, text: str, name: str = "host") -> None:
        self.home = directory / name
        self.home.mkdir(parents=True)
        self.file = directory / f"{name}.conf"
        self.file.write_text(text.replace("HOME", str(self.home)).replace("STORE", str(directory / "store")))
        self.stores = directory / "store"

    def run(
        self,
        *words: str,
        now: str | None = None,
        timeout: float = 280.0,
        environ: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``barman-cloud -c FILE …``; schedules take the time for ``now``."""
        return subprocess.run(
            self.command(*words), stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, check=False,
            env=self.environ(now, environ), timeout=timeout,
        )  # fmt: skip

    def start(
        self, *words: str, now: str | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=self.environ(now, environ),
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return [program("x").removesuffix("-x"), "-c", str(self.file), *words]

    def environ(self, now: str | None, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return command_environment({**(more or {}), **({"BARMAN_CLOUD_NOW": now} if now else {})})

    def cron(self, *words: str, now: str) -> str:
        """Run a pass, which must succeed, and return what it printed."""
        done = self.run("cron", *words, now=now)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self, *, now: str) -> dict[str, Any]:
        """Return what ``cron --list`` says of each server."""
        document = json.loads(self.cron("--list", "--format", "json", now=now))
        require_valid(document, "cron")
        return {status["server"]: status for status in document["servers"]}

    def runs(self, server: str, job: str) -> list[JobRun]:
        return last_runs(open_store(f"file://{self.stores}"), Layout("", server), job, 100)

    @property
    def log(self) -> str:
        file = self.home / "barman-cloud.log"
        return file.read_text() if file.exists() else ""

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return the running processes of this host's configuration whose command line has all ``words``."""
        found = []
        for process in psutil.process_iter():
            try:
                line = process.cmdline()
            except psutil.Error:
                continue
            if str(self.file) in line and set(words) <= set(line) and process.pid != os.getpid():
                found.append(process)
        return found

    def end_all(self) -> None:
        """End what passes have started."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGTERM)
                process.wait(100)
            except psutil.NoSuchProcess:
                pass
            except psutil.TimeoutExpired:
                process.kill()


def at(text: str) -> datetime:
    """Return a moment of UTC."""
    return datetime.fromisoformat(f"{text}+00:00")
