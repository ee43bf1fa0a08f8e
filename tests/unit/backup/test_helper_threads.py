import os
import signal
import threading
import time

import pytest

from barman_cloud.backup.helper_threads import Events, call_interruptibly
from barman_cloud.backup.signals import Interrupted, interruptible


def test_a_wait_ends_with_a_helpers_call_or_its_time() -> None:
    events = Events()
    events.wake()
    events.wait()
    began = time.monotonic()
    events.wait(0.05)
    assert time.monotonic() - began >= 0.04


def test_a_helpers_error_is_raised_by_whoever_waits_next() -> None:
    for wait in (Events.wait, Events.check, lambda events: events.sleep(5)):
        events = Events()
        events.wake()
        events.fail(ValueError("lost"))
        with pytest.raises(ValueError, match="lost"):
            wait(events)
            wait(events)


def test_a_sleep_is_not_ended_by_a_mere_wake() -> None:
    events = Events()
    events.wake()
    began = time.monotonic()
    events.sleep(0.05)
    assert time.monotonic() - began >= 0.05


def test_a_call_in_a_helper_thread_returns_or_raises() -> None:
    assert call_interruptibly(lambda: threading.current_thread() is not threading.main_thread())
    with pytest.raises(ZeroDivisionError):
        call_interruptibly(lambda: 1 / 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_interrupt_a_wait_for_a_helper(number: signal.Signals) -> None:
    release = threading.Event()
    before = signal.getsignal(number)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), number])
    with pytest.raises(Interrupted, match=f"interrupted by {number.name}"), interruptible():
        timer.start()
        call_interruptibly(lambda: release.wait(30))
    release.set()
    assert signal.getsignal(number) is before


def test_signals_that_come_together_are_one() -> None:
    """A terminal that closes sends SIGHUP twice; cleaning up must not be cut short by that."""
    with interruptible():
        with pytest.raises(Interrupted, match="SIGTERM"):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
