"""The access key of AWS as a value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, repr=False)
class AwsCredentials:
    """An access key; ``expires`` is None for one that doesn't."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires: datetime | None = None
