"""WAL segments made for tests: a right header, and content that compresses as WAL does."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from barman_cloud.postgres.wal import DEFAULT_SEGMENT_SIZE, parse_wal_name

PAGE_MAGIC = 0xD118  # PostgreSQL 18
SYSTEM_IDENTIFIER = 7_000_000_000_000_000_001


def segment_bytes(
    name: str, *, size: int = DEFAULT_SEGMENT_SIZE, system_identifier: int = SYSTEM_IDENTIFIER, seed: int = 0
) -> bytes:
    """Return ``size`` bytes that begin with the long page header of the segment ``name``; the same for the same seed."""
    wal = parse_wal_name(name)
    assert wal is not None
    header = struct.pack(
        "=HHIQI4xQII", PAGE_MAGIC, 0x0002, wal.timeline, wal.start_lsn(size), 0, system_identifier, size, 8192
    )
    noise = random.Random(f"{name} {seed}").randbytes(8192 - len(header))
    page = header + noise
    return page + (noise[:1024] + bytes(7168)) * (size // 8192 - 1)


def make_segment(path: Path, *, size: int = DEFAULT_SEGMENT_SIZE, seed: int = 0) -> Path:
    """Write a segment whose name is that of ``path`` and return the path."""
    path.write_bytes(segment_bytes(path.name.removesuffix(".partial"), size=size, seed=seed))
    return path
