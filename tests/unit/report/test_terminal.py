"""What reaches a terminal, and what happens when it can't."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.report.terminal import printable
from tests.support.peers import our_commands

PROGRAM = our_commands().path("barman-cloud")


@given(st.text(), st.sampled_from([None, "ascii", "latin-1", "utf-8", "cp1252"]))
def test_nothing_that_a_terminal_acts_on_gets_through(text: str, encoding: str | None) -> None:
    shown = printable(text, encoding)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in shown)
    shown.encode(encoding or "utf-8")
    assert printable(shown, encoding) == shown


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("plain", "ascii", "plain"),
        ("Straße", None, "Straße"),
        ("Straße", "utf-8", "Straße"),
        ("Straße", "ascii", r"Stra\xdfe"),
        ("日本", "latin-1", r"\u65e5\u672c"),
        ("a\x1b[2Jb", "utf-8", r"a\x1b[2Jb"),
        ("two\nlines\r", None, r"two\nlines\r"),
        ("\u202egnp.exe", "utf-8", r"\u202egnp.exe"),
        ("\udcff", "utf-8", r"\udcff"),
    ],
)
def test_what_is_shown(text: str, encoding: str | None, shown: str) -> None:
    assert printable(text, encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_names_that_the_terminal_has_no_characters_for_are_listed(tmp_path: Path, encoding: str) -> None:
    directory = tmp_path / "main" / "base" / "20260101T000000"
    directory.mkdir(parents=True)
    (directory / "backup.info").write_text("status=DONE\nbackup_name=Straße 日本\n", encoding="utf-8")
    for command in ("backup-list", "backup-show"):
        words = [command, f"file://{tmp_path}", "main"] + ["last"] * (command == "backup-show")
        done = run(*words, environ={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        assert "Stra" in done.stdout.decode(encoding)


def test_lines_of_the_log_do_not_steer_the_terminal() -> None:
    done = run("backup-show", "file:///nowhere\x1b[2J", "main", "last")
    assert done.returncode == 4
    assert b"\x1b" not in done.stderr
    assert rb"\x1b[2J" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["backup-list", "{url}", "main"],
        ["backup-list", "--help"],
        ["backup-list", "--version"],
        ["--help"],
        ["-V"],
        ["wal-archive", "--help"],
    ],
)
@pytest.mark.parametrize("output", ["full", "closed"])
def test_an_output_that_takes_nothing_is_one_line_and_no_success(tmp_path: Path, words: list[str], output: str) -> None:
    directory = tmp_path / "main" / "base" / "20260101T000000"
    directory.mkdir(parents=True)
    (directory / "backup.info").write_text("status=DONE\n")
    command = [word.format(url=f"file://{tmp_path}") for word in words]
    redirection = {"full": ">/dev/full", "closed": ">&-"}[output]
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirection}', PROGRAM, *command], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert b"standard output" in line


def run(*words: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    env = {"PATH": str(Path(sys.executable).parent), **(environ or {})}
    return subprocess.run([PROGRAM, *words], capture_output=True, timeout=60, check=False, env=env)
