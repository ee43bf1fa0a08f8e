"""Progress in words: the fields of a line, and which of them fit; JSON lines for programs. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from barman_cloud.logs import escape_controls
from barman_cloud.report.progress import ItemState, State
from barman_cloud.report.text import size

VERSION = 1
_WINDOW = 10.0
"""Seconds over which the rate is measured."""
_LEAST = 1.0
"""Seconds after which a rate means something."""


class Rate:
    """The rate of a phase over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._phase = ""

    def see(self, state: State) -> float | None:
        """Return bytes per second; None while that isn't known."""
        if state.phase != self._phase:
            self._seen.clear()
            self._phase = state.phase
        now, done = state.phase_seconds, state.done
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        if now - began < _LEAST:
            began, before = 0.0, 0
        return (done - before) / (now - began) if now - began >= _LEAST and done else None


def remaining(state: State, rate: float | None) -> float | None:
    """Return the seconds that are left at this rate; None where that isn't known."""
    if state.total is None or not rate or rate <= 0:
        return None
    return max(state.total - state.done, 0) / rate


def clock(seconds: float) -> str:
    """Return a time such as ``0:04``, ``12:30`` or ``1:02:03``."""
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a line: ``kind`` says what it is, a smaller ``rank`` that it is the later to be left out."""

    kind: str
    text: str
    rank: int


def fields(state: State, rate: float | None, *, unicode: bool = True) -> list[Field]:
    """Return all that there is to say in one line, in the order in which it stands there."""
    found = [Field("phase", escape_controls(state.phase), 0)]
    fraction = state.fraction
    if fraction is not None:
        found.append(Field("percent", f"{int(100 * fraction)}%", 1))
    if state.total is not None:
        found.append(Field("bytes", _of(min(state.done, state.total), state.total), 3))
    elif state.done:
        found.append(Field("bytes", size(state.done), 3))
    if state.items_total:
        found.append(Field("count", f"{state.items_done}/{state.items_total}", 6))
    elif state.items_done and state.total is None:
        found.append(Field("count", f"{state.items_done:,}", 2))
    if rate:
        found.append(Field("rate", f"{size(round(rate))}/s", 4))
    if (ratio := state.ratio) is not None and state.done:
        found.append(Field("ratio", f"{ratio:.1f}{'×' if unicode else 'x'}", 5))
    if (left := remaining(state, rate)) is not None:
        found.append(Field("eta", f"ETA {clock(left)}", 2))
    else:
        found.append(Field("elapsed", clock(state.phase_seconds), 2))
    return found


def fit(found: list[Field], width: int) -> list[Field]:
    """Return the fields that fit into ``width`` columns with two spaces between them; the phase is cut if need be."""
    chosen = list(found)
    while len(chosen) > 1 and _width(chosen) > width:
        chosen.remove(max(chosen, key=lambda field: field.rank))
    first = chosen[0]
    if len(chosen) == 1 and len(first.text) > width:
        return [Field(first.kind, first.text[:width], first.rank)]
    return chosen


def sentence(state: State, rate: float | None, *, unicode: bool = True) -> str:
    """Return all of it as one line for a log."""
    parts = [field.text.strip() for field in fields(state, rate, unicode=unicode)]
    return ", ".join([*parts, escape_controls(state.position)] if state.position else parts)


def item_text(item: ItemState) -> str:
    """Return an item in work as a word or two."""
    name = escape_controls(item.name)
    if item.total:
        return f"{name} {int(100 * min(item.done / item.total, 1.0))}%"
    return f"{name} {size(item.done)}" if item.done else name


def as_json(state: State, rate: float | None, command: str, event: str, moment: datetime) -> dict[str, Any]:
    """Return the document of one JSON line (docs/reference/schemas/progress.schema.json)."""
    left, fraction, ratio = remaining(state, rate), state.fraction, state.ratio
    return {
        "version": VERSION,
        "event": event,
        "command": command,
        "time": moment.isoformat(),
        "phase": state.phase,
        "phase_seconds": round(state.phase_seconds, 3),
        "seconds": round(state.seconds, 3),
        "measure": state.measure,
        "done_bytes": state.done,
        "total_bytes": state.total,
        "percent": None if fraction is None else round(100 * fraction, 1),
        "data_bytes": state.data,
        "stored_bytes": state.stored,
        "ratio": None if ratio is None else round(ratio, 3),
        "bytes_per_second": None if rate is None else round(rate),
        "eta_seconds": None if left is None else round(left, 1),
        "items_done": state.items_done,
        "items_total": state.items_total,
        "position": state.position or None,
        "items": [
            {
                "name": item.name,
                "done_bytes": item.done,
                "total_bytes": item.total,
                "data_bytes": item.data,
                "stored_bytes": item.stored,
            }
            for item in state.items
        ],
    }


def _of(done: int, total: int) -> str:
    """Return ``52.8 of 166.9 MiB``, the unit once where it is the same."""
    number, unit = size(done).split(" ")
    return f"{number} of {size(total)}" if size(total).endswith(f" {unit}") else f"{size(done)} of {size(total)}"


def _width(chosen: list[Field]) -> int:
    return sum(len(field.text) for field in chosen) + 2 * (len(chosen) - 1)
