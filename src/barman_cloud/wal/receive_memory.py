"""The bytes of a large segment, of which only those are in memory that the bucket doesn't have yet.

A segment of PostgreSQL has up to 1 GiB. What is stored in pieces is read back from them when it is needed again: to put
the full segment into ``wals/``, and to merge pieces. Of what isn't in memory there are digests, so that the same WAL on
another connection can be compared without reading it back.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from barman_cloud.catalog.wal_pieces import cover
from barman_cloud.errors import IntegrityError, ObjectNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from barman_cloud.catalog.layout import WalPiece
    from barman_cloud.store.base import Buffer, ObjectStore

LARGE = 64 << 20
"""Bytes; segments up to that size are in memory as a whole."""
CHUNK = 4 << 20
"""Bytes that leave memory at a time; segments larger than ``LARGE`` are multiples of it."""
_TRIES = 5
"""Pieces may be merged, and so be deleted, between the look at them and the reading."""


class SegmentBytes:
    """Looks like a buffer of the segment's size, zeros where nothing was written. One thread writes, any may read."""

    def __init__(
        self, size: int, store: ObjectStore, source: Callable[[], Iterable[WalPiece]], *, stored: int = 0
    ) -> None:
        """``source`` returns the stored pieces, which hold at least the first ``stored`` bytes."""
        self._size = size
        self._store = store
        self.source = source
        self.stored = stored
        """The bytes before it are in the store alone; those from it on are in memory."""
        self._chunks: dict[int, bytearray] = {}
        self._digests: list[bytes] = []
        self._hash = blake2b(digest_size=16)
        self._hashed_to = 0
        self.unverified = 0
        """Bytes that were given to :meth:`difference` and aren't judged yet, because their chunk isn't complete."""
        self._last: tuple[str, Buffer] | None = None
        """The piece that was read last: who reads on needs it again."""

    def __len__(self) -> int:
        return self._size

    @property
    def held(self) -> int:
        """How many bytes of memory this takes."""
        return len(self._chunks) * CHUNK

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self._size)
        return b"".join(self._parts(begin, end))

    def __setitem__(self, part: slice, data: Buffer) -> None:
        position = part.start
        for begin, end in _within_chunks(position, part.stop):
            number = begin // CHUNK
            chunk = self._chunks.get(number)
            if chunk is None:
                chunk = self._chunks[number] = bytearray(CHUNK)
            chunk[begin % CHUNK : begin % CHUNK + end - begin] = data[begin - position : end - position]

    def _parts(self, begin: int, end: int) -> Iterator[Buffer]:
        for start, stop in _within_chunks(begin, end):
            chunk = self._chunks.get(start // CHUNK)
            if chunk is not None:
                yield memoryview(chunk)[start % CHUNK : start % CHUNK + stop - start]
                continue
            middle = min(max(start, self.stored), stop)
            yield from self._read_back(start, middle)
            yield bytes(stop - middle)

    def _read_back(self, begin: int, end: int) -> Iterator[Buffer]:
        for attempt in range(1, _TRIES + 1):
            if begin >= end:
                return
            try:
                for share in cover(self.source()):
                    if share.end <= begin or share.begin >= end or share.begin > begin:
                        continue
                    stop = min(end, share.end)
                    first = share.piece.begin
                    content = self._content_of(share.piece)
                    yield memoryview(content)[begin - first : stop - first]
                    begin = stop
            except ObjectNotFoundError:
                if attempt == _TRIES:
                    raise
        if begin < end:
            raise IntegrityError(f"the pieces of a segment have no bytes from {begin} on, although these were stored")

    def _content_of(self, piece: WalPiece) -> Buffer:
        last = self._last
        if last is None or last[0] != piece.key:
            content = self._store.get_buffer(piece.key, limit=piece.end - piece.begin)
            if len(content) != piece.end - piece.begin:
                raise IntegrityError(f"{self._store.object_url(piece.key)} has changed while it was read")
            self._last = last = (piece.key, content)
        return last[1]

    def drop_before(self, end: int) -> None:
        """Let go of the memory of whole chunks before ``end``, all of which is stored."""
        for number in range(self.stored // CHUNK, end // CHUNK):
            self._digests.append(_digest(self._chunks[number]))
            self.stored = (number + 1) * CHUNK  # before the chunk goes: who doesn't find it looks here
            del self._chunks[number]

    def load(self) -> None:
        """Make up the digests of what is stored, and take what doesn't fill a chunk into memory."""
        end = self.stored
        self._digests = [_digest(self[start : start + CHUNK]) for start in range(0, end - end % CHUNK, CHUNK)]
        if rest := end % CHUNK:
            chunk = bytearray(CHUNK)
            chunk[:rest] = self[end - rest : end]
            self._chunks[end // CHUNK] = chunk
            self.stored = end - rest
        self._last = None

    def difference(self, position: int, data: memoryview) -> int | None:
        """Return the place of a difference to what was written before, None if none is known yet.

        To be called with everything from the segment's beginning on, in order.
        """
        for begin, end in _within_chunks(position, position + len(data)):
            part = data[begin - position : end - position]
            if begin >= self.stored:
                chunk = memoryview(self._chunks[begin // CHUNK])
                own = chunk[begin % CHUNK : begin % CHUNK + len(part)]
                if own != part:
                    return begin + next(n for n, (a, b) in enumerate(zip(own, part, strict=True)) if a != b)
                continue
            if begin % CHUNK == 0:
                self._hash, self.unverified = blake2b(digest_size=16), 0
            elif self._hashed_to != begin:
                raise IntegrityError("a segment is compared from its beginning on, without a gap")
            self._hash.update(part)
            self._hashed_to, self.unverified = end, self.unverified + len(part)
            if end % CHUNK == 0:
                if self._hash.digest() != self._digests[begin // CHUNK]:
                    return begin - begin % CHUNK
                self.unverified = 0
        return None


def _within_chunks(begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        stop = min(end, begin - begin % CHUNK + CHUNK)
        yield begin, stop
        begin = stop


def _digest(data: Buffer) -> bytes:
    return blake2b(data, digest_size=16).digest()
