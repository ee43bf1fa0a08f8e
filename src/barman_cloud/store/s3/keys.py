"""The access key of AWS as a value."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class AwsCredentials(NamedTuple):
    """An access key; ``expires`` is None for one that doesn't."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires: datetime | None = None

    def __repr__(self) -> str:
        return "AwsCredentials(…)"  # its fields are secrets
