"""WAL segments made by hand: right pages and records, and content that compresses about as well as real WAL."""

from __future__ import annotations

import random
import struct
from bisect import bisect_left
from pathlib import Path

from crc32c import crc32c

SYSTEM = 7512345678901234567
SIZE = 1 << 20
"""The smallest segment that PostgreSQL knows, to keep tests quick."""
MAGIC = 0xD118
PAGE = 8192
RECORD = 20_000
"""Bytes of a record of those made here: some begin and end on a page, some go on over two others."""


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
    """Return the bytes of a segment; another ``content`` is another random half.

    ``page_timeline`` is that of the first page, if it isn't ``timeline``.
    """
    chance = random.Random(f"{number} {timeline} {content}")
    noise = b"".join(chance.randbytes(min(size // 2, 64 << 20)) for _ in range(max(1, size >> 27)))
    rooms = [PAGE - 40, *[PAGE - 24] * (size // PAGE - 1)]
    stream, begins = _records(noise, sum(rooms))
    pages = []
    position = 0
    for page, room in enumerate(rooms):
        left = begins[bisect_left(begins, position)] - position
        info = (0x0002 if page == 0 else 0) | (0x0001 if left else 0)
        of_page = (page_timeline or timeline) if page == 0 else timeline
        header = struct.pack("=HHIQI4x", MAGIC, info, of_page, number * size + page * PAGE, left)
        if page == 0:
            header += struct.pack("=QII", system, size, PAGE)
        pages.append(header + stream[position : position + room])
        position += room
    return b"".join(pages)


def record(data: bytes) -> bytes:
    """Return a record of heap changes with this content."""
    head = struct.pack("=IIQBBxx", 24 + len(data), 700, 0, 0, 10)
    return head + struct.pack("=I", crc32c(head, crc32c(data))) + data


def _records(noise: bytes, room: int) -> tuple[bytes, list[int]]:
    """Return records that fill ``room`` bytes, half noise and half zeros, and where each begins, and the last ends."""
    stream = bytearray()
    begins = []
    while len(stream) < room:
        length = min(RECORD, room - len(stream))
        if room - len(stream) - length < 24:
            length = room - len(stream)
        middle = len(stream) // 2
        data = noise[middle : middle + max(0, length // 2 - 24)].ljust(length - 24, b"\0")
        begins.append(len(stream))
        stream += record(data)
    return bytes(stream), [*begins, room]


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
