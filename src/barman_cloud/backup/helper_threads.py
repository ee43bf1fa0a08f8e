"""What helper threads have to say, and the main thread's place to wait for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Events:
    """Calls of helper threads for the main thread, which alone acts on them and on signals."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Let :meth:`wait` return; called by helper threads."""
        self._queue.put(None)

    def fail(self, error: BaseException) -> None:
        """Let :meth:`wait` raise ``error``; called by helper threads."""
        self._queue.put(error)

    def wait(self, timeout: float | None = None) -> None:
        """Wait for a helper thread's call, or ``timeout`` seconds; raises what it says, and on signals."""
        try:
            event = self._queue.get(timeout=timeout)
        except queue.Empty:
            return
        if event is not None:
            raise event

    def check(self) -> None:
        """Raise the first error that a helper thread has reported and that was not raised yet."""
        while not self._queue.empty():
            self.wait(0)

    def sleep(self, seconds: float) -> None:
        """Wait the whole time, unless a helper thread reports an error or a signal comes."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.wait(left)


def call_interruptibly(function: Callable[[], T]) -> T:
    """Call ``function`` in a helper thread and return its result, or raise its error.

    A store's native calls can't be interrupted by signals; this way the main thread only waits, and can. The helper
    thread is abandoned then.
    """
    outcome: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            outcome.put((function(), None))
        except BaseException as error:  # noqa: BLE001 - carried to the waiting thread
            outcome.put((None, error))

    threading.Thread(target=work, name="transfer", daemon=True).start()
    result, error = outcome.get()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
