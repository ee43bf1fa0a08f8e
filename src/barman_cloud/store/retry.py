"""The retry loop around every request that can be made again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.failures import TransientError

logger = logs.get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0
FIRST_CONTACT = 20.0
"""Seconds to keep trying a store that has never answered: its address is more likely to be wrong than its network."""
QUIET = 5.0
"""Seconds of trouble before it is worth a warning."""


class Retry:
    """Tries an action again after each passing failure, with growing and scattered pauses, until its time is up."""

    def __init__(self, budget: float, max_attempts: int | None = None) -> None:
        """``budget``: seconds from the first try after which no other begins; ``max_attempts`` counts the first one."""
        self.budget = budget
        self.max_attempts = max_attempts
        self._answered = False

    def call(self, action: Callable[[], T], *, stopped: Callable[[], bool] = lambda: False) -> T:
        """Return what ``action`` returns; raise its last ``TransientError`` when time, tries or the caller's patience
        end.
        """
        began = time.monotonic()
        attempt = 1
        while True:
            try:
                result = action()
            except TransientError as error:
                self._answered |= error.answered
                pause = _pause(attempt)
                elapsed = time.monotonic() - began
                budget = self.budget if self._answered else min(self.budget, FIRST_CONTACT)
                out_of_tries = self.max_attempts is not None and attempt >= self.max_attempts
                if out_of_tries or stopped() or elapsed + pause > budget:
                    raise
                logger.log(logs.INFO if elapsed < QUIET else logs.WARNING, "%s; trying again in %.1f s", error, pause)
            except BarmanCloudError:
                self._answered = True
                raise
            else:
                self._answered = True
                return result
            time.sleep(pause)
            attempt += 1


def _pause(attempt: int) -> float:
    """Seconds to wait after the given try; scattered, so that many clients of a throttled store don't come back at
    once.
    """
    import random

    return min(FIRST_PAUSE * 2.0 ** (attempt - 1), LONGEST_PAUSE) * random.uniform(0.6, 1.0)  # noqa: S311
