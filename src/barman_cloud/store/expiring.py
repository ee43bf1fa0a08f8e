"""Credentials that expire, asked for again in time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Generic, Protocol, TypeVar

REFRESH = timedelta(minutes=5)
"""Time before expiry at which credentials are asked for again."""


class Expiring(Protocol):
    @property
    def expires(self) -> datetime | None: ...


C = TypeVar("C", bound=Expiring)


class Refreshing(Generic[C]):
    """Asks ``source`` once, and again shortly before what it gave expires. May be called from several threads."""

    def __init__(self, source: Callable[[], C]) -> None:
        self._source = source
        self._lock = Lock()
        self._value: C | None = None

    def __call__(self) -> C:
        with self._lock:
            value = self._value
            if value is None or (value.expires is not None and value.expires - datetime.now(UTC) < REFRESH):
                value = self._value = self._source()
            return value
