"""One pass over the WAL archive: which objects go, by which plan. Memory doesn't grow with the archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout, WalObject, parse_wal_folder
from barman_cloud.catalog.wal_cleanup import Share, WalCleanup
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


class Taken(NamedTuple):
    """An object that goes: ``plan`` is the index of the first plan that takes it."""

    key: str
    plan: int
    whole: bool
    """Its folder goes as a whole."""
    size: int = 0
    """Bytes as stored."""
    modified: datetime | None = None
    """When it was stored."""


class WalSweep:
    """Iterates, once, over the objects that go.

    The archive is listed once for all plans, and only up to the last folder that any of them reaches; pieces of
    segments, which are few, after it.
    """

    def __init__(self, store: ObjectStore, layout: Layout, plans: Sequence[WalCleanup]) -> None:
        self._store = store
        self._layout = layout
        self._plans = plans
        self.whole_folders: list[list[str]] = [[] for _ in plans]
        """For each plan, the folders seen so far that go as a whole, as keys that end in a slash."""

    def __iter__(self) -> Iterator[Taken]:
        if self._plans:
            yield from self._archived()
            yield from self._in_pieces()

    def _in_pieces(self) -> Iterator[Taken]:
        for item in self._store.list(self._layout.pieces_dir):
            piece = self._layout.parse_piece_key(item.key)
            for index, plan in enumerate(self._plans):
                if piece and plan.takes(piece.segment):
                    yield Taken(item.key, index, False, item.size, item.last_modified)
                    break

    def _archived(self) -> Iterator[Taken]:
        root = self._layout.wals_dir
        end = max((plan.limit[:16] for plan in self._plans), default="")
        current = ""
        shares: list[tuple[int, Share]] = []
        for item in self._store.list(root):
            folder, slash, _ = item.key[len(root) :].partition("/")
            if folder > end:
                return
            if slash and folder != current:
                current, shares = folder, self._enter(folder)
            if slash and shares and (taken := self._take(item.key, folder, shares)):
                yield taken._replace(size=item.size, modified=item.last_modified)

    def goes_as_a_whole(self, key: str) -> bool:
        """Tell whether ``key``, which was taken, is in a folder that goes as a whole."""
        folder = f"{key.rpartition('/')[0]}/"
        return any(folder in folders for folders in self.whole_folders)

    def _enter(self, folder: str) -> list[tuple[int, Share]]:
        if parse_wal_folder(folder) is None:
            log.warning("%s%s/ is left alone: that isn't the name of a WAL folder", self._layout.wals_dir, folder)
            return []
        shares = [(index, plan.share_of(folder)) for index, plan in enumerate(self._plans)]
        for index, share in shares:
            if share is Share.EVERYTHING:
                self.whole_folders[index].append(f"{self._layout.wals_dir}{folder}/")
        return [(index, share) for index, share in shares if share is not Share.NOTHING]

    def _take(self, key: str, folder: str, shares: Sequence[tuple[int, Share]]) -> Taken | None:
        if shares[0][1] is Share.EVERYTHING:
            return Taken(key, shares[0][0], True)
        segment = _segment_of(self._layout.parse_wal_key(key), folder)
        for index, share in shares:
            if share is Share.EVERYTHING:
                return Taken(key, index, True)
            if segment and (share is Share.ALL_SEGMENTS or self._plans[index].takes(segment)):
                return Taken(key, index, False)
        return None


def _segment_of(wal: WalObject | None, folder: str) -> str | None:
    """Return the segment that a file belongs to, or None for what isn't WAL, a history file or a file out of place."""
    segment = wal.segment if wal else None
    return segment if segment and segment.startswith(folder) else None
