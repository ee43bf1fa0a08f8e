"""What a listing of the WAL archive taught, kept in the spool for the calls after it.

Nearly every segment that recovery asks for exists and has a key like that of the one before, so a listing for
each of them is one request too many. A listing from the requested name to the end of its folder (256 segments of
16 MiB) says which suffix follows and up to where: so far, a segment is fetched directly. Anything else is asked of the
store anew, because "not in the archive" ends a recovery and must be exact. So a hit costs one request, with one listing
for each folder; and a miss costs one request, the listing. (A gap below the last name seen costs two.)

What is remembered is only ever a guess about a key. A wrong one costs a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barman_cloud.postgres.wal import SEGMENT_NAME_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barman_cloud.catalog.layout import WalObject
    from barman_cloud.wal.spool import Directory


class Seen(NamedTuple):
    """All segments from the one that was asked for up to ``last`` had this ``suffix`` (such as ``.gz``, or empty)."""

    suffix: str
    last: str

    def expects(self, name: str) -> bool:
        """Tell whether the segment ``name`` is likely to be stored with ``suffix``."""
        return name[:16] == self.last[:16] and name <= self.last


def learn(name: str, objects: Iterable[WalObject]) -> Seen | None:
    """Return what ``objects``, a listing from ``name`` on in ascending order, teaches; None without ``name`` itself."""
    suffix: str | None = None
    last = name
    for found in objects:
        if not found.is_full_segment or found.name < name:
            continue
        if suffix is None:
            if found.name != name:
                return None
            suffix = found.suffix
        elif found.suffix != suffix:
            break
        last = found.name
    return None if suffix is None else Seen(suffix, last)


def load(directory: Directory) -> Seen | None:
    """Return what the last call left in ``directory``, if anything."""
    try:
        suffix, last = directory.read("seen").rstrip("\n").split(" ")
    except (OSError, ValueError):
        return None
    return Seen(suffix, last) if len(last) == SEGMENT_NAME_LENGTH else None


def save(directory: Directory, seen: Seen) -> None:
    """Leave ``seen`` for the next call; that this is impossible costs a request, nothing else."""
    try:
        directory.write("seen", f"{seen.suffix} {seen.last}\n")
    except OSError:
        pass
