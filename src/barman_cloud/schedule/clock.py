"""What time it is for schedules. ``BARMAN_CLOUD_NOW`` (ISO 8601, with an offset) stands for it in tests."""

from __future__ import annotations

import os
from datetime import UTC, datetime

VARIABLE = "BARMAN_CLOUD_NOW"


def now() -> datetime:
    """Return the time, or what the variable says."""
    if text := os.environ.get(VARIABLE):
        return datetime.fromisoformat(text).astimezone(UTC)
    return datetime.now(UTC)
