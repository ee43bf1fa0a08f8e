"""What can be recovered, drawn in one line: ``●────●──╳──●──▶ now``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from barman_cloud.verify.findings import TimeRange

_BACKUP, _WAL, _GAP, _NEWER, _NOW = "●", "─", "╳", "·", "▶"
_PLAIN = str.maketrans({_BACKUP: "o", _WAL: "-", _GAP: "x", _NEWER: ".", _NOW: ">"})


def draw(
    backups: Sequence[datetime],
    recoverable: Sequence[TimeRange],
    now: datetime,
    *,
    width: int = 72,
    unicode: bool = True,
) -> str:
    """Return a line of at most ``width`` characters from the first backup to now.

    A backup is a dot where it ended, WAL that can be restored a line, and a cross stands for what can't be. What is
    newer than the newest WAL, and so not archived yet, is dotted.
    """
    if not backups:
        return "no backup"
    start = min(backups)
    places = max(width - 6, 8)
    length = max((now - start).total_seconds(), 1.0)

    def place(moment: datetime) -> int:
        return min(places - 1, max(0, round((moment - start).total_seconds() / length * (places - 1))))

    line = [_GAP] * places
    for span in recoverable:
        for position in range(place(span.start), place(span.end) + 1):
            line[position] = _WAL
    if recoverable:
        newest = place(recoverable[-1].end)
        line[newest + 1 :] = _NEWER * (places - newest - 1)
    for moment in backups:
        line[place(moment)] = _BACKUP
    # A short gap must stay visible even where the line is too coarse for it.
    for one, two in pairwise(recoverable):
        position = place(one.end)
        if _GAP not in line[position : place(two.start) + 1]:
            line[min(position + 1, places - 1)] = _GAP
    picture = f"{''.join(line)}{_NOW} now"
    return picture if unicode else picture.translate(_PLAIN)
