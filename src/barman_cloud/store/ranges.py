"""Reading large objects: several ranges in flight, delivered in order, or one connection as long as it is quick."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from barman_cloud.store.upload import handed_over

if TYPE_CHECKING:
    from concurrent.futures import Future

    from barman_cloud.store.base import Buffer

_SLOW_CONNECTION = 80e6
"""Bytes per second that clouds don't give to one connection, but to several together."""
_PATIENCE = 0.25
"""Seconds of waiting for bytes before a connection is judged."""


def read_ahead(
    fetch: Callable[[int, int], list[Buffer]], start: int, end: int, range_size: int, concurrency: int
) -> Iterator[Buffer]:
    """Yield the pieces of ``fetch(a, b)`` for the consecutive ranges of ``start`` to ``end``, in order.

    Up to ``concurrency`` fetches run ahead of the consumer, each in a thread of its own; one that fails raises when its
    turn comes. Closing the generator drops what hasn't begun and doesn't wait for the rest, and neither does the end of
    the process: that is why these aren't threads of an executor.
    """
    starts = iter(range(start, end, range_size))
    if concurrency <= 1 or end - start <= range_size:
        for begin in starts:
            yield from handed_over(fetch(begin, min(begin + range_size, end)))
        return
    import threading
    from concurrent.futures import Future
    from queue import Empty, SimpleQueue

    waiting: SimpleQueue[tuple[Future[list[Buffer]], int] | None] = SimpleQueue()
    flying: deque[Future[list[Buffer]]] = deque()

    def work() -> None:
        while (task := waiting.get()) is not None:
            future, begin = task
            try:
                future.set_result(fetch(begin, min(begin + range_size, end)))
            except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
                future.set_exception(error)
            # Not to keep the bytes alive until the next task comes.
            del task, future

    def launch() -> None:
        begin = next(starts, None)
        if begin is not None:
            flying.append(Future())
            waiting.put((flying[-1], begin))

    for number in range(concurrency):
        launch()
        threading.Thread(target=work, name=f"read-ahead-{number}", daemon=True).start()
    try:
        while flying:
            pieces = flying.popleft().result()
            launch()
            yield from handed_over(pieces)
    finally:
        try:
            while True:
                waiting.get_nowait()
        except Empty:
            pass
        for _ in range(concurrency):
            waiting.put(None)


def while_quick(chunks: Iterable[Buffer]) -> Iterator[Buffer]:
    """Yield the chunks of one connection, and end early when it is slow. The time of the consumer doesn't count."""
    arriving = iter(chunks)
    size, waited = 0, 0.0
    while waited <= _PATIENCE or size >= waited * _SLOW_CONNECTION:
        asked = time.monotonic()
        chunk = next(arriving, None)
        waited += time.monotonic() - asked
        if chunk is None:
            return
        size += len(chunk)
        yield chunk
