"""What is fed with hostile bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """Something that reads bytes, and good bytes for it; anything that ``feed`` raises must be an error of the tree."""

    feed: Callable[[bytes], object]
    samples: tuple[bytes, ...]
