"""Everything about a bucket of Google Cloud Storage that options and environment say, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class GoogleSettings:
    """Everything about a bucket that options and environment say."""

    bucket: str
    endpoint: str
    kms_key_name: str | None = None
    ca_file: str | None = None
    project: str | None = None
    """Where ``create_bucket`` creates it."""
