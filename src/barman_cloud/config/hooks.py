"""Barman's hook scripts: the programs that a server's configuration has run before and after what is done.

Order, variables and exit codes are Barman's (its manual, "Hook scripts"). The plain script before, the retry script
before, the work, the retry script after, the plain script after. The exit code of a plain script is only told. A retry
script is run again until it ends with 0, with 62 (go on all the same) or with 63 (before the work: give it up; after
it: as 62). Barman does so for ever, and waits for a script for ever; here ``hook_timeout`` and ``hook_retries`` end it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from barman_cloud import __version__, logs
from barman_cloud.config.server import Server
from barman_cloud.errors import OperationError

log = logs.get_logger(__name__)

BACKUP = "backup"
ARCHIVE = "archive"
DELETE = "delete"
WAL_DELETE = "wal_delete"
RECOVERY = "recovery"

ABORT_CONTINUE = 62
ABORT_STOP = 63
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LINES_LOGGED = 100
_TIMED_OUT = -1


class HookStopError(OperationError):
    """A script that runs before the work says that it must not be done, or never succeeded."""


class Hooks:
    """The scripts of one server for one kind of work."""

    def __init__(self, server: Server, configuration_file: str, work: str) -> None:
        self._server = server
        self._file = configuration_file
        self._work = work

    @property
    def is_empty(self) -> bool:
        """Whether there is no script for this work."""
        return not any(self._script(phase, retry) for phase in ("pre", "post") for retry in (False, True))

    def before(self, facts: Mapping[str, str]) -> None:
        """Run the scripts before the work. ``HookStopError`` if one of them says that it must not be done.

        ``facts`` are the variables that are special to the work, without ``BARMAN_`` before their names.
        """
        self._run_once("pre", facts)
        code = self._run_until_it_succeeds("pre", facts)
        if code not in (None, 0, ABORT_CONTINUE):
            what = "says that it must not be done" if code == ABORT_STOP else "never succeeded"
            raise HookStopError(
                f"{self._key('pre', True)} of {self._server.name} {what}",
                hint="see what the script has written; -v shows it",
            )

    def after(self, facts: Mapping[str, str], error: BaseException | None = None) -> None:
        """Run the scripts after the work, which failed with ``error`` if that is given."""
        told = {**facts, "ERROR": str(error) if error is not None else ""}
        code = self._run_until_it_succeeds("post", told)
        if code not in (None, 0, ABORT_CONTINUE):
            log.warning("%s of %s ended with %d; nothing is undone", self._key("post", True), self._server.name, code)
        self._run_once("post", told)

    @contextmanager
    def around(self, before: Mapping[str, str], after: Mapping[str, str] | None = None) -> Iterator[None]:
        """Run the scripts before and after the block; ``after`` are the facts then, if they are others."""
        self.before(before)
        told = before if after is None else after
        try:
            yield
        except BaseException as error:
            self.after(told, error)
            raise
        self.after(told)

    def _run_once(self, phase: str, facts: Mapping[str, str]) -> None:
        if script := self._script(phase, False):
            code = self._run(script, phase, facts, retry=False)
            if code:
                log.warning("%s of %s failed with %d", self._key(phase, False), self._server.name, code)

    def _run_until_it_succeeds(self, phase: str, facts: Mapping[str, str]) -> int | None:
        """Return the last exit code, None without a script."""
        script = self._script(phase, True)
        if script is None:
            return None
        pause, code = _FIRST_PAUSE, 0
        for left in range(self._server["hook_retries"], -1, -1):
            code = self._run(script, phase, facts, retry=True)
            if code in (0, ABORT_CONTINUE, ABORT_STOP) or not left:
                break
            log.warning(
                "%s of %s failed with %d and is run again in %g s",
                self._key(phase, True),
                self._server.name,
                code,
                pause,
            )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return code

    def _script(self, phase: str, retry: bool) -> str | None:
        script: str | None = self._server[self._key(phase, retry)]
        return script or None

    def _key(self, phase: str, retry: bool) -> str:
        return f"{phase}_{self._work}{'_retry' if retry else ''}_script"

    def _run(self, script: str, phase: str, facts: Mapping[str, str], *, retry: bool) -> int:
        """Run a script through the shell, log what it writes, and return its exit code; -1 if it took too long."""
        values = {
            "CONFIGURATION": self._file,
            "ERROR": "",
            "HOOK": f"{self._work}{'_retry' if retry else ''}_script",
            "PHASE": phase,
            "RETRY": "1" if retry else "0",
            "SERVER": self._server.name,
            "VERSION": __version__,
            **facts,
        }
        environ = {**os.environ, **{f"BARMAN_{name}": value.replace("\0", "") for name, value in values.items()}}
        process = subprocess.Popen(
            ["/bin/sh", "-c", script],
            start_new_session=True,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output, _ = process.communicate(timeout=self._server["hook_timeout"])
        except subprocess.TimeoutExpired:
            took = self._server["hook_timeout"]
            log.warning("%s of %s: killed after %d s", self._key(phase, retry), self._server.name, took)
            _kill(process)
            return _TIMED_OUT
        except BaseException:
            _kill(process)
            raise
        for line in output.splitlines()[-_LINES_LOGGED:]:
            log.info("%s: %s", self._key(phase, retry), line)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _kill(process: subprocess.Popen[str]) -> None:
    """End a script and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
