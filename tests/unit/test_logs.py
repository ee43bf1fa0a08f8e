"""Loggers that load logging late, in processes of their own: here it is loaded already."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from barman_cloud import logs
log = logs.get_logger("barman_cloud.store.retry")
logs.configure({verbosity})
log.debug("a debug line")
log.info("an info line")
quiet = "logging" not in sys.modules
log.warning("a %s line", "warning")
log.error("an error line")
print(quiet)
"""


@pytest.mark.parametrize(
    ("verbosity", "quiet", "said"),
    [
        (0, True, ["WARNING: a warning line", "ERROR: an error line"]),
        (1, False, ["INFO: an info line", "WARNING: a warning line", "ERROR: an error line"]),
        (2, False, ["DEBUG: a debug line", "INFO: an info line", "WARNING: a warning line", "ERROR: an error line"]),
        (-1, True, ["ERROR: an error line"]),
        (-2, True, []),
    ],
)
def test_logging_is_loaded_by_the_first_line_that_is_logged(verbosity: int, quiet: bool, said: list[str]) -> None:
    program = PROGRAM.format(verbosity=verbosity)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert [line.split("] ", 1)[1] for line in done.stderr.splitlines()] == said
    assert done.stdout.strip() == str(quiet)


def test_every_level_has_a_method_and_traces_are_printed() -> None:
    program = PROGRAM + "\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.error('broken', exc_info=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", program.format(verbosity=0)], capture_output=True, text=True, check=True
    )
    assert "ZeroDivisionError" in done.stderr
