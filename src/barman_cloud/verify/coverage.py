"""Which moments the archive can bring back: backups, and the WAL that follows each without a gap. Pure.

All WAL is looked at once, and only runs of segments that follow each other are kept, so memory grows with the number of
gaps and not with the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.needed_wal import needed_wal
from barman_cloud.catalog.wal_range import Gap, Leg, Run, Segment, legs, name_of, runs
from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.verify.findings import TimeRange


@dataclass(frozen=True, slots=True)
class Needs:
    """The segments without which a backup isn't consistent, by number."""

    backup_id: str
    timeline: int
    first: int
    last: int
    ended: datetime | None
    """When the backup ended: the first moment that it can bring back."""


@dataclass(frozen=True, slots=True)
class Way:
    """How far recovery from a backup gets."""

    needs: Needs
    own_wal_missing: int | None
    """The first segment that the backup itself needs and that isn't there."""
    until: datetime | None
    """When the last segment was stored that can be replayed; None if there is none, or the store doesn't tell."""
    timeline: int
    last: int | None
    """The last segment that can be replayed, and its timeline."""
    gap: Gap | None
    """What stops it, if that isn't the end of the archive."""


class Coverage:
    """The WAL of one archive as runs, and the ways through it."""

    def __init__(self, found: Iterable[Segment], histories: Mapping[int, Sequence[Switch]], size: int) -> None:
        """``found`` ascends by timeline and number; ``size`` is that of a segment in bytes."""
        self._histories = histories
        self.size = size
        self.runs: dict[int, list[Run]] = {}
        for run in runs(found):
            self.runs.setdefault(run.timeline, []).append(run)

    @property
    def newest(self) -> Run | None:
        """The run at the end of the newest timeline."""
        return self.runs[max(self.runs)][-1] if self.runs else None

    def name(self, timeline: int, number: int) -> str:
        return name_of(timeline, number, self.size)

    def way(self, needs: Needs) -> Way:
        """Return how far recovery from a backup gets on the newest timeline that comes from its own."""
        missing = self._first_missing(Leg(needs.timeline, needs.first, needs.last))
        if missing is not None:
            return Way(needs, missing, None, needs.timeline, None, self._gap(needs.timeline, missing))
        until: datetime | None = None
        last: int | None = None
        timeline = needs.timeline
        for leg in self._legs(needs):
            run = self._run_with(leg.timeline, leg.first)
            if run is None:
                if leg.last is None and not self._later_runs(leg.timeline, leg.first):
                    break  # the newest timeline has only just begun
                return Way(needs, None, until, timeline, last, self._gap(leg.timeline, leg.first))
            covered = run.last if leg.last is None else min(run.last, leg.last)
            timeline, last = leg.timeline, covered
            until = run.ended if covered == run.last else run.began
            if leg.last is not None and covered < leg.last:
                return Way(needs, None, until, timeline, last, self._gap(leg.timeline, covered + 1))
            if leg.last is None and (later := self._later_runs(leg.timeline, covered)):
                return Way(needs, None, until, timeline, last, Gap(leg.timeline, covered + 1, later[0].first))
        return Way(needs, None, until, timeline, last, None)

    def _legs(self, needs: Needs) -> tuple[Leg, ...]:
        begin = (needs.timeline, needs.first)
        for timeline in sorted({*self.runs, *self._histories}, reverse=True):
            if timeline >= needs.timeline and (
                way := legs(self._histories.get(timeline, ()), timeline, begin, self.size)
            ):
                return way
        return (Leg(needs.timeline, needs.first, None),)

    def _first_missing(self, leg: Leg) -> int | None:
        assert leg.last is not None
        run = self._run_with(leg.timeline, leg.first)
        if run is None:
            return leg.first
        return None if run.last >= leg.last else run.last + 1

    def _run_with(self, timeline: int, number: int) -> Run | None:
        return next((run for run in self.runs.get(timeline, ()) if run.first <= number <= run.last), None)

    def _later_runs(self, timeline: int, number: int) -> list[Run]:
        return [run for run in self.runs.get(timeline, ()) if run.first > number]

    def _gap(self, timeline: int, missing: int) -> Gap:
        later = self._later_runs(timeline, missing)
        return Gap(timeline, missing, later[0].first if later else None)


def needs_of(info: BackupInfo) -> Needs | None:
    """Return which WAL a backup needs; None if its ``backup.info`` doesn't tell."""
    try:
        needed = needed_wal(info)
    except IntegrityError:
        return None
    return needed and Needs(info.backup_id, needed.timeline, needed.first, needed.last, info.end_time)


def recoverable(ways: Iterable[Way]) -> tuple[TimeRange, ...]:
    """Return the moments that at least one of the backups can bring back, as ranges that don't touch."""
    spans = sorted(
        (way.needs.ended, max(way.until, way.needs.ended))
        for way in ways
        if way.own_wal_missing is None and way.needs.ended is not None and way.until is not None
    )
    joined: list[TimeRange] = []
    for start, end in spans:
        if joined and start <= joined[-1].end:
            joined[-1] = TimeRange(joined[-1].start, max(joined[-1].end, end))
        else:
            joined.append(TimeRange(start, end))
    return tuple(joined)
