"""Where ``wal-receive`` begins: behind what the bucket and the spool hold, found by looking, never by a note of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from barman_cloud.catalog.layout import parse_wal_folder
from barman_cloud.catalog.wal_range import name_of, number_of
from barman_cloud.errors import ConflictError
from barman_cloud.postgres.wal import WalKind, format_lsn, parse_wal_name

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.postgres.timeline import Switch
    from barman_cloud.store.base import ObjectStore

_FOLDERS = 2
"""Folders of segments, the newest, that are looked through for gaps; more if the slot keeps older WAL."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The timeline that a server is on, where it came from, and the size of its segments in bytes."""

    timeline: int
    history: Sequence[Switch]
    segment_size: int

    def timeline_of(self, number: int) -> int:
        """Return the timeline of the segment: where one changes in it, the newer."""
        for switch in self.history:
            if number < switch.end // self.segment_size:
                return switch.timeline
        return self.timeline

    def end_of(self, timeline: int) -> int | None:
        """Return the LSN at which the server left ``timeline``; None if it is on it, or never was."""
        return next((switch.end for switch in self.history if switch.timeline == timeline), None)

    def has(self, timeline: int) -> bool:
        return timeline == self.timeline or self.end_of(timeline) is not None

    def name(self, number: int) -> str:
        return name_of(self.timeline_of(number), number, self.segment_size)


def held(store: ObjectStore, layout: Layout, lineage: Lineage, spooled: Iterable[str], needed: int | None) -> set[int]:
    """Return the numbers of the newest complete segments in the archive and the spool, down to ``needed`` if given.

    ``ConflictError`` if there is WAL of a newer timeline than the server's.
    """
    found: set[int] = set()
    for name in spooled:
        _collect(found, name, lineage)
    logs: dict[int, list[str]] = {}
    for folder in store.list_level(layout.wals_dir).folders:
        place = parse_wal_folder(folder[len(layout.wals_dir) :].rstrip("/"))
        if place is None:
            continue
        if place[0] > lineage.timeline:
            raise diverged(store.object_url(layout.wals_dir), place[0], lineage.timeline)
        logs.setdefault(place[1], []).append(folder)
    per_log = (1 << 32) // lineage.segment_size
    looked = 0
    for log in sorted(logs, reverse=True):
        before = len(found)
        for folder in logs[log]:
            for item in store.list(folder):
                wal = layout.parse_wal_key(item.key)
                if wal is not None:
                    _collect(found, wal.name, lineage)
        looked += len(found) > before
        if looked >= _FOLDERS and (needed is None or needed >= log * per_log):
            break
    return found


def starts(present: set[int], restart: int | None, current: int, begun: Iterable[int] = ()) -> list[int]:
    """Return the segments to begin with, best first: each gap in ``present``, and the segment behind its end.

    ``restart`` is where the slot keeps WAL from, ``current`` where the server writes. ``begun`` are segments of which a
    part was acknowledged.
    """
    if not present:
        return [min([current if restart is None else restart, *begun])]
    numbers = sorted(present)
    gaps = [number + 1 for number, following in pairwise(numbers) if following > number + 1]
    found = [*gaps, numbers[-1] + 1]
    return [restart, *found] if restart is not None and restart < numbers[0] else found


def acknowledged_up_to(ends: Mapping[str, int], lineage: Lineage) -> int:
    """Return the LSN up to which unfinished segments of the server's own timeline go; 0 if there are none.

    ``ends`` has how many bytes there are, by the names of the segments.
    """
    found = [0]
    for segment, end in ends.items():
        number = number_of(segment, lineage.segment_size)
        if number is not None and int(segment[:8], 16) == lineage.timeline:
            found.append(number * lineage.segment_size + end)
    return max(found)


def missing_range(lineage: Lineage, first: int, behind: int | None) -> str:
    """Return the words for segments that nobody has: from ``first`` to the one before ``behind``, if that is known."""
    size = lineage.segment_size
    if behind is None:
        return f"WAL from {format_lsn(first * size)} on (segment {lineage.name(first)})"
    last = lineage.name(behind - 1)
    return (
        f"WAL from {format_lsn(first * size)} to {format_lsn(behind * size)} (segments {lineage.name(first)} to {last})"
    )


def _collect(found: set[int], name: str, lineage: Lineage) -> None:
    wal = parse_wal_name(name)
    if wal is None or wal.kind is not WalKind.SEGMENT:
        return
    number = number_of(wal.segment_name, lineage.segment_size)
    if number is not None and lineage.timeline_of(number) == wal.timeline:
        found.add(number)


def diverged(where: str, newer: int, own: int) -> ConflictError:
    """Return the error for an archive that has WAL of a ``newer`` timeline than the server's ``own``."""
    return ConflictError(
        f"diverged timeline: {where} holds WAL of timeline {newer}, and the server is on timeline {own}",
        hint="receive from the server that was promoted; a copy that goes its own way needs a server name of its own",
    )
