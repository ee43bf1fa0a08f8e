"""``archives.json``, our sidecar of a backup: what was stored, and the checksum of each archive as it was stored.

Barman ignores the object. With it a backup is verified by reading its objects, without unpacking anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from barman_cloud.errors import IntegrityError

VERSION: Final = 1
_ALGORITHM: Final = "crc32c"
_LARGEST_RECORD: Final = 2048
"""Bytes of one archive in the file; a record of ours has less than 200."""
_LARGEST_REST: Final = 16 << 20
"""Bytes of everything else: what was found of page checksums may name many files."""
_DESCRIBED: Final = 5


@dataclass(frozen=True, slots=True)
class ArchiveRecord:
    """One archive of a backup."""

    name: str
    """The last part of its key, such as ``data_0001.tar.lz4``: it stays true when a backup is copied elsewhere."""
    size: int
    """Bytes as stored."""
    checksum: int
    """CRC-32C of the stored bytes; eight hexadecimal digits in the file."""
    compression: str | None
    members: int
    """Files, directories and links in it."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of the cluster with pages that failed their checksum when the backup read them."""

    path: str
    """Inside the restored PGDATA."""
    blocks: tuple[tuple[int, int], ...]
    """First and last of each run of such pages, counted from the beginning of the file."""

    def describe(self) -> str:
        """Return the blocks in words, such as ``3, 7-12``."""
        runs = [str(first) if first == last else f"{first}-{last}" for first, last in self.blocks[:_DESCRIBED]]
        return ", ".join(runs) + (" …" if len(self.blocks) > _DESCRIBED else "")


@dataclass(frozen=True, slots=True)
class PageChecksums:
    """What verifying page checksums while the cluster was read has found."""

    pages: int
    """How many were checked."""
    failed: int
    """How many of them are damaged."""
    files: tuple[DamagedFile, ...] = ()


def dump(archives: Sequence[ArchiveRecord], page_checksums: PageChecksums | None = None) -> str:
    """Return the sidecar's text."""
    document: dict[str, Any] = {
        "version": VERSION,
        "checksum_algorithm": _ALGORITHM,
        "archives": [{**asdict(archive), "checksum": f"{archive.checksum:08x}"} for archive in archives],
    }
    if page_checksums is not None:
        document["page_checksums"] = asdict(page_checksums)
    return json.dumps(document, indent=1) + "\n"


def parse(text: str, source: str = "archives.json") -> tuple[ArchiveRecord, ...]:
    """Read a sidecar; keys that a later version may add are ignored. ``IntegrityError`` if it makes no sense."""
    try:
        document = json.loads(text)
        version, algorithm = document["version"], document["checksum_algorithm"]
        if (version, algorithm) != (VERSION, _ALGORITHM):
            raise IntegrityError(
                f"{source}: version {version} with checksum {algorithm} is unknown here",
                hint="a newer version of this program wrote the backup; use that version or a later one",
            )
        return tuple(_record(item) for item in document["archives"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{source}: not a readable list of archives ({error!r})") from error


def parse_page_checksums(text: str) -> PageChecksums | None:
    """Return what the backup found of page checksums; None if it didn't verify them, or the sidecar makes no sense."""
    try:
        found = json.loads(text)["page_checksums"]
        files = tuple(
            DamagedFile(str(file["path"]), tuple((int(first), int(last)) for first, last in file["blocks"]))
            for file in found["files"]
        )
        return PageChecksums(int(found["pages"]), int(found["failed"]), files)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def largest_plausible(archives: int) -> int:
    """Return the bytes that the sidecar of a backup of so many archives can have at most."""
    return _LARGEST_REST + _LARGEST_RECORD * archives


def _record(item: dict[str, object]) -> ArchiveRecord:
    name, size, checksum = item["name"], item["size"], item["checksum"]
    compression, members = item["compression"], item["members"]
    if not (
        isinstance(name, str) and isinstance(checksum, str) and (compression is None or isinstance(compression, str))
    ):
        raise TypeError(f"wrong type in {item}")
    if not (isinstance(size, int) and isinstance(members, int) and size >= 0 and members >= 0):
        raise TypeError(f"wrong number in {item}")
    return ArchiveRecord(name, size, int(checksum, 16), compression, members)
