"""Turning signals into an exception, so that an interrupted backup cleans up after itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_ONE_WISH = 0.5
"""Seconds within which several signals mean one wish: a terminal that closes hangs up from the kernel and again from
the shell, systemd may send SIGHUP right behind SIGTERM.
"""


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop. A KeyboardInterrupt, so that psycopg cancels the query that it waits for."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(f"interrupted by {signal.Signals(number).name}")


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` in the main thread on SIGINT, SIGTERM or SIGHUP; a later one ends the process.

    A signal that is ignored (``nohup``) stays so. Outside the main thread this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            raise Interrupted(number)
        if now - first > _ONE_WISH:
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
