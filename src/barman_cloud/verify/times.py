"""Lengths of time for people."""

from __future__ import annotations

from datetime import timedelta


def duration(time: timedelta) -> str:
    """Return a length of time for people, in its largest unit or two."""
    seconds = int(max(time, timedelta(0)).total_seconds())
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    for number, (length, name) in enumerate(units):
        if seconds >= length:
            whole, rest = divmod(seconds, length)
            smaller = units[number + 1] if number + 1 < len(units) else None
            more = f" {rest // smaller[0]} {smaller[1]}" if smaller and rest >= smaller[0] else ""
            return f"{whole} {name}{more}"
    return "0 s"
