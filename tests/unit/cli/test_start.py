"""The installed programs end at once, and still say everything."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TextIO

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from tests.support.peers import our_commands

PROGRAM = Path(our_commands().path("barman-cloud"))


def run(*arguments: str | Path, stdout: int | TextIO = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60)


def test_every_program_begins_here() -> None:
    ours = [point for point in entry_points(group="console_scripts") if point.name.startswith("barman-cloud")]
    assert len(ours) == 8
    assert {point.module for point in ours} == {"barman_cloud.cli.start"}
    for point in ours:
        assert callable(point.load())


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    """A place with 300 failed backups: more to list than a buffer holds."""
    for number in range(300):
        backup_id = f"20260101T{number // 60:02}{number % 60:02}00"
        directory = tmp_path / "main" / "base" / backup_id
        directory.mkdir(parents=True)
        (directory / "backup.info").write_text(backup_info.dump(BackupInfo(backup_id, status="FAILED")))
    return f"file://{tmp_path}"


def test_output_to_a_pipe_or_file_is_complete(catalog: str) -> None:
    done = run(PROGRAM, "backup-list", "--format", "json", catalog, "main")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("20260101T") >= 300
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize("program", [[PROGRAM, "backup-list"], [f"{PROGRAM}-backup-list"], [PROGRAM, "--version"]])
def test_output_that_cannot_be_written_is_an_error_in_one_line(program: list[str | Path], catalog: str) -> None:
    arguments = [] if "--version" in program else [catalog, "main"]
    with open("/dev/full", "w") as full:
        done = run(*program, *arguments, stdout=full)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_second_interrupt_is_no_traceback() -> None:
    script = (
        "import barman_cloud.cli.main as m\n"
        "def interrupted(): raise KeyboardInterrupt\n"
        "m.main = interrupted\n"
        "from barman_cloud.cli.start import umbrella\n"
        "umbrella()\n"
    )
    done = run(sys.executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize("entry", ["umbrella", "backup", "restore", "wal_archive", "wal_restore"])
@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ImportError('no module named x')", "the installation is incomplete: no module named x"),
        ("type('PanicException', (BaseException,), {})('one\\ntwo')", "unexpected error: one"),
        ("RecursionError('deep')", "unexpected error: deep"),
        ("MemoryError()", "unexpected error: MemoryError"),
    ],
)
def test_whatever_goes_wrong_around_a_command_is_4_and_one_line(entry: str, raised: str, said: str) -> None:
    """1 would tell PostgreSQL that the archive ends here."""
    script = (
        "import sys, importlib\n"
        "from barman_cloud.cli import start\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name.startswith('barman_cloud.cli.'): raise {raised}\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"start.{entry}()\n"
    )
    done = run(sys.executable, "-c", script, "file:///nowhere", "main", "000000010000000000000001", "x")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"-c: {said}\n"


def test_an_interrupt_while_wal_restore_begins_is_not_the_end_of_the_archive() -> None:
    script = (
        "import sys\n"
        "from barman_cloud.cli import start\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.startswith('barman_cloud.cli.'): raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "start.wal_restore()\n"
    )
    done = run(sys.executable, "-c", script, "file:///nowhere", "main", "000000010000000000000001", "x")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
