"""Time-outs and retries of obstore's clients.

A store needs three kinds of client, because their time-outs contradict each other:

``read``
    Downloads. A time-out between reads; that of the whole request would count the time of a slow consumer.
``write``
    An object in one request. obstore's time-out between reads isn't reset by the progress of an upload, so the only
    one that works is that of the whole request, and it has to follow the size of the body.
``stream``
    The parts of an upload from an iterator. The same, and obstore retries, because nobody else could send a part again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from barman_cloud.store.retry import Retry

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
DOWNLOAD_TIMEOUT = 24 * 3600.0
SHORTEST_UPLOAD_TIMEOUT = 60.0
SLOWEST_UPLOAD = 256 << 10
"""Bytes per second that an upload must reach before its time-out strikes."""


def upload_timeout(size: int) -> float:
    """Return the seconds for an upload of ``size`` bytes, doubling from step to step so that few clients serve all
    sizes.
    """
    timeout = SHORTEST_UPLOAD_TIMEOUT
    while timeout < size / SLOWEST_UPLOAD:
        timeout *= 2
    return timeout


def client_options(purpose: str, timeout: float, read_timeout: float) -> dict[str, Any]:
    """Return obstore's ``client_options`` (all times in seconds)."""
    options = {"timeout": timedelta(seconds=timeout), "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT)}
    if purpose == "read":
        options["read_timeout"] = timedelta(seconds=read_timeout)
    return options


def retry_config(purpose: str, retry: Retry) -> dict[str, Any]:
    """Return obstore's ``retry_config``: nothing is retried there but the parts of a stream."""
    if purpose != "stream":
        return {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
    backoff = {"init_backoff": timedelta(milliseconds=250), "max_backoff": timedelta(seconds=20), "base": 2}
    return {
        "max_retries": (retry.max_attempts or 1000) - 1,
        "retry_timeout": timedelta(seconds=retry.budget),
        "backoff": backoff,
    }
