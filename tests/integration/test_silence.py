"""At no moment is a terminal blank for long: every command, while the store or the server says nothing at all."""

from __future__ import annotations

import pwd
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from barman_cloud.cli.commands import SUMMARIES
from barman_cloud.cli.server.registry import COMMANDS as SERVER_COMMANDS
from tests.support.commands import program
from tests.support.postgres import command_environment, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.segments import Cluster, segment_name
from tests.support.servers import s3_environ
from tests.support.terminals import Terminal

MOVING = re.compile(r"^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] (\S.*?) +0:\d\d")
URL = "s3://bucket/path"
CONFIGURATION = f"""
[barman]
barman_home = HOME
barman_user = USER
[main]
cluster = one
conninfo = host=127.0.0.1 port=PORT user=postgres dbname=postgres
streaming_conninfo = host=127.0.0.1 port=PORT user=postgres
backup_method = postgres
slot_name = barman
basebackups_directory = {URL}
wals_directory = {URL}
backup_schedule = 0 3 * * *
[model]
model = true
cluster = one
"""


@dataclass(frozen=True)
class Silence:
    """A store and a server that take connections, and never say a word."""

    port: int
    directory: Path

    @property
    def environ(self) -> dict[str, str]:
        terminal = {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
        return {**command_environment(), **s3_environ(f"http://127.0.0.1:{self.port}"), **terminal}

    def words(self, text: str) -> list[str]:
        known = {"PORT": str(self.port), "DIR": str(self.directory), "CONF": f"{self.directory}/barman.conf"}
        return [re.sub("PORT|DIR|CONF", lambda found: known[found[0]], word) for word in text.split()]


@pytest.fixture(scope="module")
def silence() -> Iterator[Silence]:
    account = server_account()
    with (
        temporary_server_directory() as directory,
        closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as listener,
    ):
        found = Silence(listener.getsockname()[1], directory)
        text = CONFIGURATION.replace("HOME", f"{directory}/home").replace("PORT", str(found.port))
        (directory / "barman.conf").write_text(text.replace("USER", pwd.getpwuid(account.uid).pw_name))
        Cluster(directory / "data").add(1)
        account.own(directory)
        yield found


POSTGRES = "-h 127.0.0.1 -p PORT -U postgres"
LINES = {
    "backup": f"{POSTGRES} {URL} main",
    "backup-delete": f"-b last {URL} main",
    "backup-keep": f"--status {URL} main last",
    "backup-list": f"{URL} main",
    "backup-show": f"{URL} main last",
    "check": f"{URL} main",
    "check-wal-archive": f"{URL} main",
    "cleanup": f"{URL} main",
    "config-switch": "main model",
    "consolidate": f"{URL} main last",
    "cron": "main",
    "doctor": f"{URL} main",
    "drill": f"{URL} main",
    "report": f"{URL} main",
    "restore": f"{URL} main last DIR/restored",
    "verify": f"{URL} main",
    "wal-archive": f"{URL} main DIR/data/pg_wal/{segment_name(1)}",
    "wal-receive": f"--spool-dir DIR/spool {POSTGRES} {URL} main",
    "wal-restore": f"{URL} main {segment_name(1)} DIR/segment",
}
"""A line of each command; those that ask nobody are missing."""
ASK_NOBODY = {"setup"}
MORE = {
    "a connection test": f"backup-list --test {URL} main",
    "all servers": "-c CONF check all",
    "a model": "-c CONF backup-list main",
    "the server's backups": "-c CONF server list-backups main",
    "the server's state": "-c CONF server status main",
    "the server's check": "-c CONF server check main",
    "the server's list of jobs": "-c CONF cron --list",
}


SHORT = {"wal-archive", "wal-restore", "wal-receive", "doctor", "cron", "a model", "the server's backups"}
"""What ``make test`` runs: one for each way by which a command comes to its line."""


def test_every_command_is_here() -> None:
    assert set(LINES) | ASK_NOBODY == set(SUMMARIES)
    assert {"list-backups", "status", "check"} <= set(SERVER_COMMANDS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SHORT else pytest.mark.long) for name in (*LINES, *MORE)]
)
def test_who_waits_sees_something_move(name: str, silence: Silence) -> None:
    umbrella = program("backup").removesuffix("-backup")
    line = MORE[name] if name in MORE else f"{name} {LINES[name]}"
    words = silence.words(line if "://" in line or "CONF" in line else f"-c CONF {line}")
    with Terminal.run(server_account().command([umbrella, *words]), 100, environ=silence.environ) as terminal:
        seen: set[str] = set()

        def moves() -> bool:
            seen.update(found[0] for line in terminal.lines if (found := MOVING.match(line)))
            return len(seen) > 2

        terminal.until(moves, timeout=200)
        assert len(terminal.lines) == 1, terminal.lines


def test_postgresql_with_a_terminal_gets_no_lines(silence: Silence, tmp_path: Path) -> None:
    """In a container with a terminal, archive_command has one as well, and nobody sits before it."""
    (tmp_path / "store").mkdir()
    segment = silence.directory / "data" / "pg_wal" / segment_name(1)
    line = f"{program('wal-archive')} file://{tmp_path}/store main {segment}; echo $?"
    for name, lines in (("postgres", 1), ("shell", 2)):
        (tmp_path / name).symlink_to("/bin/sh")
        with Terminal.run([str(tmp_path / name), "-c", line], 120, environ=silence.environ) as terminal:
            assert terminal.finish() == 0
            assert len(terminal.everything) == lines, terminal.everything
            assert terminal.everything[-1] == "0"


def test_a_terminal_that_only_takes_lines_gets_them(silence: Silence) -> None:
    words = [program("wal-archive"), *silence.words(LINES["wal-archive"])]
    environ = {**silence.environ, "TERM": "dumb"}
    with Terminal.run(server_account().command(words), 100, environ=environ) as terminal:
        terminal.until(lambda: any(" INFO: archiving 0000" in line for line in terminal.lines), timeout=200)
        assert b"\x1b" not in terminal.raw
