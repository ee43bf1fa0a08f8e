from __future__ import annotations

import threading
import time

import pytest

from barman_cloud.archive import throttle as module
from barman_cloud.archive.throttle import Throttle, throttle_stream


class FakeTime:
    """A clock that only moves when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock, plain, own = FakeTime(), threading.Event.wait, threading.current_thread()

    def wait(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None or threading.current_thread() is not own:  # what others wait for is none of ours
            return plain(event, timeout)
        clock.now += timeout
        return False

    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(threading.Event, "wait", wait)
    return clock


@pytest.mark.parametrize("size", [1, 8192, 1 << 20, 30 << 20])
@pytest.mark.parametrize("rate", [64_000, 10 << 20, 1 << 30])
def test_the_rate_is_exact(clock: FakeTime, rate: int, size: int) -> None:
    throttle = Throttle(rate)
    start, passed = clock.now, 0
    while passed < 10 * rate and passed < 2000 * size:
        throttle.take(size)
        passed += size
    assert passed / (clock.now - start) == pytest.approx(rate, rel=0.001)


def test_idle_time_is_not_saved_up(clock: FakeTime) -> None:
    throttle = Throttle(1000)
    throttle.take(1000)
    clock.now += 3600
    start = clock.now
    for _ in range(100):
        throttle.take(100)
    assert clock.now - start == pytest.approx(10 - 0.1)


def _shared_by_four(throttle: Throttle, each: int, size: int) -> tuple[float, float]:
    """Let four threads pass ``each`` buffers of ``size`` bytes; return the seconds of wall clock and of CPU."""
    passed = [0] * 4

    def work(number: int) -> None:
        for chunk in throttle_stream([bytes(size)] * each, throttle):
            passed[number] += len(chunk)

    start, busy = time.monotonic(), time.process_time()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [each * size] * 4
    return time.monotonic() - start, time.process_time() - busy


def test_threads_share_the_limit_without_using_the_processor() -> None:
    wall, cpu = _shared_by_four(Throttle(4 << 20), 16, 64 << 10)
    assert wall > 0.75  # how much longer depends on what else the machine does
    assert cpu < 0.5


@pytest.mark.long
def test_the_limit_is_exact_over_ten_seconds() -> None:
    wall, cpu = _shared_by_four(Throttle(32 << 20), 320, 256 << 10)
    assert wall == pytest.approx(10.0, rel=0.05)
    assert cpu < 1


def test_open_wakes_those_who_wait() -> None:
    throttle = Throttle(1)
    thread = threading.Thread(target=throttle.take, args=(1 << 30,))
    thread.start()
    throttle.open()
    thread.join(60)
    assert not thread.is_alive()
    throttle.take(1 << 30)


def test_no_throttle_passes_everything() -> None:
    assert list(throttle_stream([b"a", b"b"], None)) == [b"a", b"b"]
