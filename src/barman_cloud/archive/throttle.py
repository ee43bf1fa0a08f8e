"""A limit on bytes per second that all workers of a process share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

from barman_cloud.archive.buffers import Buffer

_BURST: Final = 0.1
"""Seconds of unused allowance that are kept for later."""


class Throttle:
    """A token bucket. Over any time span of ``t`` seconds at most ``rate * (t + 0.1)`` bytes pass.

    Threads that wait sleep until their turn, in the order in which they asked.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()
        """When everything that was granted so far has been paid for."""
        self._opened = threading.Event()

    def take(self, size: int) -> None:
        """Wait until ``size`` more bytes may pass; at once after ``open()``."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _BURST) + size / self._rate
            delay = self._free_at - now
        if delay > 0:
            self._opened.wait(delay)

    def open(self) -> None:
        """End the limit and wake every thread that waits, so that a run that was interrupted can end soon."""
        self._opened.set()


def throttle_stream(chunks: Iterable[Buffer], throttle: Throttle | None) -> Iterator[Buffer]:
    """Pass buffers on no faster than ``throttle`` allows; a stage of the pipe."""
    if throttle is None:
        yield from chunks
        return
    for chunk in chunks:
        throttle.take(len(chunk))
        yield chunk
