"""Runs tests on a changed copy of the source, each time in a child that begins with the heavy libraries loaded."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from tests.mutants.mutant import ROOT

PRELOADED = (
    "pytest",
    "hypothesis",
    "psycopg",
    "numpy",
    "crc32c",
    "dateutil.parser",
    "obstore",
    "xml.etree.ElementTree",
)
"""What most tests load and no mutant changes. None of them may start threads."""
PASSED, FAILED = 0, 1
"""Exit codes of pytest."""
_LARGEST_FILE = 2 << 30


class Runner:
    """Runs tests on the package in ``source``; files of the runs go to ``directory``."""

    def __init__(self, source: Path, directory: Path) -> None:
        self._source = source
        self._directory = directory
        for name in PRELOADED:
            import_module(name)
        if loaded := [name for name in sys.modules if name.partition(".")[0] == "barman_cloud"]:
            raise RuntimeError(f"the package is loaded already, and a child would test that one: {loaded[:3]}")

    def run(self, tests: Sequence[str], seconds: float) -> tuple[int | None, float]:
        """Run tests until the first fails; returns pytest's exit code, None after ``seconds``, and the time it took."""
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            self._be_the_child(tests)
        code = self._wait(child, began + seconds)
        with suppress(ProcessLookupError):  # what the tests have started and not ended
            os.killpg(child, signal.SIGKILL)
        return code, time.monotonic() - began

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self._directory / "pytest.log"

    @staticmethod
    def _wait(child: int, deadline: float) -> int | None:
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return None
            time.sleep(0.01)

    def _be_the_child(self, tests: Sequence[str]) -> None:
        code = 70
        try:
            os.setsid()
            # A mistake that lets something write without end must not fill the disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.chdir(ROOT)
            # Of programs that the tests start, too; command_environment() passes on the second.
            os.environ["PYTHONPATH"] = os.environ["BARMAN_CLOUD_TEST_SOURCE"] = str(self._source)
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
            os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(self._directory / "hypothesis")
            sys.dont_write_bytecode = True
            sys.path[:0] = [str(self._source), str(ROOT)]
            import pytest

            options = [
                "-q",
                "-x",
                "--timeout=30",
                "-p",
                "no:cacheprovider",
                "--hypothesis-seed=0",
                "--tb=short",
            ]
            places = [str(ROOT / "tests" / test) for test in tests]
            base = self._directory / f"pytest-{os.getpid()}"
            code = int(pytest.main([*options, f"--basetemp={base}", *places]))
            shutil.rmtree(base, ignore_errors=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
