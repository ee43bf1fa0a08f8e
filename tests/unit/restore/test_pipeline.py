"""A stage in its own thread, and the worker threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from barman_cloud.restore.pipeline import Stopped, ahead, run_all, until_stopped


def test_ahead_keeps_the_order_and_the_bound() -> None:
    made: list[int] = []

    def produce() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    seen = []
    for number in ahead(produce(), 4):
        seen.append(number)
        assert len(made) <= number + 4 + 3
    assert seen == list(range(100))


def test_ahead_raises_what_the_producer_raises_after_its_items() -> None:
    def produce() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = ahead(produce(), 4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_closing_ahead_ends_the_producer() -> None:
    made: list[int] = []
    ended = threading.Event()

    def produce() -> Iterator[int]:
        try:
            for number in range(1000):
                made.append(number)
                yield number
        finally:
            ended.set()

    items = ahead(produce(), 2)
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert ended.wait(60)
    assert len(made) < 10


def test_an_open_stage_does_not_keep_the_interpreter_from_ending() -> None:
    program = """
import threading
from barman_cloud.restore.pipeline import ahead

items = ahead((threading.Event().wait(1) or n for n in range(1000)), 1)
next(items)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_until_stopped() -> None:
    stop = threading.Event()
    items = until_stopped(iter(range(10)), stop)
    assert next(items) == 0
    stop.set()
    with pytest.raises(Stopped):
        next(items)


def test_run_all_runs_everything_on_so_many_threads() -> None:
    seen: set[int] = set()
    threads: set[str] = set()
    together = threading.Barrier(3, timeout=60)

    def task(number: int) -> None:
        if number < 3:
            together.wait()
        threads.add(threading.current_thread().name)
        seen.add(number)

    run_all([lambda _stop, number=number: task(number) for number in range(20)], 3)
    assert seen == set(range(20))
    assert len(threads) <= 3


def test_run_all_of_nothing() -> None:
    run_all([], 4)


def test_the_first_error_stops_the_others() -> None:
    stopped = threading.Event()

    def fail(_stop: threading.Event) -> None:
        raise OSError("disk full")

    def wait(stop: threading.Event) -> None:
        assert stop.wait(60)
        stopped.set()
        raise Stopped

    with pytest.raises(OSError, match="disk full"):
        run_all([wait, fail, wait], 2)
    assert stopped.is_set()
