"""Questions to the WAL archive of one server: timelines, and the segments from some point on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.catalog.layout import Layout, WalObject, WalPiece, parse_wal_folder
from barman_cloud.catalog.wal_pieces import cover
from barman_cloud.catalog.wal_range import Segment, name_of, segments
from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.timeline import LARGEST_HISTORY, Switch, parse_history
from barman_cloud.store.base import Listing, ObjectStore


class WalArchive:
    """Reads names only, except for the small history files. One level of the archive is listed once and remembered."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self._store = store
        self._layout = layout
        self._top: Listing | None = None

    @property
    def url(self) -> str:
        """The archive's place, for messages."""
        return self._store.object_url(self._layout.wals_dir)

    @property
    def _level(self) -> Listing:
        if self._top is None:
            self._top = self._store.list_level(self._layout.wals_dir)
        return self._top

    def timelines(self) -> tuple[int, ...]:
        """Return all timelines of which there is WAL or a history file, ascending."""
        names = (folder[len(self._layout.wals_dir) :].rstrip("/") for folder in self._level.folders)
        folders = {found[0] for name in names if (found := parse_wal_folder(name))}
        return tuple(sorted(folders | set(self._histories())))

    def has_history(self, timeline: int) -> bool:
        return timeline in self._histories()

    def newest_timeline(self, start: int) -> int:
        """Return what PostgreSQL takes for the latest timeline when it recovers from ``start``.

        It asks for the history files of one timeline after another, and stops at the first that isn't there
        (``findNewestTimeLine`` in ``timeline.c``).
        """
        histories = self._histories()
        while start + 1 in histories:
            start += 1
        return start

    def history(self, timeline: int) -> tuple[Switch, ...]:
        """Return the ancestors of a timeline, the oldest first; empty if there is no history file.

        ``IntegrityError`` names the object if it can't be read.
        """
        wal = self._histories().get(timeline)
        if wal is None:
            return ()
        content = bytearray()
        try:
            if self._store.head(wal.key).size > LARGEST_HISTORY:
                raise IntegrityError("too large for a timeline history file")
            for piece in decompress_stream([self._store.get(wal.key)], compression_of(wal.key)):
                content += piece
                if len(content) > LARGEST_HISTORY:
                    raise IntegrityError("too large for a timeline history file")
            return parse_history(bytes(content), timeline)
        except IntegrityError as error:
            raise IntegrityError(f"{self._store.object_url(wal.key)}: {error}", hint=error.hint) from error

    def segments_from(self, timeline: int, number: int, size: int, *, unfinished: bool = False) -> Iterator[Segment]:
        """Yield the segments from ``number`` on, the rest of ``timeline`` first and then those of newer timelines.

        Lazily: who takes a few of them pays for one page of the listing. ``unfinished`` counts those as partial of
        which there are only pieces.
        """
        name = name_of(timeline, number, size)
        # All but the last digit: the greatest key that is surely before every form of the name.
        after = f"{self._layout.wal_folder(name)}{name[:-1]}"
        listed = self._listed(after)
        if unfinished:
            listed = in_order(listed, unfinished_segments(self._store, self._layout, size))
        return (
            segment for segment in segments(listed, size) if (segment.timeline, segment.number) >= (timeline, number)
        )

    def _listed(self, after: str) -> Iterator[tuple[WalObject, datetime | None]]:
        for item in self._store.list(self._layout.wals_dir, start_after=after):
            if wal := self._layout.parse_wal_key(item.key):
                yield wal, item.last_modified

    def _histories(self) -> dict[int, WalObject]:
        parsed = (self._layout.parse_wal_key(item.key) for item in self._level.objects)
        return {wal.timeline: wal for wal in parsed if wal is not None and wal.is_history}


def unfinished_segments(store: ObjectStore, layout: Layout, size: int) -> list[tuple[WalObject, datetime | None]]:
    """Return the segments of which there are pieces from their beginning on, as partial ones, ascending by name.

    One whose pieces hold all its ``size`` bytes is a full one. With each comes the time at which the last piece that
    counts was stored.
    """
    pieces: dict[str, list[WalPiece]] = {}
    times: dict[str, datetime | None] = {}
    for item in store.list(layout.pieces_dir):
        if piece := layout.parse_piece_key(item.key):
            pieces.setdefault(piece.segment, []).append(piece)
            times[piece.key] = item.last_modified
    found: list[tuple[WalObject, datetime | None]] = []
    for segment in sorted(pieces):
        if shares := cover(pieces[segment]):
            stored = [time for share in shares if (time := times[share.piece.key])]
            name = segment if shares[-1].end == size else f"{segment}.partial"
            found.append((WalObject(shares[0].piece.key, name, None), max(stored, default=None)))
    return found


def in_order(
    listed: Iterator[tuple[WalObject, datetime | None]], unfinished: Iterable[tuple[WalObject, datetime | None]]
) -> Iterator[tuple[WalObject, datetime | None]]:
    """Yield what is listed, and between it, at their places, the segments of which there are pieces.

    One that isn't complete, although the archive goes on behind it, is left out: recovery ends in it.
    """
    pieces = iter(unfinished)
    following = next(pieces, None)
    for wal, stored in listed:
        while following and following[0].name < wal.name:
            goes_on = wal.segment is not None and wal.timeline == following[0].timeline
            if not (goes_on and following[0].name.endswith(".partial")):
                yield following
            following = next(pieces, None)
        yield wal, stored
    while following:
        yield following
        following = next(pieces, None)
