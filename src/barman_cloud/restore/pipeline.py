"""Small pieces of the restore pipe: a stage in a thread of its own, stopping on demand, and worker threads."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 2.0
"""Seconds that workers have to notice that they have to stop; one may be inside a network call."""


class Stopped(Exception):
    """Raised inside a worker after ``stop`` was set; the error of another worker, or Ctrl-C, is the news then."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


def until_stopped(items: Iterable[T], stop: threading.Event) -> Iterator[T]:
    """Pass ``items`` on, and raise ``Stopped`` as soon as ``stop`` is set."""
    for item in items:
        if stop.is_set():
            raise Stopped
        yield item


def ahead(items: Iterable[T], depth: int) -> Iterator[T]:
    """Produce ``items`` in a thread of its own, at most ``depth`` ahead of the consumer, and yield them in order.

    An exception of the producer is raised here, after the items that came before it. When this generator is closed, the
    producer ends after the item that it is working on; nothing waits for that, because a generator may be closed as
    late as by the end of the interpreter, when other threads don't run any more.
    """
    ready: queue.Queue[T | _End] = queue.Queue(depth)
    closed = threading.Event()

    def produce() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                ready.put(item)
                if closed.is_set():
                    return
        except BaseException as caught:  # noqa: BLE001 - raised again in the consumer's thread
            error = caught
        ready.put(_End(error))

    threading.Thread(target=produce, name="ahead", daemon=True).start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        closed.set()
        # A producer that waits for room gets it; after this it puts one item at the most, and there is room for that.
        with contextlib.suppress(queue.Empty):
            while True:
                ready.get_nowait()


def run_all(tasks: Sequence[Callable[[threading.Event], None]], jobs: int) -> None:
    """Run every task, in order, on ``jobs`` threads.

    The first exception of a task, or an interrupt of this thread, sets the event that each task got, waits for the
    others to stop, and is raised.
    """
    waiting: queue.SimpleQueue[Callable[[threading.Event], None]] = queue.SimpleQueue()
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    for task in tasks:
        waiting.put(task)

    def work() -> None:
        error: BaseException | None = None
        try:
            while not stop.is_set():
                waiting.get_nowait()(stop)
        except queue.Empty:
            pass
        except BaseException as caught:  # noqa: BLE001 - raised again in the caller's thread
            error = caught
        ended.put(error)

    threads = [threading.Thread(target=work, name=f"restore-{n}", daemon=True) for n in range(min(jobs, len(tasks)))]
    for thread in threads:
        thread.start()
    try:
        for _ in threads:
            if error := ended.get():
                raise error
    finally:
        stop.set()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
