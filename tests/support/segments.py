"""WAL segments made by hand: a right header, and content that compresses about as well as real WAL."""

from __future__ import annotations

import random
import struct
from pathlib import Path

SYSTEM = 7512345678901234567
SIZE = 1 << 20
"""The smallest segment that PostgreSQL knows, to keep tests quick."""
MAGIC = 0xD118


def segment_name(number: int, timeline: int = 1, size: int = SIZE) -> str:
    """Return the name of the segment that begins at LSN ``number * size``."""
    per_log = (1 << 32) // size
    return f"{timeline:08X}{number // per_log:08X}{number % per_log:08X}"


def segment(
    number: int,
    *,
    timeline: int = 1,
    size: int = SIZE,
    system: int = SYSTEM,
    page_timeline: int | None = None,
    content: int = 0,
) -> bytes:
    """Return the bytes of a segment; another ``content`` is another random half."""
    header = struct.pack("=HHIQI4xQII", MAGIC, 0x0002, page_timeline or timeline, number * size, 0, system, size, 8192)
    noise = random.Random(f"{number} {timeline} {content}").randbytes(size // 2)
    return (header + noise).ljust(size, b"\0")


class Cluster:
    """A directory that looks like PGDATA to the WAL commands: ``pg_wal`` with its archive status, and pg_control."""

    def __init__(self, directory: Path, *, system: int = SYSTEM) -> None:
        self.directory = directory
        self.wal = directory / "pg_wal"
        self.status = self.wal / "archive_status"
        self.status.mkdir(parents=True)
        (directory / "global").mkdir()
        (directory / "global" / "pg_control").write_bytes(struct.pack("=Q", system) + bytes(8184))
        self._system = system

    def add(self, number: int, *, timeline: int = 1, content: int = 0, size: int = SIZE) -> Path:
        """Write a segment that waits to be archived, and return its path."""
        data = segment(number, timeline=timeline, content=content, system=self._system, size=size)
        return self.add_file(segment_name(number, timeline, size), data)

    def add_file(self, name: str, data: bytes) -> Path:
        """Write any file that waits to be archived, and return its path."""
        path = self.wal / name
        path.write_bytes(data)
        (self.status / f"{name}.ready").touch()
        return path

    def archived(self, path: Path) -> None:
        """Do what PostgreSQL does when archive_command returned 0."""
        (self.status / f"{path.name}.ready").rename(self.status / f"{path.name}.done")
