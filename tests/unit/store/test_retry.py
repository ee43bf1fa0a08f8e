"""The retry loop and the read-ahead."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud import deadline as deadline_module
from barman_cloud.deadline import SLOWEST, Deadline
from barman_cloud.errors import StoreError
from barman_cloud.store import ranges
from barman_cloud.store import retry as module
from barman_cloud.store.failures import TransientError
from barman_cloud.store.ranges import read_ahead, while_quick
from barman_cloud.store.retry import Retry


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses made; time passes by them alone."""
    made: list[float] = []
    clock = SimpleNamespace(sleep=made.append, monotonic=lambda: sum(made))
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(deadline_module, "time", clock)
    return made


def failing(times: int) -> Callable[[], str]:
    left = [times]

    def action() -> str:
        if left[0]:
            left[0] -= 1
            raise TransientError("s3://b/k: 503 SlowDown", answered=True)
        return "done"

    return action


def test_transient_errors_are_retried_with_growing_pauses(pauses: list[float]) -> None:
    assert Retry(Deadline(60)).call(failing(4)) == "done"
    assert len(pauses) == 4
    for number, pause in enumerate(pauses):
        assert 0.6 * 0.25 * 2**number <= pause <= 0.25 * 2**number


@pytest.mark.parametrize("total", [False, True])
def test_the_deadline_ends_it(pauses: list[float], total: bool) -> None:
    with pytest.raises(TransientError):
        Retry(Deadline(100, total=total)).call(failing(1000))
    assert 99 < sum(pauses) <= 100
    assert max(pauses) <= 20


def test_a_total_deadline_is_spent_once_by_all_requests(pauses: list[float]) -> None:
    retry = Retry(Deadline(100, total=True))
    for _ in range(3):
        with contextlib.suppress(TransientError):
            retry.call(failing(5))
    with pytest.raises(TransientError):
        retry.call(failing(1000))
    assert sum(pauses) <= 100


def test_a_run_of_failures_is_spent_once_by_all_requests(pauses: list[float]) -> None:
    """What is asked after the last failure, to clean up for example, gets one try and no budget of its own."""
    retry = Retry(Deadline(100))
    for _ in range(3):
        with pytest.raises(TransientError):
            retry.call(failing(1000))
    assert sum(pauses) <= 100


def test_a_success_ends_a_run_of_failures(pauses: list[float]) -> None:
    retry = Retry(Deadline(100))
    for _ in range(10):
        assert retry.call(failing(6)) == "done"
    assert sum(pauses) > 70


def test_attempts_end_it(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(Deadline(100), max_attempts=3).call(failing(1000))
    assert len(pauses) == 2


def test_one_attempt_means_no_retry(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(Deadline(100), max_attempts=1).call(failing(1))
    assert pauses == []


def test_the_caller_may_stop_it(pauses: list[float]) -> None:
    with pytest.raises(TransientError):
        Retry(Deadline(100)).call(failing(1000), stopped=lambda: len(pauses) >= 2)
    assert len(pauses) == 2


def test_other_failures_are_final(pauses: list[float]) -> None:
    def action() -> None:
        raise StoreError("no")

    with pytest.raises(StoreError):
        Retry(Deadline(100)).call(action)
    assert pauses == []


def test_a_store_that_never_answered_is_given_up_sooner(pauses: list[float]) -> None:
    def action() -> None:
        raise TransientError("s3://b/k: connection refused")

    with pytest.raises(TransientError):
        Retry(Deadline(240)).call(action)
    assert sum(pauses) <= module.FIRST_CONTACT


def test_a_retry_after_five_seconds_is_a_warning_with_the_stores_reason(
    pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "barman_cloud")
    Retry(Deadline(60)).call(failing(6))
    levels = [record.levelname for record in caplog.records]
    assert levels[:3] == ["INFO"] * 3
    assert "WARNING" in levels
    assert all("503 SlowDown" in record.message for record in caplog.records)
    first = levels.index("WARNING")
    assert sum(pauses[:first]) < module.QUIET <= sum(pauses[: first + 1])


def test_many_threads_in_trouble_warn_once(pauses: list[float], caplog: pytest.LogCaptureFixture) -> None:
    retry = Retry(Deadline(1000))
    pauses.append(0.0)

    def action() -> None:
        if sum(pauses) < 30:
            raise TransientError("s3://b/k: 503", answered=True)

    threads = [threading.Thread(target=retry.call, args=(action,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= sum(record.levelname == "WARNING" for record in caplog.records) <= sum(pauses) / module.QUIET + 1


@pytest.mark.parametrize("total", [False, True])
def test_a_request_without_an_answer_ends_by_the_deadline(total: bool) -> None:
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TransientError, match="s3://b/k: the store doesn't answer in time"):
        Retry(Deadline(0.3, total=total)).call(lambda: release.wait(60), name="s3://b/k")
    assert time.monotonic() - began < 30
    release.set()


def test_bytes_on_their_way_give_a_slow_link_more_time(pauses: list[float]) -> None:
    deadline = Deadline(0.2, total=True)

    def slow() -> str:
        for _ in range(6):
            pauses.append(0.1)
            deadline.moved(SLOWEST // 8)
        time.sleep(0.5)  # of real time: who waits for this looks at the clock several times
        return "done"

    assert Retry(deadline).call(slow) == "done"


@pytest.mark.parametrize("total", [False, True])
def test_an_answer_that_drips_is_no_progress(total: bool) -> None:
    deadline = Deadline(0.3, total=total)
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.02):
            deadline.moved(1)

    with pytest.raises(TransientError):
        Retry(deadline).call(drip)
    ended.set()


def test_bytes_of_a_try_that_failed_count_for_nothing(pauses: list[float]) -> None:
    """A store that takes each upload and answers 503 would never be given up otherwise."""
    deadline = Deadline(1, total=True)
    tries = []

    def action() -> None:
        tries.append(deadline.moved(100 * SLOWEST))
        raise TransientError("s3://b/k: 503", answered=True)

    with pytest.raises(TransientError):
        Retry(deadline).call(action)
    assert len(tries) >= 2
    assert sum(pauses) <= 1


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["--timeout", "7", "s3://b", "main"], 7),
        (["--timeout=8", "s3://b"], 8),
        (["--timeout", "soon"], 25),
        (["--timeout"], 25),
        (["s3://b", "main"], 25),
    ],
)
def test_a_command_line_that_was_not_parsed_yet_has_its_deadline(words: list[str], seconds: float) -> None:
    deadline = Deadline.of_command_line("wal-restore", words)
    assert (deadline.seconds, deadline.total) == (seconds, True)


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
            release.wait(60)
        return [b"x"]

    reader = read_ahead(fetch, 0, 4, 1, 4)
    next(reader)
    began = time.monotonic()
    reader.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 30
    release.set()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that reading takes; time passes by them alone."""
    taken: list[float] = []
    monkeypatch.setattr(ranges, "time", SimpleNamespace(monotonic=lambda: sum(taken)))
    return taken


def test_a_slow_connection_is_given_up(reading: list[float]) -> None:
    def slow() -> Iterator[bytes]:
        for _ in range(100):
            reading.append(0.02)
            yield b"x" * 1000

    assert 0 < len(list(while_quick(slow()))) < 20


def test_a_quick_connection_is_read_to_its_end(reading: list[float]) -> None:
    def quick() -> Iterator[bytes]:
        for _ in range(100):
            reading.append(0.01)
            yield bytes(1_000_000)

    assert sum(map(len, while_quick(quick()))) == 100_000_000


def test_the_time_of_the_consumer_does_not_count(reading: list[float]) -> None:
    read = 0
    for _ in while_quick([b"x" * 1000] * 10):
        reading.append(0.05)
        read += 1
    assert read == 10
