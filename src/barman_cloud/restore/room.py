"""How much room a restore needs, and whether there is so much."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import OperationError
from barman_cloud.restore.output import file_system
from barman_cloud.restore.plan import RestorePlan

log = logs.get_logger(__name__)

_BLOCK = 4096
_COMPRESSING = frozenset({"bcachefs", "btrfs", "f2fs", "zfs"})
"""File systems on which files may take less room than they have bytes."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is needed and what there is on one file system, in bytes. ``needed`` counts what is there already."""

    directory: Path
    needed: int
    present: int
    free: int
    compressing: bool

    @property
    def short(self) -> int:
        """How many bytes are missing; 0 if there is enough."""
        return max(0, self.needed - self.present - self.free)

    def __str__(self) -> str:
        present = f", of which {mebibytes(self.present)} are there already" if self.present else ""
        return f"{self.directory}: {mebibytes(self.needed)} needed{present}, {mebibytes(self.free)} free"


def estimate(plan: RestorePlan) -> dict[str, int]:
    """Return about how many bytes each base needs: those of the cluster, shared as the stored ones are."""
    stored = stored_sizes(plan)
    total = sum(stored.values())
    whole = max(plan.info.cluster_size or 0, total)
    return {base: size * whole // total if total else 0 for base, size in stored.items()}


def stored_sizes(plan: RestorePlan) -> dict[str, int]:
    """Return the bytes of each base in the store, which are hardly more than what they become."""
    sizes = dict.fromkeys(plan.directories, 0)
    for archive in plan.archives:
        sizes[archive.base] += archive.size
    return sizes


def exact(entries: Iterable[ManifestFile], bases: Iterable[str]) -> dict[str, int]:
    """Return how many bytes the files of a manifest take in each base, in blocks of 4 KiB."""
    sizes = dict.fromkeys(bases, 0)
    for entry in entries:
        first, _, rest = entry.path.partition("/")
        base = rest.partition("/")[0] if first == "pg_tblspc" else DATA
        sizes[base if base in sizes else DATA] += -(-entry.size // _BLOCK) * _BLOCK
    return sizes


def look(plan: RestorePlan, sizes: Mapping[str, int]) -> list[Room]:
    """Return the room on each file system that the restore writes to, if each base needs so many bytes."""
    found: dict[int, Room] = {}
    for base, directory in plan.directories.items():
        place = directory
        while not place.exists():
            place = place.parent
        device = place.stat().st_dev
        status = os.statvfs(place)
        blocks = status.f_bfree if os.geteuid() == 0 else status.f_bavail
        nested = any(directory != other and directory.is_relative_to(other) for other in plan.directories.values())
        room = found.get(device) or Room(directory, 0, 0, blocks * status.f_frsize, file_system(device) in _COMPRESSING)
        present = 0 if nested else _allocated(directory)
        found[device] = Room(
            room.directory, room.needed + sizes[base], room.present + present, room.free, room.compressing
        )
    return list(found.values())


def require(plan: RestorePlan, exactly: Callable[[], Mapping[str, int] | None], *, force: bool) -> list[Room]:
    """Say how much room is needed; ``OperationError`` if there is surely less, unless ``force``.

    ``exactly`` is asked for the sizes only if it may be too little; None if nobody knows.
    """
    rooms = look(plan, estimate(plan))
    known = False
    if any(room.short for room in rooms):
        sizes = exactly()
        known = sizes is not None
        # Without a manifest only what is stored is certain.
        rooms = look(plan, sizes if sizes is not None else estimate(plan))
    for room in rooms:
        log.info("room %s%s", "" if known else "(about) in ", room)
    certain = rooms if known else look(plan, stored_sizes(plan))
    for room, sure in zip(rooms, certain, strict=True):
        if sure.short and not room.compressing and not force:
            raise OperationError(
                f"not enough room in {sure}",
                hint="free some, or give another directory (--tablespace for those of tablespaces); "
                "--force begins nevertheless",
            )
        if room.short:
            log.warning("there may not be enough room in %s", room)
    return rooms


def _allocated(directory: Path) -> int:
    """Return the bytes that the files below a directory take on disk."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - a million times
            except FileNotFoundError:
                continue
    return total


def mebibytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 2**30:.1f} GiB" if size >= 1 << 30 else f"{size / 2**20:.1f} MiB"
