"""How far a command is: counters that the work writes and a display reads, whatever either of them is.

    work = progress.current()
    work.phase("copying", total=bytes_to_read, items=12)
    with work.item("data_0007.tar") as item:
        for piece in item.counting_data(pieces):
            ...

Counting costs the work an addition for each buffer: each counter is written by one thread alone, and only a display
adds them up. :func:`current` is a context variable: nothing has to hand it through, and functions that nobody watches
count into an object that nobody reads. A new thread doesn't inherit it, so ask for it before threads are started.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

DATA = "data"
STORED = "stored"
"""What a phase measures: bytes as PostgreSQL has them, or as the store has them."""

_Sized = TypeVar("_Sized", bound="_HasLength")


class _HasLength(Protocol):
    def __len__(self) -> int: ...


class Counter(Protocol):
    """Something that knows how many bytes went through it so far."""

    size: int


@dataclass(frozen=True, slots=True)
class ItemState:
    """One archive or object in work. Sizes in bytes."""

    name: str
    data: int
    stored: int
    done: int
    """Of ``total``, in what the phase measures."""
    total: int | None


@dataclass(frozen=True, slots=True)
class State:
    """How far a command is, at one moment. Sizes in bytes, times in seconds."""

    phase: str
    phase_seconds: float
    seconds: float
    """Since the beginning of the command."""
    data: int
    """Since the beginning of the command, as PostgreSQL has them."""
    stored: int
    """The same bytes as the store has them."""
    measure: str
    """``data`` or ``stored``: what ``done`` and ``total`` count."""
    done: int
    """In this phase."""
    total: int | None
    """In this phase; None where it isn't known."""
    items_done: int
    """In this phase."""
    items_total: int | None
    items: tuple[ItemState, ...]
    position: str = ""
    """Where the work is, in words."""

    @property
    def fraction(self) -> float | None:
        """Return how much of the phase is done, from 0 to 1; None where it isn't known."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0

    @property
    def ratio(self) -> float | None:
        """Return how much smaller the bytes are in the store; None while that isn't known."""
        return self.data / self.stored if self.data and self.stored else None


class Item:
    """One archive or object in work. The counters are for one thread each."""

    def __init__(self, work: Progress, name: str, total: int | None) -> None:
        self._work = work
        self.name = name
        self.total = total
        self.data = 0
        self.stored = 0
        self.skipped = 0
        """Bytes of data that need not be moved, such as blocks that didn't change."""
        self._data_counter: Counter | None = None
        self._stored_counter: Counter | None = None

    def follow(self, data: Counter, stored: Counter) -> None:
        """Take both numbers from stages of a pipe that count anyway."""
        self._data_counter, self._stored_counter = data, stored

    def skip(self, size: int) -> None:
        """Note bytes that count as done although they aren't moved."""
        self.skipped += size

    def counting_data(self, chunks: Iterable[_Sized]) -> Iterator[_Sized]:
        """Pass buffers on, counted as data."""
        for chunk in chunks:
            self.data += len(chunk)
            yield chunk

    def counting_stored(self, chunks: Iterable[_Sized]) -> Iterator[_Sized]:
        """Pass buffers on, counted as stored."""
        for chunk in chunks:
            self.stored += len(chunk)
            yield chunk

    def state(self, measure: str) -> ItemState:
        """Return the numbers of this moment."""
        data = self.data + (self._data_counter.size if self._data_counter else 0)
        stored = self.stored + (self._stored_counter.size if self._stored_counter else 0)
        done = data + self.skipped if measure == DATA else stored
        return ItemState(self.name, data, stored, done, self.total)


@dataclass(slots=True)
class _Totals:
    data: int = 0
    stored: int = 0
    skipped: int = 0
    items: int = 0


class Progress:
    """The counters of one command. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began = self._phase_began = time.monotonic()
        self._phase = "asking the store"
        self._seconds: dict[str, float] = {}
        self._measure = DATA
        self._total: int | None = None
        self._items_total: int | None = None
        self._finished = _Totals()
        self._before = _Totals()
        """What was finished before this phase."""
        self._items: dict[int, Item] = {}
        self.on_phase: Callable[[], None] | None = None
        """Called, in the thread that does the work, when a phase has begun."""
        self.on_hide: Callable[[], None] | None = None
        """Called by :meth:`hide`."""
        self.position: Callable[[], str] | None = None
        """Returns where the work is, in words, for what has no end; called by any thread."""
        self.notes: dict[str, Any] = {}
        """What the work has to say for the summary: a backup's WAL, what a deletion took. Written by one thread."""

    def phase(self, name: str, *, total: int | None = None, items: int | None = None, measure: str = DATA) -> None:
        """Begin a phase: what is done (``copying``), how many bytes it has and how many items, where that is known."""
        with self._lock:
            now = time.monotonic()
            self._note_seconds(now)
            self._phase, self._phase_began = name, now
            self._measure, self._total, self._items_total = measure, total, items
            done = self._finished
            self._before = _Totals(done.data, done.stored, done.skipped, done.items)
        if self.on_phase is not None:
            self.on_phase()

    def hide(self) -> None:
        """End live lines for good: other processes, or another program in this one, write to the terminal now."""
        if self.on_hide is not None:
            self.on_hide()

    @contextmanager
    def item(self, name: str = "", total: int | None = None) -> Iterator[Item]:
        """Count an archive or object while it is in work; ``total`` is in what the phase measures."""
        item = Item(self, name, total)
        with self._lock:
            self._items[id(item)] = item
        try:
            yield item
        finally:
            with self._lock:
                del self._items[id(item)]
                state = item.state(DATA)
                self._finished.data += state.data
                self._finished.stored += state.stored
                self._finished.skipped += item.skipped
                self._finished.items += 1

    def add(self, *, data: int = 0, stored: int = 0, items: int = 0) -> None:
        """Count what is done already."""
        with self._lock:
            self._finished.data += data
            self._finished.stored += stored
            self._finished.items += items

    def state(self) -> State:
        """Return how far the work is."""
        with self._lock:
            now = time.monotonic()
            items = tuple(item.state(self._measure) for item in self._items.values())
            data = self._finished.data + sum(item.data for item in items)
            stored = self._finished.stored + sum(item.stored for item in items)
            finished, before = self._finished, self._before
            if self._measure == DATA:
                done = finished.data + finished.skipped - before.data - before.skipped
            else:
                done = finished.stored - before.stored
            return State(
                phase=self._phase,
                phase_seconds=now - self._phase_began,
                seconds=now - self._began,
                data=data,
                stored=stored,
                measure=self._measure,
                done=done + sum(item.done for item in items),
                total=self._total,
                items_done=finished.items - before.items,
                items_total=self._items_total,
                items=items,
                position=self.position() if self.position else "",
            )

    @property
    def items_finished(self) -> int:
        """How many items were finished since the beginning."""
        return self._finished.items

    def phases(self) -> dict[str, float]:
        """Return the seconds that each phase has taken so far, in the order in which they began."""
        with self._lock:
            self._note_seconds(time.monotonic())
            self._phase_began = time.monotonic()
            return dict(self._seconds)

    def _note_seconds(self, now: float) -> None:
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._phase_began


_current: ContextVar[Progress | None] = ContextVar("progress", default=None)


def is_watched() -> bool:
    """Tell whether somebody reads what this thread counts."""
    return _current.get() is not None


def current() -> Progress:
    """Return the counters of the command that runs; without one, new ones that nobody reads."""
    return _current.get() or Progress()


@contextmanager
def watched(work: Progress | None = None) -> Iterator[Progress]:
    """Let :func:`current` return ``work``, or new counters, in this thread meanwhile."""
    work = work or Progress()
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)
