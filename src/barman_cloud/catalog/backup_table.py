"""All that is known of each backup in one row: for people (``--format wide``) and for spreadsheets (``csv``)."""

from __future__ import annotations

import csv
import io
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from barman_cloud.catalog.backup_info import DONE, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.keep import Keeps, label
from barman_cloud.catalog.lineage import type_of
from barman_cloud.catalog.summary import UNREADABLE
from barman_cloud.catalog.times import format_to_the_second
from barman_cloud.report.progress_text import clock
from barman_cloud.report.terminal import printable
from barman_cloud.report.text import size

CSV_COLUMNS = (
    "backup_id", "name", "status", "type", "parent_backup_id", "begin_time", "end_time", "duration_seconds",
    "size_bytes", "stored_bytes", "ratio", "wal_bytes", "timeline", "begin_wal", "end_wal", "verified_time",
    "verified_state", "kept",
)  # fmt: skip
"""Columns of ``--format csv``: more may come at the end."""

_TITLES = (
    "Backup ID", "Type", "Status", "End Time", "Age", "Duration", "Size", "Stored", "Ratio", "WAL", "Verified", "Kept",
    "Name",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verified:
    """When a backup was verified last, and how it was."""

    moment: datetime
    state: str


@dataclass(frozen=True, slots=True)
class Row:
    """One backup. Sizes in bytes, durations in seconds; None where it isn't known."""

    backup_id: str
    info: BackupInfo | None
    """None if it can't be read."""
    stored: int | None
    wal: int | None
    """Bytes of the WAL in the store from this backup's begin to the next one's."""
    verified: Verified | None
    kept: str | None

    @property
    def size(self) -> int | None:
        """Of the cluster, as it was backed up."""
        if self.info is None:
            return None
        return self.info.cluster_size if self.info.cluster_size is not None else self.info.size

    @property
    def ended(self) -> datetime | None:
        """When it ended; None unless it is DONE, since a backup with an end is taken for a finished one."""
        return self.info.end_time if self.info is not None and self.info.status == DONE else None

    @property
    def duration(self) -> float | None:
        if self.info is None or self.info.begin_time is None or self.ended is None:
            return None
        return (self.ended - self.info.begin_time).total_seconds()

    @property
    def ratio(self) -> float | None:
        return self.size / self.stored if self.size and self.stored else None


def rows_of(
    view: CatalogView,
    keeps: Keeps,
    stored: Mapping[str, int],
    wal: Mapping[str, int],
    verified: Mapping[str, Verified],
) -> list[Row]:
    """Return one row for each backup, ids ascending, those that can't be read included."""
    return [
        Row(
            backup_id,
            view.backups.get(backup_id),
            stored.get(backup_id),
            wal.get(backup_id),
            verified.get(backup_id),
            None if keeps.get(backup_id) is None else label(keeps[backup_id]),
        )
        for backup_id in sorted({*view.backups, *view.unreadable})
    ]


def wal_of_backups(catalog: Catalog, backups: Iterable[BackupInfo]) -> dict[str, int]:
    """Return the bytes of the WAL from each backup's begin to that of the next one, from one listing of the archive."""
    begins = sorted((info.begin_wal[8:], info.backup_id) for info in backups if info.begin_wal)
    places = [begin for begin, _ in begins]
    found = dict.fromkeys((backup_id for _, backup_id in begins), 0)
    for item in catalog.store.list(catalog.layout.wals_dir):
        wal = catalog.layout.parse_wal_key(item.key)
        if wal is None or wal.segment is None:
            continue
        # Places in the WAL: a promotion begins another timeline, and goes on from there.
        index = bisect_right(places, wal.segment[8:])
        if index:
            found[begins[index - 1][1]] += item.size
    return found


def as_wide(rows: Iterable[Row], now: datetime) -> str:
    """Return a table whose columns are as wide as they need to be."""
    lines = [_TITLES, *(_cells(row, now) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_TITLES))]
    right = {4, 5, 6, 7, 8, 9}
    return "".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        + "\n"
        for line in lines
    )


def as_csv(rows: Iterable[Row]) -> str:
    """Return RFC 4180 with a line of titles: sizes in bytes, times in ISO 8601, nothing where it isn't known."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in rows:
        info = row.info
        values: tuple[object, ...] = (
            row.backup_id,
            info and info.backup_name,
            info.status if info else UNREADABLE,
            info and type_of(info),
            info and info.parent_backup_id,
            info and info.begin_time and info.begin_time.isoformat(),
            row.ended and row.ended.isoformat(),
            row.duration,
            row.size,
            row.stored,
            None if row.ratio is None else round(row.ratio, 3),
            row.wal,
            info and info.timeline,
            info and info.begin_wal,
            info and info.end_wal,
            row.verified and row.verified.moment.isoformat(),
            row.verified and row.verified.state,
            row.kept,
        )
        writer.writerow(["" if value is None else printable(str(value)) for value in values])
    return out.getvalue()


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit: ``3 d``, ``5 h``, ``12 min``."""
    seconds = max((now - moment).total_seconds(), 0)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def _cells(row: Row, now: datetime) -> tuple[str, ...]:
    info = row.info
    if info is None:
        return (row.backup_id, "", UNREADABLE, *[""] * (len(_TITLES) - 3))
    return (
        row.backup_id,
        type_of(info),
        info.status or "",
        format_to_the_second(row.ended) if row.ended else "",
        age(row.ended, now) if row.ended else "",
        clock(row.duration) if row.duration is not None else "",
        size(row.size) if row.size is not None else "",
        size(row.stored) if row.stored is not None else "",
        f"{row.ratio:.1f}" if row.ratio is not None else "",
        size(row.wal) if row.wal is not None else "",
        f"{row.verified.state} {age(row.verified.moment, now)} ago" if row.verified else "no",
        row.kept or "",
        printable(info.backup_name or ""),
    )
