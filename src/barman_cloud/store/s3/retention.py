"""How long objects are retained (S3 User Guide, "Locking objects with Object Lock")."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from barman_cloud.store.base import ObjectLock


class DefaultRetention(NamedTuple):
    """The retention that a bucket gives to each new object. A year of it has 365 days."""

    mode: str
    days: int

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> DefaultRetention:
        """Read the fields of a ``DefaultRetention``; ``ValueError`` if they say no time."""
        days = int(fields.get("Days") or 0) + 365 * int(fields.get("Years") or 0)
        if days <= 0:
            raise ValueError("no time of retention")
        return cls(fields.get("Mode", ""), days)

    def end(self, stored: datetime) -> datetime:
        return stored + timedelta(days=self.days)


def retained(key: str, until: datetime, mode: str, why: str = "") -> ObjectLock | None:
    """Return the lock of an object that is retained up to ``until``, or None if that is over."""
    if until <= datetime.now(until.tzinfo):
        return None
    moment = until.astimezone(UTC) if until.tzinfo else until
    how = f" ({mode.lower()} mode)" if mode else ""
    return ObjectLock(key, f"retained until {moment:%Y-%m-%dT%H:%M:%SZ}{why}{how}", until)
