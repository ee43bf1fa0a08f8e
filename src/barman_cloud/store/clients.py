"""Time-outs of obstore's clients.

A store needs two kinds of client, because their time-outs contradict each other:

``read``
    Downloads. A time-out between reads; that of the whole request would count the time of a slow consumer.
``write``
    An object in one request. obstore's time-out between reads isn't reset by the progress of an upload, so the only
    one that works is that of the whole request, and it has to follow the size of the body.

Neither tries anything again: ``store.retry`` does, and knows the command's deadline.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from barman_cloud.deadline import SLOWEST

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline

CONNECT_TIMEOUT = 10.0
"""Seconds for a connection to be made."""
READ_TIMEOUT = 60.0
"""Seconds between two pieces of an answer."""
DOWNLOAD_TIMEOUT = 24 * 3600.0
SHORTEST_UPLOAD_TIMEOUT = 60.0

NO_RETRIES = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}


def upload_timeout(size: int, deadline: Deadline) -> float:
    """Return the seconds for an upload of ``size`` bytes, doubling from step to step so that few clients serve all
    sizes.
    """
    shortest = deadline.silence(SHORTEST_UPLOAD_TIMEOUT)
    timeout = shortest
    while timeout < shortest + size / SLOWEST - 1:
        timeout *= 2
    return timeout


def client_options(purpose: str, timeout: float, read_timeout: float, deadline: Deadline) -> dict[str, Any]:
    """Return obstore's ``client_options`` (all times in seconds)."""
    options = {
        "timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=deadline.silence(CONNECT_TIMEOUT)),
    }
    if purpose == "read":
        options["read_timeout"] = timedelta(seconds=deadline.silence(read_timeout))
    return options
