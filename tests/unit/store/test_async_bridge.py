"""Asynchronous functions called from ordinary threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from collections.abc import AsyncIterator

import pytest

from barman_cloud.store import async_bridge


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail() -> int:
    await asyncio.sleep(0)
    raise ValueError("no")


def test_results_and_errors() -> None:
    assert async_bridge.call(lambda: answer(3)) == 3
    with pytest.raises(ValueError, match="no"):
        async_bridge.call(fail)


def test_from_several_threads_at_once() -> None:
    met = threading.Barrier(4, timeout=30)
    results: list[int] = []

    async def meet(value: int) -> int:
        return await asyncio.to_thread(lambda: (met.wait(), value)[1])

    threads = [
        threading.Thread(target=lambda value=value: results.append(async_bridge.call(lambda: meet(value))))
        for value in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [0, 1, 2, 3]


async def count(limit: int, taken: list[int]) -> AsyncIterator[int | None]:
    for number in range(limit):
        taken.append(number)
        yield None if number == 1 else number
    raise ValueError("the end")


def test_items_in_order_then_the_error() -> None:
    items = async_bridge.iterate(count(3, []), 60)
    assert [next(items), next(items), next(items)] == [0, None, 2]
    with pytest.raises(ValueError, match="the end"):
        next(items)


def test_an_end_without_error() -> None:
    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert list(async_bridge.iterate(two(), 60)) == [1, 2]


def test_no_more_than_one_item_is_taken_ahead() -> None:
    taken: list[int] = []
    items = async_bridge.iterate(count(10, taken), 60)
    next(items)
    async_bridge.call(lambda: asyncio.sleep(0.05))
    assert taken == [0, 1]


def test_threads_that_come_first_at_once_share_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    # A loop of their own; others keep theirs.
    monkeypatch.setattr(async_bridge, "_started_loop", functools.cache(async_bridge._started_loop.__wrapped__))
    together = threading.Barrier(8, timeout=30)
    loops: list[asyncio.AbstractEventLoop] = []

    async def own_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def come() -> None:
        together.wait()
        loops.append(async_bridge.call(own_loop))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loops) == 8
    assert len(set(loops)) == 1


def test_a_consumer_that_stops_early_leaves_nothing_to_complain_about(caplog: pytest.LogCaptureFixture) -> None:
    gc.collect()
    caplog.clear()  # of what others have left
    items = async_bridge.iterate(count(1, []), 60)
    assert next(items) == 0
    items.close()  # while the step that fails is pending
    gc.collect()
    async_bridge.call(lambda: asyncio.sleep(0.05))
    gc.collect()
    assert not caplog.records
