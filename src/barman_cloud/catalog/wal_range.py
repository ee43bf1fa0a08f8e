"""Which WAL an archive holds without a gap. Pure functions over listings, whose memory doesn't grow with the archive.

A segment has a number: its place in the WAL of all timelines, LSN divided by segment size. Recovery reads the segments
of a :class:`Leg` of the way, timeline by timeline; a *run* is what of them is there one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from barman_cloud.catalog.layout import WalObject
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal import segment_name


class Segment(NamedTuple):
    """A segment that is in the archive, in whatever compression."""

    timeline: int
    number: int
    partial: bool
    """Only as far as it was written when its timeline ended."""
    stored: datetime | None
    """When the object was written: the segment holds nothing that is newer."""


class Run(NamedTuple):
    """Segments of one timeline that follow each other, from ``first`` to ``last``."""

    timeline: int
    first: int
    last: int
    began: datetime | None
    """When the first of them was stored."""
    ended: datetime | None
    """When the last of them was stored."""
    partial: bool
    """Of the last one there is only a partial copy."""


class Leg(NamedTuple):
    """The segments that recovery reads on one timeline; ``last`` is None on the timeline where it ends."""

    timeline: int
    first: int
    last: int | None


class Gap(NamedTuple):
    """The first segment that is missing on a way, and the next one that is there (None: of what follows, nothing)."""

    timeline: int
    missing: int
    next: int | None


def number_of(segment: str, size: int) -> int | None:
    """Return the number of a segment named by 24 digits, None if segments of ``size`` bytes have no such name."""
    per_log = (1 << 32) // size
    place = int(segment[16:], 16)
    return int(segment[8:16], 16) * per_log + place if place < per_log else None


def name_of(timeline: int, number: int, size: int) -> str:
    """Return the name of segment ``number``."""
    return segment_name(timeline, number * size, size)


def segments(listed: Iterable[tuple[WalObject, datetime | None]], size: int) -> Iterator[Segment]:
    """Yield the segments among listed WAL files, each once, in the order of the listing (which ascends by key).

    History and ``.backup`` files are passed over. A segment that is there in full and in part counts as full.
    """
    held: Segment | None = None
    for wal, stored in listed:
        if wal.segment is None or wal.name.endswith(".backup"):
            continue
        number = number_of(wal.segment, size)
        if number is None:
            continue
        found = Segment(wal.timeline, number, wal.name.endswith(".partial"), stored)
        if held is not None and held[:2] == found[:2]:
            held = held if found.partial else found
            continue
        if held is not None:
            yield held
        held = found
    if held is not None:
        yield held


def runs(found: Iterable[Segment]) -> Iterator[Run]:
    """Put segments that follow each other together. Where one run ends and the next begins, there is a gap."""
    run: Run | None = None
    for segment in found:
        if run is not None and (segment.timeline, segment.number) == (run.timeline, run.last + 1):
            run = run._replace(last=segment.number, ended=segment.stored, partial=segment.partial)
            continue
        if run is not None:
            yield run
        run = Run(segment.timeline, segment.number, segment.number, segment.stored, segment.stored, segment.partial)
    if run is not None:
        yield run


def legs(history: Sequence[Switch], timeline: int, begin: tuple[int, int], size: int) -> tuple[Leg, ...]:
    """Return the way from ``begin``, a timeline and a segment number, to the end of ``timeline``.

    ``history`` are the ancestors of ``timeline``; empty if ``begin`` isn't on any of them. A segment in which the
    timeline changes is read from the newer one, as PostgreSQL does (``XLogFileReadAnyTLI``).
    """
    way: list[Leg] = []
    first = begin[1]
    for switch in history:
        if switch.timeline < begin[0]:
            continue
        if not way and switch.timeline != begin[0]:
            return ()
        number = switch.end // size
        if number > first or not way:
            way.append(Leg(switch.timeline, first, number - 1))
        first = max(first, number)
    if not way and timeline != begin[0]:
        return ()
    return tuple(leg for leg in (*way, Leg(timeline, first, None)) if leg.last is None or leg.last >= leg.first)


def follow(
    leg: Leg, found: Iterable[Segment], enough: Callable[[Segment], bool] = lambda _segment: False
) -> tuple[Run | None, Gap | None]:
    """Return the run with which the archive covers ``leg`` from its first segment on, and the gap after it.

    ``found`` are segments from the leg's first on; not more of them are taken than needed, and none after a segment of
    the run that is ``enough``. Without a gap the leg is covered to its end, or as far as is enough; on the timeline
    where recovery ends, the rest may just not be there (yet).
    """
    run: Run | None = None
    expected = leg.first
    for segment in found:
        if segment.timeline != leg.timeline or (leg.last is not None and segment.number > leg.last):
            break
        if segment.number < expected:
            continue
        if segment.number > expected:
            return run, Gap(leg.timeline, expected, segment.number)
        began = segment.stored if run is None else run.began
        run = Run(leg.timeline, leg.first, expected, began, segment.stored, segment.partial)
        if expected == leg.last or enough(segment):
            return run, None
        expected += 1
    return run, Gap(leg.timeline, expected, None) if leg.last is not None else None
