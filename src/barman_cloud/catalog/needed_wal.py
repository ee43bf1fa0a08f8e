"""Which WAL a backup needs to be consistent, from its begin to its end."""

from __future__ import annotations

from typing import NamedTuple

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.catalog.wal_range import name_of, number_of
from barman_cloud.errors import IntegrityError, UsageError
from barman_cloud.postgres.wal import WalKind, is_segment_size, parse_lsn, parse_wal_name


class NeededWal(NamedTuple):
    """The segments without which a backup isn't consistent: numbers ``first`` to ``last``, of ``size`` bytes each."""

    timeline: int
    first: int
    last: int
    size: int

    def name(self, number: int) -> str:
        """Return the name of segment ``number``."""
        return name_of(self.timeline, number, self.size)

    def names(self) -> list[str]:
        """Return the names of all segments, at least one, ascending."""
        return [self.name(number) for number in range(self.first, self.last + 1)]


def needed_wal(info: BackupInfo) -> NeededWal | None:
    """Return which WAL a backup needs; None if its ``backup.info`` doesn't tell.

    ``IntegrityError`` if it says that segments have a size that PostgreSQL can't have.
    """
    name = parse_wal_name(info.begin_wal or "")
    size = info.xlog_segment_size
    try:
        end = parse_lsn(info.end_xlog or "")
    except UsageError:
        return None
    if name is None or name.kind is not WalKind.SEGMENT:
        return None
    if not is_segment_size(size):
        raise IntegrityError(f"backup.info of {info.backup_id}: WAL segments can't have {size} bytes")
    first = number_of(name.segment_name, size)
    # What ends on a boundary doesn't need the segment behind it.
    return None if first is None else NeededWal(name.timeline, first, max(first, (end - 1) // size), size)


def missing_segments(archive: WalArchive, info: BackupInfo) -> list[str]:
    """Return the segments that a backup needs and the archive doesn't have in full, ascending.

    Empty as well if the backup doesn't tell what it needs.
    """
    needed = needed_wal(info)
    if needed is None:
        return []
    there: set[int] = set()
    for segment in archive.segments_from(needed.timeline, needed.first, needed.size):
        if segment.timeline != needed.timeline or segment.number > needed.last:
            break
        if not segment.partial:
            there.add(segment.number)
    return [needed.name(number) for number in range(needed.first, needed.last + 1) if number not in there]
