"""One line of ``check``."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """What was looked at and how it is; ``hint`` stands in brackets behind it."""

    name: str
    ok: bool
    hint: str = ""
