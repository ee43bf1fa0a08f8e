"""What runs that were killed leave in a bucket, found by listings: nothing is changed here.

Only what lies below the server's prefix is looked at. ``catalog.cleanup`` removes what is found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from barman_cloud import logs
from barman_cloud.archive import archives_json
from barman_cloud.catalog.backup_info import EMPTY, STARTED, BackupInfo
from barman_cloud.catalog.backup_objects import is_of_backup
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.heartbeat import read_sign
from barman_cloud.catalog.keep import Keeps
from barman_cloud.catalog.layout import DATA
from barman_cloud.catalog.lineage import descendants
from barman_cloud.catalog.wal_cleanup import WalCleanup, plan_orphaned_wal
from barman_cloud.catalog.wal_sweep import WalSweep
from barman_cloud.errors import AccessDeniedError, IntegrityError, ObjectNotFoundError, StoreError
from barman_cloud.report.text import duration
from barman_cloud.store.base import ObjectInfo, PendingUpload

log = logs.get_logger(__name__)


class Kind(StrEnum):
    """What is left."""

    DELETION = "unfinished-deletion"
    ABANDONED = "abandoned-backup"
    OBJECTS = "orphaned-objects"
    BROKEN = "broken-backup"
    WAL = "orphaned-wal"
    UPLOAD = "unfinished-upload"


@dataclass(frozen=True, slots=True)
class Leftover:
    """One thing that is left. Sizes in bytes, as stored."""

    kind: Kind
    name: str
    """Backup id; of an upload the key of its object; of WAL the first segment that stays."""
    reason: str
    """One line for people."""
    objects: int = 0
    size: int | None = 0
    """None if the store doesn't tell."""
    stays: str | None = None
    """Why it is only named: the next step. None: it goes."""
    upload: PendingUpload | None = None


@dataclass(frozen=True, slots=True)
class Age:
    """How old what is left must be."""

    older_than: timedelta = timedelta(days=7)
    """Backups without signs of life, and objects without backup: since then nothing of them has changed."""
    uploads: timedelta = timedelta(days=1)


def find_leftovers(
    catalog: Catalog, view: CatalogView, keeps: Keeps, age: Age, now: datetime, *, delete_broken: bool = False
) -> list[Leftover]:
    """Return what is left, in the order in which it is to be removed.

    ``view`` is the whole catalog. Errors of the store are raised, except that uploads can't be listed (a WARNING).
    """
    found = [*_unfinished_deletions(catalog, view, keeps), *_abandoned(catalog, view, age, now)]
    found += _orphaned_objects(catalog, view, age, now)
    found += _broken(catalog, view, keeps, delete_broken=delete_broken)
    going = {item.name for item in found if item.stays is None}
    for item in found:
        if item.kind is Kind.BROKEN and item.stays is None:
            going.update(descendants(view.backups, item.name))
    remaining = {backup_id: info for backup_id, info in view.backups.items() if backup_id not in going}
    found += _orphaned_wal(catalog, remaining, keeps)
    abandoned = {item.name for item in found if item.kind is Kind.ABANDONED and item.stays is None}
    running = {info.backup_id for info in view.backups.values() if _is_unfinished(info)} - abandoned
    return [*found, *find_uploads(catalog, age, now, abandoned, running)]


def _is_unfinished(info: BackupInfo) -> bool:
    return info.status in (STARTED, EMPTY) and info.deletion is None


def objects_in(catalog: Catalog, backup_id: str) -> list[ObjectInfo]:
    """Return the objects in the folder of a backup that programs like this one put there."""
    objects = catalog.store.list_level(catalog.layout.backup_dir(backup_id)).objects
    return [item for item in objects if is_of_backup(catalog.layout, backup_id, item.key)]


def _unfinished_deletions(catalog: Catalog, view: CatalogView, keeps: Keeps) -> Iterator[Leftover]:
    for backup_id, info in view.backups.items():
        if info.deletion is None:
            continue
        stays = None
        if info.deletion == "announced" and backup_id in keeps:
            stays = f"it is kept meanwhile: barman-cloud backup-keep --release {backup_id}, or delete another backup"
        objects = objects_in(catalog, backup_id)
        if stays is None and _has_snapshots(catalog, info, objects):
            stays = f"it has disk snapshots: barman-cloud backup-delete -b {backup_id}"
        yield Leftover(
            Kind.DELETION, backup_id, "its deletion was begun and not finished", len(objects), _sum(objects), stays
        )


def _abandoned(catalog: Catalog, view: CatalogView, age: Age, now: datetime) -> Iterator[Leftover]:
    for info in view.backups.values():
        if not _is_unfinished(info):
            continue
        reason = why_abandoned(catalog, info, age, now)
        if reason is None:
            log.info("backup %s is %s, and may be running", info.backup_id, info.status)
            continue
        objects = objects_in(catalog, info.backup_id)
        stays = None
        if _has_snapshots(catalog, info, objects):
            stays = f"it may have disk snapshots: barman-cloud backup-delete -b {info.backup_id}"
        yield Leftover(Kind.ABANDONED, info.backup_id, reason, len(objects), _sum(objects), stays)


def _has_snapshots(catalog: Catalog, info: BackupInfo, objects: Sequence[ObjectInfo]) -> bool:
    """Tell whether disk snapshots may exist that only the deletion of the backup knows how to delete."""
    begun = catalog.layout.snapshots_begun(info.backup_id)
    return info.snapshots_info is not None or any(item.key == begun for item in objects)


def why_abandoned(catalog: Catalog, info: BackupInfo, age: Age, now: datetime) -> str | None:
    """Return why nobody makes the backup any more, which is neither complete nor failed; None if somebody may."""
    sign = read_sign(catalog.store, catalog.layout, info.backup_id)
    if sign is not None:
        if sign.is_alive(now):
            return None
        return f"{sign.describe()} gave its last sign of life {_ago(now, sign.renewed)} ago"
    objects = catalog.store.list_level(catalog.layout.backup_dir(info.backup_id)).objects
    changed = [item.last_modified for item in objects if item.last_modified]
    newest = max(changed, default=info.begin_time)
    if newest is None or now - newest <= age.older_than:
        return None
    return f"it is {info.status}, gives no signs of life, and nothing of it has changed for {_ago(now, newest)}"


def _orphaned_objects(catalog: Catalog, view: CatalogView, age: Age, now: datetime) -> Iterator[Leftover]:
    """Yield what is in folders of backups that have no ``backup.info``."""
    folders = catalog.store.list_level(catalog.layout.base_dir).folders
    for backup_id in sorted(filter(None, map(catalog.layout.backup_id_of, folders))):
        if backup_id in view.backups or backup_id in view.unreadable:
            continue
        objects = objects_in(catalog, backup_id)
        newest = max((item.last_modified for item in objects if item.last_modified), default=None)
        if newest is None or now - newest <= age.older_than:
            continue
        reason = f"there is no backup.info, and nothing has changed for {_ago(now, newest)}"
        stays = None
        if has_keep(catalog, backup_id):
            stays = "it has a keep annotation: remove that first"
        elif any(item.key == catalog.layout.snapshots_begun(backup_id) for item in objects):
            stays = "its snapshots.json names disk snapshots: delete those by hand, then that object"
        yield Leftover(Kind.OBJECTS, backup_id, reason, len(objects), _sum(objects), stays)


def has_keep(catalog: Catalog, backup_id: str) -> bool:
    """Tell whether there is a keep annotation, whatever else there is of the backup."""
    try:
        catalog.store.head(catalog.layout.keep(backup_id))
    except ObjectNotFoundError:
        return False
    return True


def _broken(catalog: Catalog, view: CatalogView, keeps: Keeps, *, delete_broken: bool) -> Iterator[Leftover]:
    candidates = [info for info in view.backups.values() if info.is_complete and info.snapshots_info is None]
    losses = catalog.map(lambda info: what_is_missing(catalog, info), candidates)
    for info, missing in zip(candidates, losses, strict=True):
        if not missing:
            continue
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        stays = None
        if not delete_broken:
            stays = "put these objects back, or delete what is left by --delete-broken"
        elif info.backup_id in keeps:
            stays = f"it is kept: barman-cloud backup-keep --release {info.backup_id}"
        above = descendants(view.backups, info.backup_id)
        objects = [item for member in (info.backup_id, *above) for item in objects_in(catalog, member)]
        reason = f"it is {info.status} and can't be restored without {named}"
        if above:
            reason += f"; what builds on it can't either: {', '.join(above)}"
        yield Leftover(Kind.BROKEN, info.backup_id, reason, len(objects), _sum(objects), stays)


def what_is_missing(catalog: Catalog, info: BackupInfo) -> list[str]:
    """Return the names of objects without which a complete backup can't be restored, as far as listings tell."""
    layout, backup_id = catalog.layout, info.backup_id
    found = catalog.archives(backup_id)
    missing: list[str] = []
    for base in (DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or ())):
        parts = {archive.part for archive in found.get(base, [])}
        gaps = sorted(set(range(max(parts, default=0) + 1)) - parts)
        missing += [f"{layout.archive(backup_id, base, part).rpartition('/')[2]}[.*]" for part in gaps]
    names = {archive.key.rpartition("/")[2] for parts in found.values() for archive in parts}
    key = layout.archives_json(backup_id)
    try:
        text = catalog.store.get(key, limit=archives_json.largest_plausible(len(names))).decode()
        recorded = {record.name for record in archives_json.parse(text, catalog.store.object_url(key))}
    except (ObjectNotFoundError, IntegrityError, UnicodeDecodeError):
        recorded = set()
    plain = {name.partition("[")[0] for name in missing}
    return missing + sorted(name for name in recorded - names if not any(name.startswith(known) for known in plain))


def orphaned_wal(catalog: Catalog, backups: Mapping[str, BackupInfo], keeps: Keeps) -> WalCleanup | None:
    """Return which WAL none of ``backups`` needs; None, with the reason in the log, if that can't be told."""
    plan = plan_orphaned_wal(backups, keeps)
    if isinstance(plan, WalCleanup):
        return plan
    log.info("no WAL goes: %s", plan.reason)
    return None


def _orphaned_wal(catalog: Catalog, backups: Mapping[str, BackupInfo], keeps: Keeps) -> Iterator[Leftover]:
    plan = orphaned_wal(catalog, backups, keeps)
    if plan is None:
        return
    count = size = 0
    for taken in WalSweep(catalog.store, catalog.layout, [plan]):
        count += 1
        size += taken.size
    if count:
        reason = f"no backup needs it: the first is {plan.backup_id}, which begins at {plan.limit}"
        yield Leftover(Kind.WAL, plan.limit, reason, count, size)


def find_uploads(
    catalog: Catalog, age: Age, now: datetime, abandoned: set[str], running: set[str], *, sizes: bool = True
) -> list[Leftover]:
    """Return unfinished uploads to keys below the server's prefix.

    Those of a backup that may be running are left out, those of an abandoned one go whatever their age.
    """
    found: list[Leftover] = []
    try:
        for upload in catalog.store.list_uploads(catalog.layout.root, sizes=sizes):
            backup_id = catalog.layout.backup_id_of(upload.key)
            if backup_id in running:
                continue
            if upload.began is None:
                stays = "the store doesn't tell how old it is, and drops it by itself"
                found.append(Leftover(Kind.UPLOAD, upload.key, "it isn't finished", 1, upload.size, stays, upload))
            elif backup_id in abandoned or now - upload.began > age.uploads:
                reason = f"it was begun {_ago(now, upload.began)} ago and not finished"
                found.append(Leftover(Kind.UPLOAD, upload.key, reason, 1, upload.size, None, upload))
    except (StoreError, AccessDeniedError) as error:
        log.warning("unfinished uploads can't be listed: %s", error)
    return found


def _sum(objects: Sequence[ObjectInfo]) -> int:
    return sum(item.size for item in objects)


def _ago(now: datetime, moment: datetime) -> str:
    return duration(max(0.0, (now - moment).total_seconds()))
