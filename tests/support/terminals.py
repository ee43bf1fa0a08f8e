"""A command on a real pseudo-terminal, whose screen is read as a person would.

A busy machine spoils nothing: what was on the screen for a moment only is seen as well, and the times don't count for
which a process was ready to run and none of the CPUs was free.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

_FRAME = re.compile(rb"(?=\x1b\[\d+F)")
"""Where live lines are taken off the screen, to be drawn anew."""


@dataclass
class Terminal:
    """A process on a terminal of so many columns and rows, and what its screen shows."""

    process: int
    descriptor: int
    screen: pyte.HistoryScreen
    stream: pyte.ByteStream
    last_blank: float = 0.0
    longest_blank: float = 0.0
    """Seconds for which the screen showed nothing in one go."""
    last_change: float = 0.0
    longest_silence: float = 0.0
    """Seconds for which nothing was written in one go, to the screen as it was."""
    before_silence: str = ""
    """The last line then."""
    exit_code: int | None = None
    raw: bytes = b""
    _pending: deque[bytes] = field(default_factory=deque)
    """What was read and isn't on the screen yet: a piece for each time that live lines were drawn."""
    _waits: dict[str, float] = field(default_factory=dict)
    """Seconds for which each thread has waited for a CPU, by its place in /proc."""

    @classmethod
    def run(
        cls, command: Sequence[str], columns: int, rows: int = 24, environ: Mapping[str, str] | None = None
    ) -> Terminal:
        """Start ``command`` as the leader of a session with a terminal of its own."""
        # It begins when the terminal is as it shall be, not while that is being done.
        gate, opener = os.pipe()
        process, descriptor = pty.fork()
        if process == 0:
            try:
                os.close(opener)
                os.read(gate, 1)
                os.execvpe(command[0], list(command), dict(environ or {}))
            finally:
                os._exit(127)
        os.close(gate)
        screen = pyte.HistoryScreen(columns, rows, history=1000)
        # A terminal goes to the first column for a line end by itself (ONLCR is on in a new one).
        terminal = cls(process, descriptor, screen, pyte.ByteStream(screen))
        terminal.resize(columns, rows)
        # What a test types isn't echoed: it would be between the lines.
        attributes = termios.tcgetattr(descriptor)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        terminal.last_blank = terminal.last_change = terminal._now()
        os.close(opener)
        return terminal

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a window manager does. What was drawn before, and comes later, may not fit any more."""
        self.announce_size(columns, rows)
        self.screen.resize(rows, columns)

    def announce_size(self, columns: int, rows: int) -> None:
        """Change the size that the process is told, by SIGWINCH too, and leave the screen as it is."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def lines(self) -> list[str]:
        """The lines on the screen that aren't empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def everything(self) -> list[str]:
        """The lines that have left the screen at its top, then those on it."""
        above = ["".join(row[column].data for column in sorted(row)).rstrip() for row in self.screen.history.top]
        return [*above, *self.lines]

    def step(self, seconds: float = 0.05) -> bool:
        """Take the next of what the process writes, within this time; False once it has ended.

        Where it has drawn several times, each of them is a step.
        """
        if not self._pending and select.select([self.descriptor], [], [], seconds)[0]:
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:  # EIO: the process is gone
                data = b""
            if not data:
                self._end()
                return False
            self._note_silence()
            self.raw += data
            self._pending += filter(None, _FRAME.split(data))
        if self._pending:
            self.stream.feed(self._pending.popleft())
        now = self._now()
        if self.lines:
            self.last_blank = now
        self.longest_blank = max(self.longest_blank, now - self.last_blank)
        return True

    def _note_silence(self) -> None:
        now = self._now()
        if now - self.last_change > self.longest_silence:
            self.longest_silence = now - self.last_change
            self.before_silence = self.lines[-1] if self.lines else ""
        self.last_change = now

    def _now(self) -> float:
        """Return the seconds of a clock that stands still while the process, or the test, waits for a CPU.

        It is an ordinary one where the kernel doesn't tell.
        """
        threads = [f"/proc/self/task/{threading.get_native_id()}"]
        with contextlib.suppress(OSError):
            threads += [f"/proc/{self.process}/task/{number}" for number in os.listdir(f"/proc/{self.process}/task")]
        for thread in threads:
            with contextlib.suppress(OSError):  # it may have ended
                self._waits[thread] = int(Path(thread, "schedstat").read_text().split()[1]) / 1e9
        return time.monotonic() - sum(self._waits.values())

    def until(self, condition: Callable[[], object], timeout: float = 60.0) -> None:
        """Go on until ``condition`` holds; AssertionError with the screen if the time is over or the process."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.step() or condition(), f"ended: {self.everything}"
            assert time.monotonic() < deadline, f"not in time: {self.everything}"

    def finish(self, timeout: float = 60.0) -> int:
        """Go on until the process ends, and return its exit code (negative: the signal)."""
        deadline = time.monotonic() + timeout
        while self.step():
            assert time.monotonic() < deadline, self.everything
        assert self.exit_code is not None
        return self.exit_code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.exit_code is None:
            os.kill(self.process, number)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.exit_code is None:
            self.kill()
            self._end()

    def _end(self) -> None:
        os.close(self.descriptor)
        _, status = os.waitpid(self.process, 0)
        self.exit_code = os.waitstatus_to_exitcode(status)
