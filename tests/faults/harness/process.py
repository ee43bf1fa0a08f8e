"""Running a command with one disturbance."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from tests.support.commands import words
from tests.support.postgres import command_environment
from tests.support.privileges import UNCHANGED, Account

SITE = Path(__file__).parent / "site"


@dataclass(frozen=True)
class Disturbance:
    """One file operation of one process at which something happens; see ``site/sitecustomize.py``."""

    action: str
    """A signal such as ``KILL``, or an error such as ``ENOSPC``."""
    event: int
    after: bool = False
    lasting: bool = False
    process: str = "main"

    def order(self, root: Path) -> str:
        """Return what the process is told."""
        return json.dumps({**self.__dict__, "root": str(root)})


@dataclass(frozen=True)
class Outcome:
    """How a command ended. ``code`` is negative for a signal, None if it had to be ended after ``limit`` seconds."""

    command: tuple[str, ...]
    code: int | None
    output: str
    errors: str
    seconds: float


@dataclass
class Runner:
    """Runs commands on the files below ``root``."""

    root: Path
    """Only operations on files below it count."""
    environ: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None
    """The one that runs now."""
    account: Account = UNCHANGED
    """Who runs them."""

    def send(self, number: Signals) -> None:
        """Send a signal to the command that runs now."""
        if self.process is not None:
            self.process.send_signal(number)

    def run(
        self,
        command: Sequence[str],
        disturbance: Disturbance | None = None,
        *,
        limits: Mapping[int, int] | None = None,
        limit: float = 120.0,
    ) -> Outcome:
        """Run ``command`` (the name of one of ours, and its arguments).

        ``limits`` are soft limits of ``resource.setrlimit``. After ``limit`` seconds the command is killed.
        """
        environ = {**command_environment(self.environ), "PYTHONPATH": str(SITE)}
        if disturbance is not None:
            environ["BARMAN_CLOUD_DISTURB"] = disturbance.order(self.root)

        def scarce() -> None:
            for number, value in (limits or {}).items():
                resource.setrlimit(number, (value, resource.getrlimit(number)[1]))

        start = time.monotonic()
        process = self.process = subprocess.Popen(
            self.account.command([*words(command[0]), *command[1:]]),
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            preexec_fn=scarce if limits else None,
        )
        try:
            output, errors = process.communicate(timeout=limit)
            code: int | None = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            code = None
        return Outcome(tuple(command), code, output, errors, time.monotonic() - start)

    def events(self, command: Sequence[str], process: str, *, settle: Callable[[], None]) -> list[str]:
        """Run ``command`` undisturbed, and return the file operations of it or its background process, one line each.

        ``settle`` is called before they are counted, to wait for the background process.
        """
        runner, trace = self.traced(process)
        runner.run(command)
        settle()
        return trace()

    def traced(self, process: str) -> tuple[Runner, Callable[[], list[str]]]:
        """Return a runner that disturbs nothing, and what returns the file operations that it has seen by then."""
        trace = self.root.parent / f"{self.root.name}.trace"
        trace.unlink(missing_ok=True)
        trace.touch(mode=0o666)
        trace.chmod(0o666)
        order = json.dumps({"root": str(self.root), "event": 0, "trace": str(trace), "process": process})
        runner = Runner(self.root, {**self.environ, "BARMAN_CLOUD_DISTURB": order}, account=self.account)
        return runner, lambda: trace.read_text(errors="surrogateescape").splitlines()
