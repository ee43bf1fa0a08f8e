"""Pieces of segments that aren't complete yet: which bytes they hold together. Pure; on the path of ``wal-restore``.

Positions are bytes from the beginning of the segment. Pieces may come from several receivers and may overlap: one
that was merged from others is stored before these are deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from barman_cloud.catalog.layout import WalPiece

FAN = 32
"""As many small pieces in a row are merged into one; of a segment there are never much more, times three or four."""


class Share(NamedTuple):
    """What is taken from one piece."""

    piece: WalPiece
    begin: int
    end: int


def cover(pieces: Iterable[WalPiece]) -> list[Share]:
    """Return which bytes of which pieces make up the segment, from its beginning to the first gap.

    Of pieces that hold the same byte, one of the newest receiver counts, and of these the one that goes farthest.
    """
    from heapq import heappop, heappush

    ascending = sorted(pieces, key=lambda piece: piece.begin)
    at_hand: list[tuple[int, int, int]] = []
    """Pieces that begin by now, as a heap: epoch and end, both negative, and the place among all."""
    found: list[Share] = []
    position = seen = 0
    while True:
        while seen < len(ascending) and ascending[seen].begin <= position:
            heappush(at_hand, (-ascending[seen].epoch, -ascending[seen].end, seen))
            seen += 1
        while at_hand and -at_hand[0][1] <= position:
            heappop(at_hand)
        if not at_hand:
            return found
        best = ascending[at_hand[0][2]]
        end = best.end
        for later in range(seen, len(ascending)):
            if ascending[later].begin >= end:
                break
            if ascending[later].epoch > best.epoch:
                end = ascending[later].begin
                break
        found.append(Share(best, position, end))
        position = end


def contiguous_end(pieces: Iterable[WalPiece]) -> int:
    """Return how many bytes from the segment's beginning on are there without a gap."""
    shares = cover(pieces)
    return shares[-1].end if shares else 0


class Extents:
    """Which bytes are durable. Not thread-safe."""

    def __init__(self) -> None:
        self.prefix = 0
        """All bytes before it are."""
        self._beyond: list[tuple[int, int]] = []

    def add(self, begin: int, end: int) -> None:
        """Note that the bytes from ``begin`` to before ``end`` are durable now."""
        self._beyond.append((begin, end))
        self._beyond.sort()
        while self._beyond and self._beyond[0][0] <= self.prefix:
            self.prefix = max(self.prefix, self._beyond.pop(0)[1])


class Stored(NamedTuple):
    """A piece that is in the store, and how often what it holds was merged."""

    piece: WalPiece
    level: int


def run_to_merge(stored: Sequence[Stored]) -> range | None:
    """Return the places of pieces of one level, each beginning where the one before ends, that are enough to merge.

    ``stored`` ascends by place in the segment.
    """
    first = 0
    for number in range(1, len(stored) + 1):
        goes_on = (
            number < len(stored)
            and stored[number].level == stored[first].level
            and stored[number].piece.begin == stored[number - 1].piece.end
        )
        if goes_on:
            continue
        if number - first >= FAN:
            return range(first, number)
        first = number
    return None
