"""Reading ahead: several ranges of one object in flight, delivered in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

    from barman_cloud.store.base import Buffer


def read_ahead(
    fetch: Callable[[int, int], Buffer], start: int, end: int, range_size: int, concurrency: int
) -> Iterator[Buffer]:
    """Yield ``fetch(a, b)`` for the consecutive ranges of ``start`` to ``end``, in order.

    Up to ``concurrency`` fetches run ahead of the consumer, each in a thread of its own; one that fails raises when its
    turn comes. Closing the generator drops what hasn't begun and doesn't wait for the rest.
    """
    starts = iter(range(start, end, range_size))
    if concurrency <= 1 or end - start <= range_size:
        for begin in starts:
            yield fetch(begin, min(begin + range_size, end))
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="read-ahead")
    flying: deque[Future[Buffer]] = deque()

    def launch() -> None:
        begin = next(starts, None)
        if begin is not None:
            flying.append(pool.submit(fetch, begin, min(begin + range_size, end)))

    try:
        for _ in range(concurrency):
            launch()
        while flying:
            data = flying.popleft().result()
            launch()
            yield data
            del data
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
