"""The pictures of the page, as SVG: plain shapes with classes that the page's style colours.

Every shape that means something has a ``<title>``, which browsers show and screen readers read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from html import escape

from barman_cloud.catalog.times import format_to_the_second
from barman_cloud.overview.model import BackupEntry, Overview
from barman_cloud.report.progress_text import clock
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import counted, size

WIDTH = 960
_LEFT = 150
_RIGHT = 20
_ROW = 18
_SHOWN = 60
"""Backups that have a row; the older ones are in the table only."""
_LEAST = 3.0
"""Pixels: what is shorter must be seen all the same."""


def text(value: object) -> str:
    """Return ``value`` for HTML: escaped, without control characters."""
    return escape(printable(str(value)))


def timeline(overview: Overview) -> str:
    """Return the picture of backups and their chains, WAL with its gaps, and what can be recovered."""
    shown = overview.backups[-_SHOWN:]
    scale = _Scale(_moments(overview, shown), overview.moment)
    rows = {entry.backup_id: index for index, entry in enumerate(shown)}
    timelines = sorted({run.timeline for run in overview.runs})
    top = 24
    below = top + len(shown) * _ROW + 8
    height = below + (len(timelines) + 1) * (_ROW + 6) + 28
    parts = [*_grid(scale, top, height - 22)]
    for entry in shown:
        y = top + rows[entry.backup_id] * _ROW
        parts += _backup(entry, scale, y, rows, top)
    y = below
    for number in timelines:
        parts += _wal(overview, number, scale, y)
        y += _ROW + 6
    parts += _recoverable(overview, scale, y)
    if overview.drills:
        parts += _drills(overview, scale, y)
    words = (
        f"{counted(len(overview.complete), 'complete backup')}, {counted(len(overview.gaps), 'gap')} in the WAL, "
        f"{counted(len(overview.recoverable), 'range')} that can be recovered"
    )
    return _svg("timeline", "What can be recovered", words, height, parts)


def growth(overview: Overview) -> str:
    """Return the picture of stored bytes by day, backups above WAL."""
    points = overview.growth
    top, height = 14, 190
    bottom = height - 24
    first, last = points[0].day, max(points[-1].day, overview.moment.date())
    days = max((last - first).days, 1)
    highest = max(points[-1].backups + points[-1].wal, 1)

    def x(day: date) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (day - first).days / days

    def y(number: int) -> float:
        return bottom - (bottom - top) * number / highest

    def area(value: Callable[[int], int]) -> str:
        steps = [f"M{x(first):.1f},{bottom:.1f}"]
        for index, point in enumerate(points):
            end = points[index + 1].day if index + 1 < len(points) else last
            steps.append(f"L{x(point.day):.1f},{y(value(index)):.1f}L{x(end):.1f},{y(value(index)):.1f}")
        return f"{''.join(steps)}L{x(last):.1f},{bottom:.1f}Z"

    parts = [
        f'<path class="area-backup" d="{area(lambda index: points[index].backups + points[index].wal)}">'
        f"<title>backups: {size(points[-1].backups)}</title></path>",
        f'<path class="area-wal" d="{area(lambda index: points[index].wal)}">'
        f"<title>WAL: {size(points[-1].wal)}</title></path>",
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - _RIGHT}" y2="{bottom}"/>',
        f'<text class="label" x="{_LEFT - 8}" y="{top + 4}" text-anchor="end">{size(highest)}</text>',
        f'<text class="label" x="{_LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
        f'<text class="label" x="{_LEFT}" y="{height - 6}">{first}</text>',
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{height - 6}" text-anchor="end">{last}</text>',
    ]
    words = f"{size(points[-1].backups)} of backups and {size(points[-1].wal)} of WAL, by the day they were written"
    return _svg("growth", "Growth of what is stored", words, height, parts)


def bars(
    overview: Overview,
    name: str,
    title: str,
    value: Callable[[BackupEntry], float | None],
    say: Callable[[float], str],
) -> str:
    """Return a picture with a bar for each complete backup that has a value."""
    found = [(entry, number) for entry in overview.complete[-_SHOWN:] if (number := value(entry)) is not None]
    if not found:
        return ""
    top, height = 14, 150
    bottom = height - 24
    highest = max(number for _, number in found) or 1
    step = (WIDTH - _LEFT - _RIGHT) / len(found)
    width = max(min(step * 0.7, 40), 1)
    parts = []
    for index, (entry, number) in enumerate(found):
        length = max((bottom - top) * number / highest, 1)
        parts.append(
            f'<rect class="bar {_type(entry)}" x="{_LEFT + index * step:.1f}" y="{bottom - length:.1f}" '
            f'width="{width:.1f}" height="{length:.1f}"><title>{text(entry.backup_id)}: {text(say(number))}</title>'
            "</rect>"
        )
    parts += [
        f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{WIDTH - _RIGHT}" y2="{bottom}"/>',
        f'<text class="label" x="{_LEFT - 8}" y="{top + 4}" text-anchor="end">{text(say(highest))}</text>',
        f'<text class="label" x="{_LEFT}" y="{height - 6}">{text(found[0][0].backup_id)}</text>',
        f'<text class="label" x="{WIDTH - _RIGHT}" y="{height - 6}" text-anchor="end">{text(found[-1][0].backup_id)}'
        "</text>",
    ]
    return _svg(name, title, f"from {say(min(number for _, number in found))} to {say(highest)}", height, parts)


class _Scale:
    """Moments to pixels."""

    def __init__(self, moments: Sequence[datetime], now: datetime) -> None:
        self.first = min([*moments, now])
        self.last = max([*moments, now])
        if self.last - self.first < timedelta(minutes=1):
            self.first = self.last - timedelta(minutes=1)

    def x(self, moment: datetime) -> float:
        share = (moment - self.first) / (self.last - self.first)
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(share, 0.0), 1.0)

    def span(self, start: datetime, end: datetime) -> tuple[float, float]:
        """Return where a bar begins and how wide it is."""
        left = self.x(start)
        width = max(self.x(end) - left, _LEAST)
        return min(left, WIDTH - _RIGHT - width), width

    def ticks(self) -> Iterator[datetime]:
        for place in range(6):
            yield self.first + (self.last - self.first) * place / 5


def _moments(overview: Overview, shown: Sequence[BackupEntry]) -> list[datetime]:
    found = [moment for entry in shown for moment in (entry.began, entry.ended) if moment]
    found += [moment for run in overview.runs for moment in (run.began, run.ended) if moment]
    if len(overview.backups) > len(shown) and found:
        oldest = min(moment for entry in shown for moment in (entry.began, entry.ended, overview.moment) if moment)
        found = [moment for moment in found if moment >= oldest]
    return found


def _grid(scale: _Scale, top: int, bottom: int) -> Iterator[str]:
    short = scale.last - scale.first < timedelta(days=2)
    for tick in scale.ticks():
        x = scale.x(tick)
        when = tick.astimezone(UTC)
        words = f"{when:%m-%d %H:%M}" if short else f"{when:%Y-%m-%d}"
        anchor = "start" if x < _LEFT + 40 else "end" if x > WIDTH - _RIGHT - 40 else "middle"
        yield f'<line class="grid" x1="{x:.1f}" y1="{top - 6}" x2="{x:.1f}" y2="{bottom}"/>'
        yield f'<text class="label" x="{x:.1f}" y="12" text-anchor="{anchor}">{words}</text>'


def _backup(entry: BackupEntry, scale: _Scale, y: int, rows: dict[str, int], top: int) -> Iterator[str]:
    yield f'<text class="label" x="{_LEFT - 8}" y="{y + 12}" text-anchor="end">{text(entry.backup_id)}</text>'
    start = entry.began or entry.stored_at
    if start is None:
        return
    left, width = scale.span(start, entry.ended or start)
    if entry.parent in rows:
        # From the parent's row down to this one: what is needed to restore it.
        parent = top + rows[entry.parent] * _ROW + 13
        yield f'<path class="chain" d="M{left + 1:.1f},{parent}V{y + 4}"/>'
    state = "lost" if entry.problem else _type(entry)
    words = [entry.backup_id, entry.type, entry.status]
    if entry.ended:
        words.append(f"ended {format_to_the_second(entry.ended)}")
    if entry.duration is not None:
        words.append(f"took {clock(entry.duration)}")
    words.append(f"{size(entry.stored)} stored")
    words += [f"builds on {entry.parent}"] if entry.parent else []
    words += [entry.problem] if entry.problem else []
    yield (
        f'<rect class="bar {state}" data-backup="{text(entry.backup_id)}" x="{left:.1f}" y="{y + 3}" '
        f'width="{width:.1f}" height="{_ROW - 6}" rx="2"><title>{text(", ".join(words))}</title></rect>'
    )
    if entry.verified_state == "whole" and not entry.problem:
        x = min(left + width + 4, WIDTH - 12)
        yield f'<text class="mark" x="{x:.1f}" y="{y + 13}">✓<title>verified</title></text>'


def _wal(overview: Overview, number: int, scale: _Scale, y: int) -> Iterator[str]:
    yield f'<text class="label" x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">WAL, timeline {number}</text>'
    for run in overview.runs:
        if run.timeline != number or run.began is None or run.ended is None:
            continue
        left, width = scale.span(run.began, run.ended)
        words = f"{counted(run.count, 'segment')} from {run.first} to {run.last}"
        yield (
            f'<rect class="wal" x="{left:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 4}">'
            f"<title>{text(words)}</title></rect>"
        )
    for gap in overview.gaps:
        if gap.timeline != number or gap.after is None or gap.before is None:
            continue
        left, width = scale.span(gap.after, gap.before)
        words = f"gap: {counted(gap.count, 'segment')} missing from {gap.first} on"
        yield (
            f'<rect class="gap" x="{left:.1f}" y="{y + 1}" width="{width:.1f}" height="{_ROW}">'
            f"<title>{text(words)}</title></rect>"
        )


def _recoverable(overview: Overview, scale: _Scale, y: int) -> Iterator[str]:
    yield f'<text class="label" x="{_LEFT - 8}" y="{y + 13}" text-anchor="end">recoverable</text>'
    for span in overview.recoverable:
        left, width = scale.span(span.start, span.end)
        words = f"any moment from {format_to_the_second(span.start)} to {format_to_the_second(span.end)}"
        yield (
            f'<rect class="recoverable" x="{left:.1f}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 4}">'
            f"<title>{text(words)}</title></rect>"
        )


def _drills(overview: Overview, scale: _Scale, y: int) -> Iterator[str]:
    for drill in overview.drills:
        x, words = scale.x(drill.moment), f"drill of {drill.backup_id}"
        if drill.succeeded:
            yield (
                f'<circle class="drill good" cx="{x:.1f}" cy="{y + 10}" r="5">'
                f"<title>{text(words)}: recovered</title></circle>"
            )
        else:  # of another form, too: not everybody tells red from green
            yield (
                f'<path class="drill bad" d="M{x:.1f},{y + 2}l8,8l-8,8l-8,-8Z">'
                f"<title>{text(words)}: failed</title></path>"
            )


def _type(entry: BackupEntry) -> str:
    return entry.type if entry.type in ("full", "incremental", "snapshot") else "full"


def _svg(name: str, title: str, description: str, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg class="{name}" role="img" aria-label="{text(f"{title}: {description}")}" '
        f'viewBox="0 0 {WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
