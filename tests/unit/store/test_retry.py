"""The retry loop, on a clock that only its own pauses move."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

import pytest

from barman_cloud.errors import AccessDeniedError
from barman_cloud.store import retry as module
from barman_cloud.store.failures import PassingError
from barman_cloud.store.retry import FIRST_CONTACT, Retry


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def failing(*errors: Exception | None) -> Callable[[], str]:
    """Return an action that raises these in turn (None: succeeds) and then the last one for ever."""
    left: Iterator[Exception | None] = iter([*errors[:-1]])

    def action() -> str:
        error = next(left, errors[-1])
        if error is not None:
            raise error
        return "done"

    return action


REFUSED = PassingError("refused")
BUSY = PassingError("503 SlowDown", answered=True)


def test_a_store_that_never_answered_is_given_up_soon(clock: Clock) -> None:
    with pytest.raises(PassingError):
        Retry(240).call(failing(REFUSED))
    assert FIRST_CONTACT / 2 < clock.now <= FIRST_CONTACT


@pytest.mark.parametrize("first", [BUSY, None, AccessDeniedError("403")])
def test_a_store_that_has_answered_gets_the_whole_budget(clock: Clock, first: Exception | None) -> None:
    retry = Retry(240)
    if not isinstance(first, PassingError):
        with contextlib.suppress(AccessDeniedError):
            retry.call(failing(first))
        first = REFUSED
    with pytest.raises(PassingError):
        retry.call(failing(first, REFUSED))
    assert 200 < clock.now <= 240


def test_tries_may_be_limited_instead(clock: Clock) -> None:
    tried = []

    def action() -> None:
        tried.append(1)
        raise BUSY

    with pytest.raises(PassingError):
        Retry(240, 3).call(action)
    assert len(tried) == 3


def test_a_short_trouble_is_no_warning(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert Retry(240).call(failing(BUSY, BUSY, None)) == "done"
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    with pytest.raises(PassingError):
        Retry(240).call(failing(BUSY))
    assert caplog.records[-1].levelname == "WARNING"


def test_other_errors_are_not_tried_again(clock: Clock) -> None:
    with pytest.raises(AccessDeniedError):
        Retry(240).call(failing(AccessDeniedError("403"), None))
    assert clock.now == 0
