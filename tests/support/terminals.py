"""A command on a real pseudo-terminal, whose screen is read as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyte


@dataclass
class Terminal:
    """A process on a terminal of so many columns and rows, and what its screen shows."""

    process: int
    descriptor: int
    screen: pyte.HistoryScreen
    stream: pyte.ByteStream
    began: float = field(default_factory=time.monotonic)
    last_blank: float = 0.0
    longest_blank: float = 0.0
    """Seconds for which the screen showed nothing in one go."""
    last_change: float = field(default_factory=time.monotonic)
    longest_silence: float = 0.0
    """Seconds for which nothing was written in one go, to the screen as it was."""
    before_silence: str = ""
    """The last line then."""
    exit_code: int | None = None
    raw: bytes = b""

    @classmethod
    def run(
        cls, command: Sequence[str], columns: int, rows: int = 24, environ: Mapping[str, str] | None = None
    ) -> Terminal:
        """Start ``command`` as the leader of a session with a terminal of its own."""
        process, descriptor = pty.fork()
        if process == 0:
            try:
                os.execvpe(command[0], list(command), dict(environ or {}))
            finally:
                os._exit(127)
        screen = pyte.HistoryScreen(columns, rows, history=1000)
        # A terminal goes to the first column for a line end by itself (ONLCR is on in a new one).
        terminal = cls(process, descriptor, screen, pyte.ByteStream(screen))
        terminal.resize(columns, rows)
        # What a test types isn't echoed: it would be between the lines.
        attributes = termios.tcgetattr(descriptor)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
        terminal.last_blank = terminal.began
        return terminal

    def resize(self, columns: int, rows: int) -> None:
        """Change the size, as a window manager does: the kernel sends SIGWINCH."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

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
        """Take what the process writes within this time; False once it has ended."""
        ready, _, _ = select.select([self.descriptor], [], [], seconds)
        if ready:
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:  # EIO: the process is gone
                data = b""
            if not data:
                self._end()
                return False
            self._note_silence()
            self.raw += data
            self.stream.feed(data)
        now = time.monotonic()
        if self.lines:
            self.last_blank = now
        self.longest_blank = max(self.longest_blank, now - self.last_blank)
        return True

    def _note_silence(self) -> None:
        now = time.monotonic()
        if now - self.last_change > self.longest_silence:
            self.longest_silence = now - self.last_change
            self.before_silence = self.lines[-1] if self.lines else ""
        self.last_change = now

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
