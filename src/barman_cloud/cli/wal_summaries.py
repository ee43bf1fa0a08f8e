"""What the commands for WAL say at their end, to who looks or asks: a module that no call of PostgreSQL imports."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from barman_cloud.report import progress
from barman_cloud.report.summary import Summary
from barman_cloud.report.text import size

if TYPE_CHECKING:
    from barman_cloud.wal.receiver import Received

_ARCHIVED_BEFORE = "is archived already, with the same content"
_ARCHIVED_AHEAD = "was archived ahead by an earlier call"


def of_archiving(path: str, stored: int | Literal["ahead"] | None) -> Summary:
    """Return what is to say of a WAL file that is archived; ``stored`` is what ``wal_archive`` found out."""
    name = os.path.basename(path)
    if isinstance(stored, int):
        progress.current().add(data=_size_of(path), stored=stored, items=1)
        return _summary(f"WAL file {name} archived", name, path, "archived")
    if stored == "ahead":
        return _summary(f"WAL file {name} {_ARCHIVED_AHEAD}", name, path, "archived_ahead")
    return _summary(f"WAL file {name} {_ARCHIVED_BEFORE}", name, path, "archived_before")


def of_fetching(name: str, path: str, *, ahead: bool) -> Summary:
    """Return what is to say of a WAL file that was put at ``path``."""
    progress.current().add(data=_size_of(path), items=1)
    how = ", fetched ahead by an earlier call" if ahead else ""
    return _summary(f"WAL file {name} put at {path}{how}", name, path, "fetched_ahead" if ahead else "fetched")


def of_missing(name: str) -> Summary:
    """Return what is to say of a WAL file that isn't in the archive; people have read it by then."""
    return _summary("", name, None, "missing")


def of_receiving(received: Received) -> Summary:
    """Return what is to say of a receiver that was told to end."""
    waiting = received.waiting
    left = f"{size(waiting)} of it wait in the spool" if received.mode == "spool" else f"{size(waiting)} aren't stored"
    span = f"from {received.first} to {received.last}, timeline {received.timeline}" if received.first else ""
    return Summary(
        head=f"received WAL {span}" if span else "received no WAL",
        tail=left if waiting else "all of it is stored" if span else "",
        kind="receiver",
        facts={
            "mode": received.mode,
            "slot": received.slot,
            "timeline": received.timeline,
            "first_lsn": received.first,
            "last_lsn": received.last,
            "waiting_bytes": waiting,
        },
        noun="file",
    )


def _summary(head: str, name: str, path: str | None, result: str) -> Summary:
    place = str(Path(path).absolute()) if path else None
    return Summary(head, kind="wal_file", facts={"name": name, "path": place, "result": result}, noun="")


def _size_of(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # PostgreSQL has it already
        return 0
