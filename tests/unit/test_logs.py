"""Loggers that load logging late, in processes of their own: here it is loaded already."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_a_library_that_loads_logging_changes_nothing() -> None:
    late = PROGRAM.format(verbosity=1).replace('log.debug("a debug line")', "import logging")
    done = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=True)
    assert [line.split("] ", 1)[1] for line in done.stderr.splitlines()] == [
        "INFO: an info line",
        "WARNING: a warning line",
        "ERROR: an error line",
    ]


def test_lines_go_to_a_file_that_the_first_one_makes(tmp_path: Path) -> None:
    program = PROGRAM.format(verbosity=0).replace(
        "configure(0)", f"configure(0, lambda: open({str(tmp_path / 'log')!r}, 'w'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "WARNING: a warning line" in (tmp_path / "log").read_text()
    silent = program.replace("log.warning", "log.info").replace("log.error", "log.info")
    subprocess.run([sys.executable, "-c", silent.replace(str(tmp_path / "log"), str(tmp_path / "none"))], check=True)
    assert not (tmp_path / "none").exists()


def test_more_can_be_included_later() -> None:
    program = PROGRAM.format(verbosity=0).replace("log.debug", "logs.include(logs.INFO)\nlog.debug")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "INFO: an info line" in done.stderr


def test_every_level_has_a_method_and_traces_are_printed() -> None:
    program = PROGRAM + "\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    log.error('broken', exc_info=True)\n"
    done = subprocess.run(
        [sys.executable, "-c", program.format(verbosity=0)], capture_output=True, text=True, check=True
    )
    assert "ZeroDivisionError" in done.stderr
