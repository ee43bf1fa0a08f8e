"""The retry loop around every request that can be made again, and the wait for its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.failures import TransientError

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline, Turn

log = logs.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0
FIRST_CONTACT = 20.0
"""Seconds to keep trying a store that has never answered: its address is more likely to be wrong than its network."""
QUIET = 5.0
"""Seconds of trouble before it is worth a warning, and between two warnings."""
LAST_TRY = 5.0
"""Seconds for a request that is made after the deadline, to clean up. A total deadline has none."""


class Retry:
    """Tries an action again after each transient error, with growing and scattered pauses, until the deadline."""

    def __init__(self, deadline: Deadline, max_attempts: int | None = None) -> None:
        """``max_attempts`` counts the first one."""
        self.deadline = deadline
        self.max_attempts = max_attempts
        self._answered = False
        self._warned: float | None = None

    def call(
        self,
        action: Callable[[], T],
        *,
        stopped: Callable[[], bool] = lambda: False,
        name: str = "the store",
    ) -> T:
        """Return what ``action`` returns; raise its last ``TransientError`` when time or tries end, or ``stopped()``.

        An action that doesn't end by the deadline is left to itself, in a thread of its own: a native call, a look-up
        of a name or an answer that drips can't be interrupted otherwise. ``name`` is what the error then is about.
        """
        turn = self.deadline.begin()
        attempt = 1
        last: TransientError | None = None
        while True:
            try:
                result = self._run(action, turn, name)
            except _TooLateError as error:
                # What the store said before tells more than that it says nothing now.
                raise (last or error) from None
            except TransientError as error:
                last = error
                self._answered |= error.answered
                turn.failed()
                left = turn.left() if self._answered else min(turn.left(), FIRST_CONTACT - self.deadline.failing_for)
                out_of_tries = self.max_attempts is not None and attempt >= self.max_attempts
                if out_of_tries or stopped() or left < FIRST_PAUSE:
                    raise
                pause = min(_pause(attempt), left * 0.75)  # a last try just before the end
                self._log(error, pause)
            except BarmanCloudError:
                self._answered = True
                turn.succeeded()
                raise
            else:
                self._answered = True
                turn.succeeded()
                return result
            time.sleep(pause)
            attempt += 1

    def _run(self, action: Callable[[], T], turn: Turn, name: str) -> T:
        outcome: list[T] = []
        errors: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def work() -> None:
            try:
                with turn:
                    outcome.append(action())
            except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
                errors.append(error)
            finally:
                done.release()

        cleaning_up = not self.deadline.total and turn.left() <= 0
        least = time.monotonic() + LAST_TRY if cleaning_up else 0.0
        threading.Thread(target=work, name="request", daemon=True).start()
        while not done.acquire(timeout=max(0.0, turn.left(), least - time.monotonic())):
            if turn.left() <= 0 and time.monotonic() >= least:
                raise _TooLateError(
                    f"{name}: the store doesn't answer in time", hint="check the network; --timeout gives it longer"
                )
        if errors:
            raise errors.pop()
        return outcome.pop()

    def _log(self, error: TransientError, pause: float) -> None:
        """Log the first trouble of a few seconds as a WARNING, and then no more than one of all threads' at a time."""
        now = time.monotonic()
        level = logs.INFO
        if self.deadline.failing_for + pause >= QUIET and (self._warned is None or now - self._warned >= QUIET):
            level = logs.WARNING
            self._warned = now
        log.log(level, "%s; trying again in %.1f s", error, pause)


class _TooLateError(TransientError):
    """The deadline came before the answer."""


def _pause(attempt: int) -> float:
    """Seconds to wait after the given try; scattered, so that many clients of a throttled store don't come back at
    once.
    """
    import random

    return min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.6, 1.0)  # noqa: S311
