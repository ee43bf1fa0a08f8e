"""What direct receivers left in the bucket: segments in pieces, which are completed, tidied up, or gone on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.wal_range import number_of
from barman_cloud.errors import ConflictError, IntegrityError
from barman_cloud.postgres.wal import MAX_SEGMENT_SIZE, format_lsn, parse_wal_name
from barman_cloud.wal.receive_memory import SegmentBytes
from barman_cloud.wal.receive_plan import diverged
from barman_cloud.wal.receive_spool import PARTIAL
from barman_cloud.wal.stored import open_stored
from barman_cloud.wal.unfinished import Unfinished, all_pieces, assemble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barman_cloud.catalog.layout import Layout, WalPiece
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.receive_plan import Lineage

log = logs.get_logger(__name__)


class Left(NamedTuple):
    """What is to be gone on with, and what may be deleted by and by."""

    unfinished: Mapping[str, Unfinished]
    """By the names of segments."""
    obsolete: tuple[str, ...]
    """Keys of pieces whose bytes are in ``wals/``."""


def take_over(store: ObjectStore, layout: Layout, lineage: Lineage, archiver: Archiver) -> Left:
    """Look at all pieces, and archive what of them is complete or will never be.

    ``ConflictError`` if there are some of a timeline that the server doesn't know.
    """
    unfinished: dict[str, Unfinished] = {}
    obsolete: list[WalPiece] = []
    for segment, pieces in all_pieces(store, layout).items():
        name = parse_wal_name(segment)
        assert name is not None
        if name.timeline > lineage.timeline:
            raise diverged(store.object_url(layout.pieces_dir), name.timeline, lineage.timeline)
        if not lineage.has(name.timeline):
            log.info("pieces of segment %s are left alone: the server never was on timeline %d", segment, name.timeline)
            continue
        found = assemble(store, layout, name)
        if archived := _archived(store, layout, segment):
            _require_same(store, archived, segment, found)
            obsolete += pieces
            continue
        if found is None:
            continue
        if found.end == len(found.data):
            archiver.archive_content(segment, found.data)
        elif _was_left(lineage, name.timeline, segment):
            try:
                archiver.archive_content(f"{segment}{PARTIAL}", found.data)
            except (ConflictError, IntegrityError) as error:
                log.warning("a partial segment isn't stored, its pieces stay: %s", error)
                continue
        else:
            if isinstance(found.data, SegmentBytes):
                found.data.load()
            unfinished[segment] = found
            continue
        log.info("segment %s was put together from %d pieces", segment, len(found.pieces))
        obsolete += found.pieces
    return Left(unfinished, tuple(piece.key for piece in obsolete))


def differs(segment: str, position: int) -> ConflictError:
    """Return the error for WAL that isn't what an earlier receiver got of the same place."""
    return ConflictError(
        f"diverged timeline: what the server sends of segment {segment} differs from what was acknowledged before, "
        f"from byte {position} on",
        hint="the server is another copy that went its own way: give it a server name of its own",
    )


def _archived(store: ObjectStore, layout: Layout, segment: str) -> str | None:
    """Return the key of the full segment, None if there is none."""
    parsed = (layout.parse_wal_key(item.key) for item in store.list(layout.wal_prefix(segment)))
    return next((wal.key for wal in parsed if wal is not None and wal.name == segment), None)


def _require_same(store: ObjectStore, key: str, segment: str, found: Unfinished | None) -> None:
    """Raise ``ConflictError`` if the full segment isn't what was acknowledged of it, so that its pieces stay."""
    position = 0
    for part in open_stored(store, key, MAX_SEGMENT_SIZE).content if found else ():
        if found is None or position >= found.end:
            return
        same = min(len(part), found.end - position)
        if bytes(part[:same]) != found.data[position : position + same]:
            raise ConflictError(
                f"{store.object_url(key)} differs from what was acknowledged of segment {segment}, which is in pieces",
                hint="another server archives to this place; what was acknowledged stays in wal_pieces/",
            )
        position += same


def _was_left(lineage: Lineage, timeline: int, segment: str) -> bool:
    """Tell whether the server went on from within the segment on a newer timeline: nothing is added to it."""
    end = lineage.end_of(timeline)
    number = number_of(segment, lineage.segment_size)
    if end is None or number is None or number < end // lineage.segment_size:
        return False
    if number > end // lineage.segment_size:
        log.warning("the server left timeline %d at %s; acknowledged WAL behind that is kept as %s%s",
                    timeline, format_lsn(end), segment, PARTIAL)  # fmt: skip
    return True
