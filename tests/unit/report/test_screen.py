"""Live lines on real pseudo-terminals: nothing is torn, nothing is blank, and what is narrow says less."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

import pytest

from barman_cloud.report import live
from tests.support.terminals import Terminal

PROGRAM = """
import sys, threading, time
from barman_cloud import logs
from barman_cloud.report import live, progress, screen, terminal
logs.configure(1)
size_of = screen._size_of
def size_told(stream):
    size = size_of(stream)
    stream.write(f"\x1b]0;{size.width}x{size.height}\x07")  # a title
    return size
screen._size_of = size_told
log = logs.get_logger("barman_cloud.test")
go = iter(sys.stdin.readline, "")
with progress.watched() as work, live.shown(work, live.mode_of("auto", 0, sys.stderr), "test"):
    work.phase("waiting for the checkpoint")
    next(go)
    work.phase("copying", total=400 << 20, items=4)
    with work.item("data.tar", 100 << 20) as one, work.item("data_0001.tar", 100 << 20) as two:
        one.data += 60 << 20; one.stored += 20 << 20; two.data += 40 << 20; two.stored += 20 << 20
        next(go)
        log.info("a line of the log %s", "that is longer than a narrow terminal is wide, by far " * 3 + "END")
        terminal.write("a line of standard output\\n")
        next(go)
        one.data += 40 << 20
        next(go)
    work.phase("waiting for WAL")
    next(go)
print("the end")
"""


def start(columns: int, rows: int = 24, **environ: str) -> Terminal:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment = {**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1", **environ}
    return Terminal.run([sys.executable, "-c", PROGRAM], columns, rows, environment)


def go(terminal: Terminal) -> None:
    """Let the program do its next step."""
    os.write(terminal.descriptor, b"\n")


SIZE_TOLD = re.compile(rb"\x1b\]0;(\d+)x(\d+)\x07")


def resized_when_told(terminal: Terminal) -> list[tuple[int, int]]:
    """From here on the screen changes its size where the program draws for another one, and not before.

    Otherwise what is on its way would be broken, by a narrower screen, into rows that the program can't know of.
    Returns the list of sizes for which it has drawn, or begins to.
    """
    told: list[tuple[int, int]] = []
    feed: Callable[[bytes], None] = terminal.stream.feed
    rest = b""

    def feed_and_resize(data: bytes) -> None:
        nonlocal rest
        data = rest + data
        end = 0
        for found in SIZE_TOLD.finditer(data):
            feed(data[end : found.start()])
            told.append((int(found[1]), int(found[2])))
            if told[-1] != (terminal.screen.columns, terminal.screen.lines):
                terminal.screen.resize(told[-1][1], told[-1][0])
            end = found.end()
        begun = data.find(b"\x1b]", end)
        feed(data[end:] if begun < 0 else data[end:begun])
        rest = b"" if begun < 0 else data[begun:]

    terminal.stream.feed = feed_and_resize  # type: ignore[method-assign]
    return told


def shows(terminal: Terminal, pattern: str) -> bool:
    return any(re.search(pattern, line) for line in terminal.lines)


def test_who_waits_does_not_wait_long_for_the_first_line_and_for_the_next() -> None:
    assert live._DRAW_AFTER + live._DRAW_EACH < 2
    assert live._FIRST_LINE < 2


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_live_lines_follow_the_work_and_leave_nothing_behind(columns: int) -> None:
    with start(columns) as terminal:
        terminal.until(lambda: shows(terminal, r"waiting for the checkpoint +\d:\d\d"))
        go(terminal)
        terminal.until(lambda: shows(terminal, r"copying .*25%"))
        terminal.until(lambda: shows(terminal, r"data\.tar 60%"))
        assert shows(terminal, r"data_0001\.tar 40%")
        assert shows(terminal, r"100\.0 of 400\.0 MiB") == (columns > 40)
        assert columns < 200 or shows(terminal, r"━━")
        go(terminal)
        terminal.until(lambda: shows(terminal, r"a line of standard output"))
        terminal.until(lambda: shows(terminal, r"copying .*25%"))
        go(terminal)
        terminal.until(lambda: shows(terminal, r"copying .*35%"))
        assert sum("copying" in line for line in terminal.lines) == 1, terminal.lines
        go(terminal)
        terminal.until(lambda: shows(terminal, r"waiting for WAL +\d:\d\d"))
        go(terminal)
        assert terminal.finish() == 0
        assert terminal.longest_blank < 4  # 2 on a machine that is not busy
        found = "".join(terminal.everything)
        assert "far END" in found
        assert terminal.everything[-2:] == ["a line of standard output", "the end"]
        assert not re.search("copying|waiting|%", found), found
        assert b"\x1b[?25l" not in terminal.raw  # a killed command must leave the cursor


def test_a_terminal_that_is_resized_is_drawn_anew() -> None:
    with start(80, COLUMNS="132") as terminal:
        terminal.until(lambda: shows(terminal, r"waiting for the checkpoint"))
        go(terminal)
        terminal.until(lambda: shows(terminal, r"copying .*100\.0 of 400\.0 MiB.*2\.5×"))
        told = resized_when_told(terminal)
        for columns, rows in ((40, 10), (200, 50), (20, 5), (60, 3), (80, 24)):
            terminal.announce_size(columns, rows)
            # It begins to draw for that size again: then it has done so once.
            terminal.until(lambda size=(columns, rows): told[-2:] == [size, size])  # type: ignore[misc]
            terminal.until(lambda: shows(terminal, r"copying .*25%"))
            assert sum("copying" in line for line in terminal.lines) == 1, terminal.lines
            assert all(len(line) < columns for line in terminal.lines)
        for _ in range(4):
            go(terminal)
        assert terminal.finish() == 0
        assert "copying" not in "".join(terminal.everything)


def test_a_terminal_without_unicode_and_colours_gets_neither() -> None:
    with start(200, LANG="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LC_ALL="POSIX", NO_COLOR="1",
               PYTHONIOENCODING="ascii") as terminal:  # fmt: skip
        for _ in range(2):
            go(terminal)
        terminal.until(lambda: shows(terminal, r"copying .*25%.*2\.5x"))
        assert re.search(rb"\x1b\[[0-9;]*3[0-9]m", terminal.raw) is None
        assert all(byte < 128 for byte in terminal.raw)
        for _ in range(3):
            go(terminal)
        assert terminal.finish() == 0


def test_a_killed_command_leaves_its_last_lines_and_a_free_line_below() -> None:
    with start(80) as terminal:
        terminal.until(lambda: shows(terminal, r"waiting for the checkpoint"))
        terminal.kill()
        assert terminal.finish() == -9
        assert terminal.screen.cursor.x == 0
        assert shows(terminal, r"waiting for the checkpoint")
