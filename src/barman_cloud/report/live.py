"""Displays of progress: live lines on a terminal, a line each half minute in a log, JSON lines for programs.

A display is a thread that reads the counters from time to time; the work doesn't know of it. It writes to standard
error. Log lines and standard output go past live lines without tearing them: they are taken off the screen, the text is
written, and they come again below it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

from barman_cloud import logs
from barman_cloud.report import terminal
from barman_cloud.report.progress import Progress

if TYPE_CHECKING:
    from barman_cloud.report.screen import Screen

_log = logs.get_logger(__name__)

AUTO, NONE, PLAIN, JSON, LIVE = "auto", "none", "plain", "json", "live"
MODES = (AUTO, NONE, PLAIN, JSON)

LINE_EACH = 30.0
"""Seconds between lines of a log."""
_FIRST_LINE = 1.5
"""Seconds before the first line on a terminal that can't move its cursor."""
_JSON_EACH = 1.0
_DRAW_EACH = 0.25
_DRAW_AFTER = 0.4
"""Seconds before the first live line: what is over sooner needs none."""


def mode_of(asked: str, verbosity: int, stream: TextIO | None) -> str:
    """Return which display ``--progress`` means here: ``none``, ``plain``, ``json`` or ``live``.

    ``verbosity`` is the number of ``-v`` less that of ``-q``.
    """
    if asked != AUTO:
        return asked
    on_terminal = stream is not None and stream.isatty()
    if verbosity >= 0 and on_terminal and os.environ.get("TERM") != "dumb":
        return LIVE
    # A terminal that can't move its cursor gets lines, the first of them soon.
    return PLAIN if verbosity >= (0 if on_terminal else 1) else NONE


@contextmanager
def shown(work: Progress, mode: str, command: str) -> Iterator[None]:
    """Show ``work`` while the block runs; the lines of ``plain`` are written whether INFO is logged or not."""
    if mode == NONE or sys.stderr is None:
        yield
        return
    display: _Display
    if mode == LIVE:
        display = _Live(work)
    elif mode == JSON:
        display = _JsonLines(work, command, sys.stderr)
    else:
        display = _LogLines(work)
    display.start()
    try:
        yield
    except BaseException:
        display.close("failed")
        raise
    display.close("done")


class _Display:
    """A thread that shows the counters each ``every`` seconds, the first time after ``first``."""

    def __init__(self, work: Progress, first: float, every: float) -> None:
        self._work = work
        self._first = first
        self._every = every
        from barman_cloud.report.progress_text import Rate

        self._ended = threading.Event()
        self._rate = Rate()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self, result: str) -> None:
        """End the thread, and show the last state where that is wanted."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        wait = self._first
        try:
            while not self._ended.wait(wait):
                wait = self._every
                self._show()
        except Exception as error:  # noqa: BLE001 - whatever becomes of the display, the work is what counts
            _log.debug("progress isn't shown any more: %s", error)

    def _show(self) -> None:
        raise NotImplementedError


class _LogLines(_Display):
    def __init__(self, work: Progress) -> None:
        super().__init__(work, _FIRST_LINE if sys.stderr.isatty() else LINE_EACH, LINE_EACH)
        self._log = logs.get_logger("barman_cloud.progress")
        logs.always("barman_cloud.progress")

    def _show(self) -> None:
        from barman_cloud.report.progress_text import sentence

        state = self._work.state()
        self._log.info("%s", sentence(state, self._rate.see(state), unicode=unicode_on(sys.stderr)))


class _JsonLines(_Display):
    def __init__(self, work: Progress, command: str, stream: TextIO) -> None:
        super().__init__(work, 0.0, _JSON_EACH)
        self._command = command
        self._stream = stream
        self._lock = threading.Lock()
        work.on_phase = self._phase_began

    def _show(self) -> None:
        self._write("progress")

    def _phase_began(self) -> None:
        with suppress(OSError, ValueError):
            self._write("progress")

    def close(self, result: str) -> None:
        self._work.on_phase = None
        super().close(result)
        with suppress(OSError, ValueError):
            self._write(result)

    def _write(self, event: str) -> None:
        import json

        from barman_cloud.report.progress_text import as_json

        with self._lock:
            state = self._work.state()
            line = as_json(state, self._rate.see(state), self._command, event, datetime.now().astimezone())
            # One call for a whole line, so that log lines come before or behind it.
            self._stream.write(f"{json.dumps(line)}\n")
            self._stream.flush()


class _Live(_Display):
    def __init__(self, work: Progress) -> None:
        super().__init__(work, _DRAW_AFTER, _DRAW_EACH)
        self._screen: Screen | None = None
        work.on_hide = lambda: self.close("hidden")

    def _show(self) -> None:
        if self._screen is None:
            # rich takes a tenth of a second to import: here it costs neither the work nor a command that is over soon.
            from barman_cloud.report.screen import Screen

            self._screen = Screen(sys.stderr)
            logs.divert(self._screen.write)
            terminal.set_aside(self._screen.aside)
        state = self._work.state()
        self._screen.draw(state, self._rate.see(state))

    def close(self, result: str) -> None:
        super().close(result)
        if self._screen is not None:
            logs.divert(None)
            terminal.set_aside(nullcontext)
            with suppress(Exception):
                self._screen.clear()
            self._screen = None


def unicode_on(stream: TextIO | None) -> bool:
    """Tell whether a stream can show more than ASCII."""
    return stream is not None and (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"
