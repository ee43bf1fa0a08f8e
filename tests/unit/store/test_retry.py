"""The retry loop and the read-ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import StoreError
from barman_cloud.store import retry as module
from barman_cloud.store.failures import TransientError
from barman_cloud.store.ranges import read_ahead, while_quick
from barman_cloud.store.retry import Retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made; time passes by them alone."""
    made: list[float] = []
    monkeypatch.setattr(module.time, "sleep", made.append)
    monkeypatch.setattr(module.time, "monotonic", lambda: sum(made))
    return made


def failing(times: int) -> Callable[[], str]:
    left = [times]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise TransientError("s3://b/k: not now", answered=True)
        return "done"

    return action


def test_passing_failures_are_borne(pauses: list[float]) -> None:
    assert Retry(60).call(failing(4)) == "done"
    assert len(pauses) == 4
    for number, pause in enumerate(pauses):
        assert 0.6 * 0.25 * 2**number <= pause <= 0.25 * 2**number


def test_the_budget_ends_it(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(100).call(failing(1000))
    assert 60 < sum(pauses) <= 100
    assert max(pauses) <= 20


def test_attempts_end_it(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(100, max_attempts=3).call(failing(1000))
    assert len(pauses) == 2


def test_one_attempt_means_no_retry(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(100, max_attempts=1).call(failing(1))
    assert pauses == []


def test_the_caller_may_lose_patience(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(100).call(failing(1000), stopped=lambda: len(pauses) >= 2)
    assert len(pauses) == 2


def test_other_failures_are_final(pauses: list[float]) -> None:
    def action() -> None:
        raise StoreError("no")

    with pytest.raises(StoreError):
        Retry(100).call(action)
    assert pauses == []


@given(st.integers(0, 500), st.integers(0, 500), st.integers(1, 200), st.integers(1, 5))
def test_read_ahead_delivers_in_order(start: int, length: int, size: int, concurrency: int) -> None:
    data = bytes(range(256)) * 4
    end = min(start + length, len(data))
    pieces = list(read_ahead(lambda a, b: [data[a:b]], start, end, size, concurrency))
    assert b"".join(pieces) == data[start:end]
    assert all(0 < len(piece) <= size for piece in pieces)


def test_read_ahead_is_bounded() -> None:
    begun = []

    def fetch(start: int, end: int) -> list[bytes]:
        begun.append(start)
        return [bytes(end - start)]

    reader = read_ahead(fetch, 0, 100, 1, 3)
    next(reader)
    time.sleep(0.05)
    assert len(begun) <= 4
    reader.close()  # type: ignore[attr-defined]


def test_a_failed_range_raises_in_its_turn() -> None:
    def fetch(start: int, end: int) -> list[bytes]:
        if start == 2:
            raise StoreError("range 2")
        return [b"x"]

    reader = read_ahead(fetch, 0, 6, 1, 4)
    assert [next(reader), next(reader)] == [b"x", b"x"]
    with pytest.raises(StoreError, match="range 2"):
        next(reader)


def test_closing_does_not_wait() -> None:
    release = threading.Event()

    def fetch(start: int, end: int) -> list[bytes]:
        if start > 0:
            release.wait(10)
        return [b"x"]

    reader = read_ahead(fetch, 0, 4, 1, 4)
    next(reader)
    began = time.monotonic()
    reader.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 5
    release.set()


def test_a_quick_connection_is_read_to_its_end() -> None:
    assert list(while_quick([b"x" * 1000] * 100)) == [b"x" * 1000] * 100


def test_a_slow_connection_is_given_up() -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.02)
            yield b"x" * 1000

    assert 0 < len(list(while_quick(slow()))) < 20


def test_the_time_of_the_consumer_does_not_count() -> None:
    read = 0
    for _ in while_quick([b"x" * 1000] * 10):
        time.sleep(0.05)
        read += 1
    assert read == 10
