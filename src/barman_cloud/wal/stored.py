"""Reading what is stored of a WAL file, in memory that doesn't depend on its size.

An object of up to 32 MiB, which is nearly every one, is fetched by one request and checked by the store's client; a
larger one is read in ranges while it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.errors import IntegrityError, ObjectTooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barman_cloud.store.base import Buffer, ObjectStore

AT_ONCE = 32 << 20
"""Bytes of a stored object, or of a compressed file, that are held in memory."""
RANGE_SIZE = 8 << 20
CONCURRENCY = 2

SMALL_FILE_LIMIT = 1 << 20
"""Bytes of a history or ``.backup`` file at most (``postgres.timeline.LARGEST_HISTORY``, which costs an import)."""


class Stored(NamedTuple):
    """A stored WAL file that is being read."""

    content: Iterator[Buffer]
    """It, decompressed, in pieces. Raises ``IntegrityError`` when it is damaged, or larger than it may be."""
    has_checksum: bool
    """The compression format carries a checksum of the content, so that no damage to the object gets through."""


def open_stored(store: ObjectStore, key: str, limit: int) -> Stored:
    """Begin to read the WAL file stored under ``key``, of at most ``limit`` bytes when decompressed.

    Raises ``ObjectNotFoundError`` if there is none.
    """
    pieces = _stored_bytes(store, key, limit)
    first = next(pieces, b"")
    compression = compression_of(key)
    return Stored(_decompressed(first, pieces, compression, limit), _has_checksum(first, compression))


def _decompressed(first: Buffer, rest: Iterator[Buffer], compression: str | None, limit: int) -> Iterator[Buffer]:
    size = 0
    for piece in decompress_stream(_joined(first, rest), compression):
        size += len(piece)
        if size > limit:
            raise IntegrityError(f"more than {limit} bytes when decompressed")
        yield piece


def _joined(first: Buffer, rest: Iterator[Buffer]) -> Iterator[Buffer]:
    yield first
    yield from rest


def _has_checksum(start: Buffer, compression: str | None) -> bool:
    """Tell whether what begins with ``start`` carries a checksum.

    LZ4 (``lz4_Frame_format.md``) and zstd (RFC 8878, 3.1.1.1.1) leave it to the writer. We write one, Barman doesn't.
    """
    if compression == "lz4":
        return len(start) > 4 and bool(start[4] & 0x14)
    if compression == "zstd":
        return len(start) > 4 and bool(start[4] & 0x04)
    return compression is not None


def _stored_bytes(store: ObjectStore, key: str, limit: int) -> Iterator[Buffer]:
    most = limit + limit // 8 + 4096  # no compression makes WAL larger than that
    try:
        yield store.get_buffer(key, limit=min(AT_ONCE, most))
    except ObjectTooLargeError:
        if most <= AT_ONCE:
            raise
    else:
        return
    size = 0
    for piece in store.read(key, range_size=RANGE_SIZE, concurrency=CONCURRENCY):
        size += len(piece)
        if size > most:
            raise IntegrityError(f"more than {most} bytes")
        yield piece
