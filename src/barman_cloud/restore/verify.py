"""Comparing what was written with the backup's manifest, without reading it again."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable
from pathlib import Path

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import ManifestFile, crc32c_text
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError

_NAMED = 3
_LEFT_OUT = frozenset(("recovery.signal", "standby.signal"))
"""Files that the manifest of a standby may list; they aren't restored, and ``pg_verifybackup`` doesn't miss them."""
_READ_SIZE = 1 << 20


class WrittenFiles:
    """Remembers every file that was written, in 8 bytes each: a hash of its path, size and checksum."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._lock = threading.Lock()

    def recorder(self, base: str) -> Callable[[str, int, int], None]:
        """Return the function that notes a file of one base: its path in the archive, size and CRC-32C."""
        prefix = "" if base == DATA else f"pg_tblspc/{base}/"

        def record(path: str, size: int, crc: int) -> None:
            with self._lock:
                self._hashes.append(hash((prefix + path, size, crc)))

        return record

    def compare(self, entries: Iterable[ManifestFile], directory: Path, locate: Callable[[str], Path]) -> int:
        """Check that every file of the manifest was written with the size and CRC-32C given there; return their number.

        Files that weren't recorded (an earlier, interrupted run wrote them) are read; ``locate`` tells where a path of
        the manifest lies now. Raises ``IntegrityError`` naming the first files that are missing or differ.
        """
        written = set(self._hashes)
        wrong: list[str] = []
        count = 0
        for entry in entries:
            if entry.path in _LEFT_OUT:
                continue
            count += 1
            if hash((entry.path, entry.size, _expected(entry))) not in written:
                problem = _look(locate(entry.path), entry)
                if problem:
                    wrong.append(f"{entry.path} {problem}")
        if wrong:
            more = f" (and {len(wrong) - _NAMED} more)" if len(wrong) > _NAMED else ""
            raise IntegrityError(
                f"{directory} doesn't match the backup's manifest: {'; '.join(wrong[:_NAMED])}{more}",
                hint="the same command extracts everything again; if that doesn't help, the backup is damaged",
            )
        return count


def _expected(entry: ManifestFile) -> int | None:
    """Return the CRC-32C that the manifest has of a file; None if it has none, or one of another kind."""
    if entry.algorithm != "CRC32C" or entry.checksum is None:
        return None
    return int.from_bytes(bytes.fromhex(entry.checksum), "little")


def _look(path: Path, entry: ManifestFile) -> str | None:
    """Return what is wrong with a file, None if it is as the manifest says."""
    crc = size = 0
    try:
        with open(path, "rb", buffering=0) as file:
            while data := file.read(_READ_SIZE):
                crc = crc32c(data, crc)
                size += len(data)
    except FileNotFoundError:
        return "is missing"
    if size != entry.size:
        return f"has {size} bytes instead of {entry.size}"
    expected = _expected(entry)
    if expected in (None, crc):
        return None
    return f"has the checksum {crc32c_text(crc)} instead of {entry.checksum}"
