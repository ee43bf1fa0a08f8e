"""What helper threads have to say, and the main thread's place to wait for it."""

from __future__ import annotations

import queue
import time


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
