"""The parent of an incremental backup: found in the catalog, and checked to be one that this server can build on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.archive.compression import decompress_stream
from barman_cloud.archive.manifest import ManifestSpool, read_wal_ranges
from barman_cloud.archive.tar import read_members
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.source import MANIFEST
from barman_cloud.catalog import selection
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import (
    BarmanCloudError,
    IntegrityError,
    ObjectNotFoundError,
    OperationError,
    SelectionError,
)
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal import format_lsn, parse_lsn
from barman_cloud.postgres.wal_summaries import Summary

log = logs.get_logger(__name__)

_FULL = "take a full backup"
_INSTEAD = "--fallback-full takes a full backup instead"


@dataclass(frozen=True, slots=True)
class IncrementRequest:
    """What the user asked for."""

    parent: str
    """``last``, ``last-full``, an id or a name."""
    fallback_full: bool = False
    """Take a full backup, with a WARNING, where an incremental one is impossible."""
    summary_timeout: float = 300
    """Seconds to wait for the server's WAL summaries."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A complete backup with its manifest. LSNs as int."""

    info: BackupInfo
    manifest: ManifestSpool
    timeline: int
    begin: int
    """Where recovery from it begins; what was changed since then is in the increment."""
    end: int


def find_parent(catalog: Catalog, text: str, cluster: str, version: int) -> Parent:
    """Return the backup that ``text`` means, with its manifest.

    ``cluster`` is the server's system identifier. Raises ``OperationError``, ``SelectionError`` or ``IntegrityError``
    if it can't be the parent of a backup of that server.
    """
    info = selection.resolve_parent(text, catalog)
    what = f"backup {info.backup_id} can't be a parent"
    if info.snapshots_info is not None:
        raise OperationError(f"{what}: it is a disk snapshot, whose files nobody has listed", hint=_FULL)
    if info.systemid != cluster:
        raise OperationError(f"{what}: it is of cluster {info.systemid}, this server of cluster {cluster}", hint=_FULL)
    if info.version is None or info.version // 10000 != version // 10000:
        raise OperationError(
            f"{what}: it is of PostgreSQL {(info.version or 0) // 10000}, this server {version // 10000}", hint=_FULL
        )
    if info.begin_xlog is None or info.timeline is None:
        raise OperationError(f"{what}: its backup.info doesn't tell where it began", hint=_FULL)
    manifest = load_manifest(catalog, info)
    begin = parse_lsn(info.begin_xlog)
    ranges = read_wal_ranges(b"".join(deque(manifest, maxlen=2)))
    if (info.timeline, begin) not in {(found.timeline, found.start_lsn) for found in ranges}:
        raise IntegrityError(f"{what}: the manifest in its folder is of another backup", hint=_FULL)
    log.info(
        "the parent is backup %s, which began at %s on timeline %d", info.backup_id, info.begin_xlog, info.timeline
    )
    return Parent(info, manifest, info.timeline, begin, max(found.end_lsn for found in ranges))


def choose(find: Callable[[], Parent], request: IncrementRequest) -> Parent | None:
    """Return what ``find`` does; where that is impossible, None with a WARNING if a full backup will do."""
    try:
        return call_interruptibly(find)
    except (OperationError, SelectionError, IntegrityError) as error:
        settle_for_full(error, request)
        return None


def settle_for_full(error: BarmanCloudError, request: IncrementRequest) -> None:
    """Log a WARNING that says why a full backup is taken instead, or raise ``error`` if that wasn't asked for."""
    if not request.fallback_full:
        error.hint = f"{error.hint}; {_INSTEAD}" if error.hint else _INSTEAD
        raise error
    log.warning("a full backup is taken instead of an incremental one: %s", error)


def load_manifest(catalog: Catalog, info: BackupInfo) -> ManifestSpool:
    """Return the manifest of a backup: the object beside its archives, or else the file in its last archive.

    ``OperationError`` if there is none, ``IntegrityError`` if it is damaged.
    """
    store, layout = catalog.store, catalog.layout
    key = layout.manifest(info.backup_id)
    found = ManifestSpool()
    try:
        for chunk in store.read(key):
            found.add(chunk)
    except ObjectNotFoundError:
        archives = catalog.archives(info.backup_id).get(DATA)
        if not archives:
            raise OperationError(f"backup {info.backup_id} has no archive of PGDATA", hint=_FULL) from None
        key = archives[-1].key
        log.info("backup %s has no manifest beside its archives: reading %s", info.backup_id, key)
        for chunk in _in_archive(catalog, info, archives[-1]):
            found.add(chunk)
    try:
        found.finish()
    except IntegrityError as error:
        raise IntegrityError(f"the manifest in {store.object_url(key)} fails its own checksum", hint=_FULL) from error
    return found


def _in_archive(catalog: Catalog, info: BackupInfo, archive: ArchiveObject) -> Iterator[bytes]:
    chunks = decompress_stream(catalog.store.read(archive.key), archive.compression)
    for member, content in read_members(chunks, catalog.store.object_url(archive.key)):
        if member.kind == "file" and member.name.removeprefix("./") == MANIFEST:
            yield from map(bytes, content)
            return
    raise OperationError(
        f"backup {info.backup_id} can't be a parent: there is no {MANIFEST} beside its archives or in the last one",
        hint=f"{_FULL}; if a Barman server made it, its host may have the only one, as "
        f"meta/{info.backup_id}-{MANIFEST}: it can be copied to {catalog.layout.manifest(info.backup_id)}",
    )


def way_from(parent: Parent, timeline: int, lsn: int | None, history: tuple[Switch, ...]) -> list[Summary]:
    """Return the WAL from the parent's begin to ``lsn`` on ``timeline``, one stretch for each timeline.

    ``history`` are the ancestors of ``timeline``; with ``lsn`` None the last stretch is left out. ``OperationError`` if
    the parent isn't in the server's past.
    """
    what = f"backup {parent.info.backup_id} can't be a parent"
    if parent.timeline != timeline:
        left = next((switch.end for switch in history if switch.timeline == parent.timeline), None)
        if left is None:
            raise OperationError(
                f"{what}: it is of timeline {parent.timeline}, from which timeline {timeline} of this server "
                "doesn't come",
                hint=_FULL,
            )
        if left < parent.end:
            raise OperationError(
                f"{what}: it ended at {format_lsn(parent.end)}, after this server had left timeline "
                f"{parent.timeline} at {format_lsn(left)}",
                hint=_FULL,
            )
    elif lsn is not None and parent.end > lsn:
        raise OperationError(
            f"{what}: it ended at {format_lsn(parent.end)}, and this backup begins at {format_lsn(lsn)} already",
            hint="on a standby a backup begins at the last restartpoint: wait for the next one",
        )
    stretches: list[Summary] = []
    position = parent.begin
    for switch in history:
        if parent.timeline <= switch.timeline:
            if switch.end > position:
                stretches.append(Summary(switch.timeline, position, switch.end))
            position = max(position, switch.end)
    if lsn is not None and lsn > position:
        stretches.append(Summary(timeline, position, lsn))
    return stretches
