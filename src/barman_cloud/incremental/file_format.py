"""PostgreSQL's ``INCREMENTAL.*`` files: written, and read as a stream.

Source: PostgreSQL 17, ``src/backend/backup/basebackup_incremental.c``. All numbers are little-endian unsigned 32-bit::

    magic  number of blocks  truncation block length  block number …  padding to a whole block  block …

There is padding only if there is a block. The truncation block length is the shortest length, in blocks, that the file
had since the parent began: what the parent holds beyond it is not part of the file any more.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from barman_cloud.archive.buffers import Buffer
from barman_cloud.errors import IntegrityError

PREFIX: Final = "INCREMENTAL."
"""What stands before the name of a relation file whose changed blocks are stored."""
MAGIC: Final = 0xD3AE1F0D
BLOCK: Final = 8192
"""Bytes of a block. PostgreSQL can be built with others; such a cluster has no incremental backups here."""
SEGMENT_BLOCKS: Final = 131072
"""Blocks of a full segment of 1 GiB, which is the largest file of a relation."""

_FIXED: Final = struct.Struct("<3I")
_NUMBER: Final = 4


@dataclass(frozen=True, slots=True)
class Header:
    """The beginning of an incremental file."""

    blocks: Sequence[int]
    """Numbers of the blocks that follow, ascending, counted from the beginning of this file."""
    truncation: int
    """The truncation block length."""

    @property
    def size(self) -> int:
        """Bytes before the first block."""
        return header_size(len(self.blocks))

    @property
    def file_size(self) -> int:
        """Bytes of the whole file."""
        return self.size + len(self.blocks) * BLOCK

    @property
    def length(self) -> int:
        """The least length of the restored file, in blocks."""
        return max(self.truncation, self.blocks[-1] + 1 if self.blocks else 0)

    def to_bytes(self) -> bytes:
        """Return the header as it is stored, with its padding."""
        numbers = array("I", self.blocks)
        if numbers.itemsize != _NUMBER:  # pragma: no cover - no platform that we know
            raise AssertionError("array('I') isn't of 32 bits here")
        data = _FIXED.pack(MAGIC, len(self.blocks), self.truncation) + _little_endian(numbers).tobytes()
        return data.ljust(self.size, b"\0")


def header_size(count: int) -> int:
    """Return the bytes before the first of ``count`` blocks."""
    size = _FIXED.size + _NUMBER * count
    return -(-size // BLOCK) * BLOCK if count else size


def read_header(chunks: Iterator[Buffer], size: int, source: str) -> tuple[Header, bytes]:
    """Read the header of a file of ``size`` bytes; returns it with the bytes behind it that were read already.

    ``source`` names the file in errors: ``IntegrityError`` for anything that PostgreSQL doesn't write.
    """
    data = bytearray()
    _fill(data, chunks, _FIXED.size, source)
    magic, count, truncation = _FIXED.unpack_from(data)
    if magic != MAGIC:
        raise IntegrityError(f"{source}: not an incremental file (it begins with {bytes(data[:4]).hex()})")
    if truncation > SEGMENT_BLOCKS or count > SEGMENT_BLOCKS or header_size(count) + count * BLOCK != size:
        raise IntegrityError(f"{source}: {count} blocks and truncation at {truncation} don't fit {size} bytes")
    _fill(data, chunks, header_size(count), source)
    numbers = _little_endian(array("I", bytes(data[_FIXED.size : _FIXED.size + _NUMBER * count])))
    if any(later <= earlier for earlier, later in pairwise(numbers)) or (count and numbers[-1] >= SEGMENT_BLOCKS):
        raise IntegrityError(f"{source}: its block numbers aren't ascending, or are beyond the end of a segment")
    return Header(numbers, truncation), bytes(data[header_size(count) :])


def read_blocks(
    header: Header, first: bytes, chunks: Iterator[Buffer], source: str
) -> Iterator[tuple[int, memoryview]]:
    """Yield (offset in the restored file in bytes, content) for runs of neighbouring blocks, in order.

    ``first`` is what :func:`read_header` had read beyond the header. A run ends where a buffer does, at a whole block.
    """
    pending = memoryview(first)
    index = 0
    while index < len(header.blocks):
        while len(pending) < BLOCK:
            chunk = next(chunks, None)
            if chunk is None:
                raise IntegrityError(f"{source}: it ends after {index} of {len(header.blocks)} blocks")
            pending = memoryview(bytes(pending) + bytes(chunk)) if len(pending) else memoryview(chunk).cast("B")
        available = len(pending) // BLOCK
        run = 1
        start = header.blocks[index]
        while run < available and index + run < len(header.blocks) and header.blocks[index + run] == start + run:
            run += 1
        yield start * BLOCK, pending[: run * BLOCK]
        pending = pending[run * BLOCK :]
        index += run
    if len(pending) or next(chunks, None):
        raise IntegrityError(f"{source}: there is more in it than its {len(header.blocks)} blocks")


def _fill(data: bytearray, chunks: Iterator[Buffer], size: int, source: str) -> None:
    while len(data) < size:
        chunk = next(chunks, None)
        if chunk is None:
            raise IntegrityError(f"{source}: it ends after {len(data)} bytes, within its header")
        data += chunk


def _little_endian(numbers: array[int]) -> array[int]:
    """Turn numbers of this machine, which are the caller's only, into those of a file, or the other way round."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
