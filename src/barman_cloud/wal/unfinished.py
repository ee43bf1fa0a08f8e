"""A segment that isn't complete yet, put together from the pieces that ``wal-receive --mode direct`` has stored."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.wal_pieces import cover
from barman_cloud.errors import IntegrityError, ObjectNotFoundError
from barman_cloud.postgres.wal import LONG_HEADER_SIZE, MAX_SEGMENT_SIZE, WalName, check_header
from barman_cloud.wal import receive_memory
from barman_cloud.wal.receive_memory import SegmentBytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barman_cloud.catalog.layout import Layout, WalPiece
    from barman_cloud.catalog.wal_pieces import Share
    from barman_cloud.store.base import Buffer, ObjectStore

log = logs.get_logger(__name__)

_AT_A_TIME = 8
_PART = 1 << 20
_TRIES = 5
"""Pieces may be merged, and so be deleted, between the listing and the reading."""


class Unfinished(NamedTuple):
    """A segment as far as its pieces go."""

    data: bytearray | SegmentBytes
    """Of a segment's full size: zeros from ``end`` on. Those of a large one are read from the pieces when asked for."""
    end: int
    pieces: tuple[WalPiece, ...]
    """All that there are of the segment, in use or not."""


def pieces_of(store: ObjectStore, layout: Layout, segment: str) -> tuple[WalPiece, ...]:
    """Return the stored pieces of a segment (24 digits); ``IntegrityError`` if one isn't of the size it should be."""
    return _parsed(store, layout, layout.pieces_of(segment))


def all_pieces(store: ObjectStore, layout: Layout) -> dict[str, list[WalPiece]]:
    """Return the stored pieces of the server by their segments, ascending by name."""
    found: dict[str, list[WalPiece]] = {}
    for piece in _parsed(store, layout, layout.pieces_dir):
        found.setdefault(piece.segment, []).append(piece)
    return found


def _parsed(store: ObjectStore, layout: Layout, prefix: str) -> tuple[WalPiece, ...]:
    found = []
    for item in store.list(prefix):
        piece = layout.parse_piece_key(item.key)
        if piece is None or piece.end > MAX_SEGMENT_SIZE:
            log.warning("%s is left alone: that isn't the name of a piece", store.object_url(item.key))
            continue
        if item.size != piece.end - piece.begin:
            raise IntegrityError(
                f"{store.object_url(item.key)} has {item.size} bytes, its name says {piece.end - piece.begin}",
                hint="look at this object; what other pieces hold can be read once it is moved away",
            )
        found.append(piece)
    return tuple(found)


def assemble(store: ObjectStore, layout: Layout, name: WalName) -> Unfinished | None:
    """Return what the pieces of a segment hold, from its beginning to the first gap; None if that is nothing.

    ``IntegrityError`` if they don't begin with the header of that segment.
    """
    for attempt in range(1, _TRIES + 1):
        pieces = pieces_of(store, layout, name.segment_name)
        try:
            return _read(store, layout, name, pieces)
        except ObjectNotFoundError:
            if attempt == _TRIES:
                raise
    return None


def in_parts(data: bytearray | SegmentBytes) -> Iterator[Buffer]:
    """Yield the content, a large one in parts."""
    if isinstance(data, bytearray):
        yield data
        return
    for start in range(0, len(data), _PART):
        yield data[start : start + _PART]


def _read(store: ObjectStore, layout: Layout, name: WalName, pieces: tuple[WalPiece, ...]) -> Unfinished | None:
    from concurrent.futures import ThreadPoolExecutor

    shares = cover(pieces)
    if not shares or shares[-1].end < LONG_HEADER_SIZE:
        return None
    end = shares[-1].end
    # Of a large segment only what has the header is read here.
    first = next(n for n, share in enumerate(shares, 1) if share.end >= LONG_HEADER_SIZE)
    at_once = shares if end <= receive_memory.LARGE else shares[:first]
    with ThreadPoolExecutor(min(_AT_A_TIME, len(at_once)), "piece") as readers:
        content = bytearray().join(readers.map(lambda share: _content_of(store, share), at_once))
    header = check_header(content, name)
    size = header.segment_size
    if end > size:
        raise IntegrityError(f"the pieces of {name.text} hold more than a segment of {size} bytes")
    if size > receive_memory.LARGE:
        source = partial(pieces_of, store, layout, name.segment_name)
        return Unfinished(SegmentBytes(size, store, source, stored=end), end, pieces)
    content += bytes(size - end)
    return Unfinished(content, end, pieces)


def _content_of(store: ObjectStore, share: Share) -> Buffer:
    piece = share.piece
    content = store.get_buffer(piece.key, limit=piece.end - piece.begin)
    if len(content) != piece.end - piece.begin:
        raise IntegrityError(f"{store.object_url(piece.key)} has changed while it was read")
    return memoryview(content)[share.begin - piece.begin : share.end - piece.begin]
