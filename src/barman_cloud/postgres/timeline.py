"""Timeline history files: which timelines a timeline came from (``readTimeLineHistory`` in ``timeline.c``)."""

from __future__ import annotations

import re
from typing import NamedTuple

from barman_cloud.errors import IntegrityError

LARGEST_HISTORY = 1 << 20
"""Bytes: PostgreSQL writes one line of less than 100 for each change of the timeline."""

_LINE = re.compile(r"\s*([0-9]{1,10})\s+([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})(?:\s|$)")


class Switch(NamedTuple):
    """The end of an ancestor timeline; the next timeline begins at the same LSN."""

    timeline: int
    end: int


def history_name(timeline: int) -> str:
    """Return the name of a timeline's history file; timeline 1 has none."""
    return f"{timeline:08X}.history"


def parse_history(data: bytes, timeline: int) -> tuple[Switch, ...]:
    """Return the ancestors of ``timeline``, the oldest first, from the content of its history file.

    ``IntegrityError`` if a line isn't a timeline and an LSN, or the timelines don't ascend: PostgreSQL ends then.
    """
    name = history_name(timeline)
    found: list[Switch] = []
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise IntegrityError(f"{name}, line {number}: not a timeline and an LSN: {line[:40]!r}")
        switch = Switch(int(match[1]), (int(match[2], 16) << 32) + int(match[3], 16))
        previous = found[-1] if found else Switch(0, 0)
        if not previous.timeline < switch.timeline < timeline or switch.end < previous.end:
            raise IntegrityError(f"{name}, line {number}: timeline {switch.timeline} out of order")
        found.append(switch)
    if not found:
        raise IntegrityError(f"{name} names no timeline that timeline {timeline} came from")
    return tuple(found)
