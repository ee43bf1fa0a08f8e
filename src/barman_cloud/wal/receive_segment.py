"""A segment that a direct receiver has in memory, and which bytes of it are durable. Not thread-safe by itself."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING

from barman_cloud.catalog.wal_pieces import Extents, Stored, run_to_merge
from barman_cloud.wal import receive_memory
from barman_cloud.wal.receive_memory import SegmentBytes
from barman_cloud.wal.receive_resume import differs

if TYPE_CHECKING:
    from barman_cloud.catalog.layout import WalPiece
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.unfinished import Unfinished

LARGEST_PIECE = 2 << 20
"""Bytes; more of it goes in several pieces at a time."""


class OpenSegment:
    """Bytes from :attr:`start` (an LSN) on. What was received before is compared when it is received again."""

    def __init__(self, name: str, start: int, size: int, store: ObjectStore, before: Unfinished | None = None) -> None:
        self.name = name
        self.start = start
        self.size = size
        data = before.data if before else _new_data(size, store)
        self._large = data if isinstance(data, SegmentBytes) else None
        if self._large is not None:
            self._large.source = lambda: [one.piece for one in self.stored]
        self.view: memoryview | SegmentBytes = data if isinstance(data, SegmentBytes) else memoryview(data)
        self.known = before.end if before else 0
        """How many bytes were received, on this connection or another, or by an earlier receiver."""
        self.position = 0
        """How many of them on this connection."""
        self.sent = self.limit = self.known
        """Pieces before ``sent`` are stored or on their way; those before ``limit`` may be made."""
        self.durable = Extents()
        self.stored: list[Stored] = []
        self.orphans: set[str] = set()
        """Keys of merged pieces that may be in the store although it said otherwise."""
        self.ended = False
        """Its timeline was left: nothing more comes."""
        self.archived = False
        """It is in ``wals/``, in full or (if it ended) as a partial one."""
        self.given_up = False
        """It can't be archived, so its pieces stay."""
        self.in_flight = 0
        """How many threads use ``data``."""
        if before:
            self.durable.add(0, before.end)
            self.stored = sorted((Stored(piece, 0) for piece in before.pieces), key=_place)

    @property
    def is_complete(self) -> bool:
        return self.position == self.size

    @property
    def goal(self) -> int:
        """How many bytes have to be durable before those of the next segment count."""
        return self.known if self.ended else self.size

    @property
    def durable_end(self) -> int:
        """The LSN up to which the segment is durable."""
        return self.start + (self.goal if self.archived else self.durable.prefix)

    @property
    def is_done(self) -> bool:
        """Whether nothing is to be done for it any more."""
        return self.archived or (self.given_up and self.is_durable)

    @property
    def is_large(self) -> bool:
        """Whether it leaves memory piece by piece, so that all of it has to go in pieces."""
        return self._large is not None

    @property
    def held(self) -> int:
        """How many bytes of memory it takes."""
        return self.size if self._large is None else self._large.held

    @property
    def unverified(self) -> int:
        """Bytes before :attr:`position` that may still turn out to differ from what was received before."""
        return 0 if self._large is None else self._large.unverified

    @property
    def is_durable(self) -> bool:
        return self.archived or self.durable.prefix >= self.goal

    def begin_again(self) -> None:
        """Expect it from its beginning on, on another connection."""
        self.position = 0
        if self._large is not None:
            self._large.unverified = 0

    def take(self, data: memoryview) -> int:
        """Take what belongs to the segment and return how much that is; ``ConflictError`` if it differs from before."""
        taken = min(len(data), self.size - self.position)
        same = max(0, min(taken, self.known - self.position))
        position = self.position
        if same and (first := self._difference(position, data[:same])) is not None:
            raise differs(self.name, first)
        self.view[position + same : position + taken] = data[same:taken]
        self.position += taken
        self.known = max(self.known, self.position)
        self._let_go()
        return taken

    def _difference(self, position: int, data: memoryview) -> int | None:
        if self._large is not None:
            return self._large.difference(position, data)
        own = self.view[position : position + len(data)]
        if own == data:
            return None
        return position + next(n for n, (a, b) in enumerate(zip(own, data, strict=True)) if a != b)

    def _let_go(self) -> None:
        """Give back memory of what is durable, and was compared if it has come once more."""
        if self._large is not None:
            self._large.drop_before(min(self.durable.prefix, self.position))

    def allow(self, end: int) -> bool:
        """Let pieces be made of what comes before ``end``; tell whether there is something new."""
        self.limit = max(self.limit, end)
        return self.limit > self.sent

    def next_piece(self) -> tuple[int, int] | None:
        """Return begin and end of the next piece, which then counts as sent; None if nothing waits."""
        if self.archived or self.sent >= self.limit:
            return None
        begin = self.sent
        self.sent = min(self.limit, begin + LARGEST_PIECE)
        return begin, self.sent

    def has_piece(self) -> bool:
        return not self.archived and self.sent < self.limit

    def note_stored(self, piece: WalPiece, level: int = 0) -> None:
        """Note that a piece is in the store, where ``level`` is how often its bytes were merged."""
        self.durable.add(piece.begin, piece.end)
        insort(self.stored, Stored(piece, level), key=_place)
        self._let_go()

    def run_to_merge(self) -> list[Stored]:
        """Return stored pieces in a row that are to become one; empty if there are too few, or all go soon."""
        if self.archived or self.is_complete or self.ended:
            return []
        small = [one for one in self.stored if one.piece.end - one.piece.begin <= LARGEST_PIECE // 2]
        run = run_to_merge(small)
        return [small[place] for place in run] if run else []

    def note_merged(self, merged: WalPiece, run: list[Stored]) -> None:
        """Note that ``merged`` is in the store and holds what ``run`` does."""
        self.orphans.discard(merged.key)
        # At once, since others look for the bytes of a large segment here.
        left = [one for one in self.stored if one not in run]
        self.stored = sorted([*left, Stored(merged, run[0].level + 1)], key=_place)

    def pieces(self) -> list[str]:
        """Return the keys of all its pieces."""
        return [one.piece.key for one in self.stored] + sorted(self.orphans)


def _new_data(size: int, store: ObjectStore) -> bytearray | SegmentBytes:
    return bytearray(size) if size <= receive_memory.LARGE else SegmentBytes(size, store, tuple)


def _place(stored: Stored) -> tuple[int, int]:
    return stored.piece.begin, stored.piece.end
