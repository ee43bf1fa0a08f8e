"""What a command did, told at its end: a line for people, a document for programs.

The document is described by ``docs/reference/schemas/summary.schema.json``; ``VERSION`` changes when a field goes or
means something else, not when one is added.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from barman_cloud.report.files import write_atomically
from barman_cloud.report.progress import Progress
from barman_cloud.report.text import counted, size

VERSION = 1

DONE, FAILED = "done", "failed"

_ASCII = str.maketrans({"→": "->", "×": "x", "…": ".."})


@dataclass(frozen=True, slots=True)
class Summary:
    """What one command has to say of its work, beside the bytes and the time that were counted."""

    head: str
    """The line's beginning: what was done with what; empty if it has been told already."""
    tail: str = ""
    """The line's end: what else matters, such as the WAL that is needed."""
    kind: str = ""
    """The name of ``facts`` in the document: the command's."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    following: Sequence[str] = ()
    """Lines on what to do next, each with the command to type."""
    inflates: bool = False
    """Bytes went from the store to where PostgreSQL has them."""
    moved: bool = True
    """Bytes were moved, so that their number and rate mean something."""
    noun: str = "archive"
    """What the items are; empty if there is but one, which ``head`` names."""


def lines(summary: Summary, work: Progress, seconds: float, *, unicode: bool = True) -> list[str]:
    """Return what people read, the line itself first."""
    parts = [part for part in (_moved(summary, work, seconds), f"{seconds:.1f} s", summary.tail) if part]
    if summary.moved and seconds > 0 and (data := work.state().data):
        parts.insert(-1 if summary.tail else len(parts), f"{size(round(data / seconds))}/s")
    found = [*([f"{summary.head}: {', '.join(parts)}"] if summary.head else []), *summary.following]
    return found if unicode else [line.translate(_ASCII) for line in found]


def _moved(summary: Summary, work: Progress, seconds: float) -> str:
    state = work.state()
    if not summary.moved or not state.data:
        return ""
    what = f" in {counted(work.items_finished, summary.noun)}" if summary.noun else ""
    if not state.stored:
        return f"{size(state.data)}{what}"
    ratio = f" ({state.data / state.stored:.1f}×)"
    if summary.inflates:
        return f"{size(state.stored)}{what} → {size(state.data)}{ratio}"
    return f"{size(state.data)}{what} → {size(state.stored)}{ratio}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    command: str
    url: str
    server: str
    exit_code: int
    began: datetime
    ended: datetime
    error: str | None = None
    hint: str | None = None


def document(summary: Summary | None, work: Progress, outcome: Outcome) -> dict[str, Any]:
    """Return the document for programs; without a ``summary`` the command failed before it had anything to say."""
    state = work.state()
    seconds = (outcome.ended - outcome.began).total_seconds()
    ratio = state.ratio
    found: dict[str, Any] = {
        "version": VERSION,
        "command": outcome.command,
        "result": FAILED if outcome.error is not None else DONE,
        "exit_code": outcome.exit_code,
        "error": outcome.error,
        "hint": outcome.hint,
        "url": outcome.url,
        "server": outcome.server,
        "began": outcome.began.isoformat(),
        "ended": outcome.ended.isoformat(),
        "seconds": round(seconds, 3),
        "data_bytes": state.data,
        "stored_bytes": state.stored,
        "ratio": None if ratio is None else round(ratio, 3),
        "bytes_per_second": round(state.data / seconds) if seconds > 0 else None,
        "items": work.items_finished,
        "phases": [{"name": name, "seconds": round(took, 3)} for name, took in work.phases().items()],
    }
    if summary is not None and summary.kind:
        found[summary.kind] = {**summary.facts, "next": list(summary.following)}
    return found


def write(path: Path, summary: Summary | None, work: Progress, outcome: Outcome) -> None:
    """Write the document in one step. Raises ``OSError``."""
    write_atomically(path, json.dumps(document(summary, work, outcome), indent=2) + "\n")
