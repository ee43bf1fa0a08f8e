"""A report as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from barman_cloud.catalog.backup_table import age
from barman_cloud.catalog.times import format_to_the_second
from barman_cloud.overview.model import BackupEntry, Overview
from barman_cloud.report.progress_text import clock
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import counted, size
from barman_cloud.verify.picture import draw

_SPARKS = "▁▂▃▄▅▆▇█"
_PLAIN_SPARKS = "_.-=+*%#"
_PLAIN = str.maketrans({"└": "`", "→": ">", "×": "x", "…": "~"})
_GAPS = 10


def as_text(overview: Overview, *, width: int = 78, unicode: bool = True) -> str:
    """Return the report in lines of about ``width`` columns."""
    lines = list(_lines(overview, width, unicode))
    text = "".join(f"{printable(line)}\n" for line in lines)
    return text if unicode else text.translate(_PLAIN)


def verdict(overview: Overview) -> str:
    """Return in one sentence what can be recovered."""
    spans = overview.recoverable
    if not spans:
        return "no moment can be restored"
    sentence = f"any moment from {_time(spans[0].start)} to {_time(spans[-1].end)} can be restored"
    count = len(spans) - 1
    return f"{sentence}, except in {counted(count, 'gap')}" if count else sentence


def cost_line(overview: Overview) -> str | None:
    """Return the estimate in one line; None without one."""
    cost = overview.cost
    if cost is None:
        return None
    return (
        f"about ${cost.total:,.2f} a month ({cost.storage_class}: storage ${cost.storage:,.2f}, "
        f"{cost.write_requests:,} write requests ${cost.requests:,.2f}); reading the newest backup and its WAL costs "
        f"${cost.restore:,.2f}"
    )


def _lines(overview: Overview, width: int, unicode: bool) -> Iterator[str]:
    yield f"{overview.server} at {overview.url}, {_time(overview.moment)}"
    yield ""
    ended = [entry.ended for entry in overview.complete if entry.ended]
    yield f"  {draw(ended, overview.recoverable, overview.moment, width=max(width - 4, 20), unicode=unicode)}"
    yield f"  {verdict(overview)}"
    yield ""
    yield f"Backups: {len(overview.backups)}, {size(overview.backup_stored)} in the store"
    for entry in overview.backups:
        yield f"  {_backup(entry, overview.moment)}"
    yield ""
    ratio = f" ({overview.wal_ratio:.1f}×)" if overview.wal_ratio else ""
    yield f"WAL: {overview.wal_files:,} files, {size(overview.wal_stored)} in the store{ratio}"
    for run in overview.runs[-_GAPS:]:
        when = f"  {_time(run.began)} to {_time(run.ended)}" if run.began and run.ended else ""
        yield f"  timeline {run.timeline}  {run.first} to {run.last}  {counted(run.count, 'segment')}{when}"
    for gap in overview.gaps[:_GAPS]:
        yield f"  GAP on timeline {gap.timeline}: {counted(gap.count, 'segment')} from {gap.first} on"
    if len(overview.gaps) > _GAPS:
        yield f"  and {len(overview.gaps) - _GAPS} more gaps"
    if len(overview.growth) > 1:
        yield ""
        yield f"Growth: {_sparks(overview, min(width - 30, 48), unicode)} {overview.growth[0].day} to today"
    if cost := cost_line(overview):
        yield ""
        yield f"Cost: {cost}"
    if overview.drills:
        yield ""
        yield "Drills:"
        for drill in overview.drills:
            took = f" in {clock(drill.seconds)}" if drill.seconds is not None else ""
            result = "recovered" if drill.succeeded else f"FAILED: {'; '.join(drill.problems)}"
            yield f"  {_time(drill.moment)}  {drill.backup_id}  {result}{took}"
    if overview.findings:
        yield ""
        yield "Problems:"
        for finding in overview.findings:
            yield f"  {finding.level.name}  {finding.message}"
            if finding.hint:
                yield f"    -> {finding.hint}"


def _backup(entry: BackupEntry, now: datetime) -> str:
    mark = "└ " if entry.parent else ""
    sizes = f"{size(entry.size)} → {size(entry.stored)}" if entry.size else size(entry.stored)
    ratio = f" {entry.ratio:.1f}×" if entry.ratio else ""
    parts = [
        f"{mark}{entry.backup_id}".ljust(18),
        entry.type.ljust(11),
        f"{sizes}{ratio}".ljust(28),
        (clock(entry.duration) if entry.duration is not None else "").rjust(6),
    ]
    if entry.verified and entry.verified_state:
        parts.append(f"{entry.verified_state}, verified {age(entry.verified, now)} ago")
    if entry.kept:
        parts.append(f"kept ({entry.kept})")
    if entry.name:
        parts.append(entry.name)
    if entry.problem:
        parts.append(f"{entry.status}: {entry.problem}" if entry.status != "DONE" else f"LOST: {entry.problem}")
    return "  ".join(parts).rstrip()


def _sparks(overview: Overview, width: int, unicode: bool) -> str:
    """Return a line of blocks whose heights are what was in the store by then."""
    marks = _SPARKS if unicode else _PLAIN_SPARKS
    growth = overview.growth
    first, last = growth[0].day.toordinal(), max(overview.moment.date(), growth[-1].day).toordinal()
    places = max(min(width, last - first + 1), 1)
    highest = max(growth[-1].backups + growth[-1].wal, 1)
    heights = []
    index = 0
    for place in range(places):
        day = first + round(place * (last - first) / max(places - 1, 1))
        while index + 1 < len(growth) and growth[index + 1].day.toordinal() <= day:
            index += 1
        share = (growth[index].backups + growth[index].wal) / highest
        heights.append(marks[min(int(share * len(marks)), len(marks) - 1)])
    return "".join(heights)


def _time(moment: datetime) -> str:
    return format_to_the_second(moment)
