"""When a command gives up: one :class:`Deadline` for each run of a command, made where the command begins.

Everything that waits for a store asks it: the retries, the time-outs of the clients, and the waits for the background
process. There are two kinds (``docs/reference/timeouts.md``):

total
    The command ends ``seconds`` after it began, whatever the store does: for what PostgreSQL or an operator waits for.
not total
    The command ends ``seconds`` after the store began to fail. Every success ends a run of failures, so a long transfer
    is never limited: for what moves much data.

Bytes on their way add the time that they take at a slow rate, so that a slow link isn't taken for a dead store.

This module imports only what the interpreter has loaded anyway.
"""

from __future__ import annotations

import time
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

SLOWEST = 256 << 10
"""Bytes per second below which a transfer counts as no progress, where the deadline is total."""
SLOWEST_OF_MANY = 16 << 10
"""The same elsewhere: many transfers may share a slow link for hours."""
TOTAL = {
    "wal-restore": 25.0,  # meanwhile a standby can't turn to streaming
    "wal-archive": 60.0,  # PostgreSQL calls again by itself
    "check-wal-archive": 30.0,
    "backup-list": 60.0,
    "backup-show": 60.0,
    "backup-keep": 60.0,
    "doctor": 120.0,
}
"""Seconds within which a command ends, without ``--timeout``."""
TEST = 30.0
"""The same for ``--test`` of any command."""
RUN_OF_FAILURES = 240.0
"""Seconds of failures in a row that all other commands bear."""


class Deadline:
    """When a command gives up. May be used by several threads at once."""

    def __init__(self, seconds: float = RUN_OF_FAILURES, *, total: bool = False) -> None:
        self.seconds = seconds
        self.total = total
        self._began = time.monotonic()
        self._added = 0.0
        self._last_success = self._began
        self._failing_since: float | None = None
        self._turns: dict[int, Turn] = {}

    @classmethod
    def of_command(cls, name: str, seconds: float | None = None, *, test: bool = False) -> Deadline:
        """Return the deadline of the command ``name`` that begins now; ``seconds`` is the value of ``--timeout``."""
        if test:
            return cls(seconds or TEST, total=True)
        return cls(seconds or TOTAL.get(name, RUN_OF_FAILURES), total=name in TOTAL)

    @classmethod
    def of_command_line(cls, name: str, arguments: Sequence[str]) -> Deadline:
        """Return the same for a command whose line wasn't parsed yet."""
        text = ""
        for number, word in enumerate(arguments):
            if word == "--timeout":
                text = "".join(arguments[number + 1 : number + 2])
            elif word.startswith("--timeout="):
                text = word.partition("=")[2]
        return cls.of_command(name, float(text) if text.isdecimal() else None)

    def begin(self) -> Turn:
        """Return the share of one request, with all its tries."""
        return Turn(self)

    def left(self) -> float:
        """Return the seconds until a request that begins now would be given up; negative when that time is over."""
        return self.begin().left()

    def moved(self, size: int) -> None:
        """Note that ``size`` bytes of this thread's request went over the network."""
        turn = self._turns.get(get_ident())
        if turn is not None:
            turn.moved(size)

    def progress(self) -> Callable[[int], None]:
        """Return what notes the progress of this thread's request, for calls in other threads."""
        turn = self._turns.get(get_ident())
        return self.begin().moved if turn is None else turn.moved

    @property
    def failing_for(self) -> float:
        """Seconds since the store began to fail; 0 while it doesn't."""
        since = self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def silence(self, most: float) -> float:
        """Return the seconds, at most ``most``, to wait for the next bytes: a request gets a second chance."""
        return min(most, max(self.seconds / 2, 0.5))


class Turn:
    """One request with all its tries. As a context it stands for the thread that makes the request."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._began = time.monotonic()
        self._moved = 0.0
        """Seconds that the bytes of the current try may take."""

    def left(self) -> float:
        """Return the seconds until the request is to be given up; negative when that time is over."""
        deadline = self._deadline
        start = self._began
        if deadline.total:
            start = deadline._began + deadline._added
        elif deadline._failing_since is not None:
            start = min(start, deadline._failing_since)
        return start + self._moved + deadline.seconds - time.monotonic()

    def moved(self, size: int) -> None:
        """Note that ``size`` bytes went over the network, or are going to in a call that doesn't tell how far it is.

        If this try fails, they count for nothing.
        """
        self._moved += size / (SLOWEST if self._deadline.total else SLOWEST_OF_MANY)

    def failed(self) -> None:
        """Note that a try failed."""
        self._moved = 0.0
        deadline = self._deadline
        if deadline._failing_since is None:
            deadline._failing_since = max(self._began, deadline._last_success)

    def succeeded(self) -> None:
        """Note that the store did what it was asked."""
        deadline = self._deadline
        deadline._added += self._moved
        deadline._last_success = time.monotonic()
        deadline._failing_since = None

    def __enter__(self) -> Turn:
        self._deadline._turns[get_ident()] = self
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._deadline._turns.pop(get_ident(), None)
