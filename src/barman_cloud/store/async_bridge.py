"""Calling obstore's asynchronous functions from ordinary threads.

A blocking call of obstore is driven by the thread that makes it, which has to be woken for each 16 KiB that arrive: a
hundred switches of threads for each MiB. An asynchronous one is driven by obstore's own threads until it is done, and
only whole pieces change threads. That is a tenth of the time of a restore, and more where the network is quick.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator
from functools import cache
from typing import TypeVar

T = TypeVar("T")

_starting = threading.Lock()


def call(function: Callable[[], Awaitable[T]]) -> T:
    """Return the result of an asynchronous function, or raise its error."""
    loop = _loop()

    async def run() -> T:
        return await function()

    return asyncio.run_coroutine_threadsafe(run(), loop).result()


def iterate(items: AsyncIterable[T], timeout: float) -> Iterator[T]:
    """Yield the items; the next one is on its way while the caller works on one. Errors are raised in their turn.

    Raises ``TimeoutError`` when the next one doesn't come within ``timeout`` seconds.
    """
    iterator = aiter(items)

    async def step() -> tuple[T] | None:
        try:
            return (await anext(iterator),)
        except StopAsyncIteration:
            return None

    loop = _loop()
    coming = asyncio.run_coroutine_threadsafe(step(), loop)
    while (item := coming.result(timeout)) is not None:
        coming = asyncio.run_coroutine_threadsafe(step(), loop)
        yield item[0]
        del item


def _loop() -> asyncio.AbstractEventLoop:
    """Return the process's one event loop; its thread ends with the process."""
    with _starting:
        return _started_loop()


@cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="store-events", daemon=True).start()
    return loop
