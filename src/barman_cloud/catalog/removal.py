"""Removing one backup from the store, in an order that leaves no half backup for a good one if it is killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import ANNOUNCED, BackupInfo
from barman_cloud.catalog.backup_objects import BackupObjects, find_objects
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.wal_sweep import Taken
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConnectivityError,
    LockedError,
    ObjectNotFoundError,
    OperationError,
    StoreError,
)
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.store.base import DeleteFailedError

log = logs.get_logger(__name__)

_LARGEST_RECORD = 1 << 20


@dataclass(frozen=True, slots=True)
class DeletionHooks:
    """What is called around deletions; not in dry runs."""

    before_backup: Callable[[BackupInfo], None]
    """What it raises ends the deletion before anything of the backup is gone."""
    after_backup: Callable[[str, BaseException | None], None]
    before_wal: Callable[[Sequence[Taken]], list[Taken]]
    """Gets the WAL files that are to go, and returns those that may."""
    after_wal: Callable[[Sequence[Taken], BaseException | None], None]


@dataclass(frozen=True, slots=True)
class DeletionOptions:
    """How to delete. ``batch_size`` is in objects per request; None means as many as the store takes."""

    dry_run: bool = False
    batch_size: int | None = None
    check_object_lock: bool = False
    check_snapshots: Callable[[BackupInfo], None] | None = None
    """Raises if one of the volume snapshots of a snapshot backup must not be deleted, or can't be now."""
    delete_snapshots: Callable[[BackupInfo], None] | None = None
    """Deletes the volume snapshots; raises if one of them is still there afterwards."""
    discard_begun: Callable[[bytes, str], None] | None = None
    """Deletes the volume snapshots that a record (its content, the backup's id) says were begun; raises likewise."""
    hooks: DeletionHooks | None = None


def remove_data(catalog: Catalog, info: BackupInfo, options: DeletionOptions) -> BackupObjects:
    """Delete all of a backup but ``backup.info``, after this says that the backup is being deleted.

    In a dry run nothing is deleted. ``LockedError`` or ``OperationError`` if the backup may not be deleted; where that
    shows before the first object is gone, the backup is left as it was.
    """
    work = progress.current()
    work.phase(f"deleting backup {info.backup_id}")
    objects = find_objects(catalog, info)
    if options.check_object_lock:
        _refuse_if_locked(catalog, info.backup_id, objects.data)
    if options.dry_run:
        return objects
    if options.check_snapshots:
        options.check_snapshots(info)
    _refuse_to_forget(objects, options)
    mark = DeletionMark(catalog, info.backup_id)
    _mark(catalog, mark, objects, options)
    try:
        if objects.label:
            if options.delete_snapshots:
                options.delete_snapshots(info)
            delete_objects(catalog, [objects.label], options)
        _discard_begun(catalog, objects, options)
        delete_objects(catalog, objects.data, options)
        work.add(stored=objects.size, items=len(objects.data))
    except ConnectivityError:
        raise
    except BarmanCloudError:
        if _is_untouched(catalog, objects):
            mark.take_back()
        raise
    return objects


def _refuse_to_forget(objects: BackupObjects, options: DeletionOptions) -> None:
    """Raise ``OperationError`` where disk snapshots would stay, of which nothing in the store tells any more."""
    if (objects.label and not options.delete_snapshots) or (objects.begun and not options.discard_begun):
        raise OperationError(
            f"backup {objects.backup_id} is not deleted: it has disk snapshots, which would be forgotten",
            hint=f"barman-cloud backup-delete -b {objects.backup_id} deletes them too",
        )


def _discard_begun(catalog: Catalog, objects: BackupObjects, options: DeletionOptions) -> None:
    if objects.begun:
        assert options.discard_begun is not None
        try:
            options.discard_begun(catalog.store.get(objects.begun, limit=_LARGEST_RECORD), objects.backup_id)
        except ObjectNotFoundError:
            return  # the backup has come to its end meanwhile
        delete_objects(catalog, [objects.begun], options)


def remove_infos(catalog: Catalog, backups: Sequence[BackupObjects], options: DeletionOptions) -> None:
    """Delete the ``backup.info`` of backups of which nothing else is left."""
    delete_objects(catalog, [objects.info for objects in backups], options)
    delete_objects(catalog, [objects.beside for objects in backups if objects.beside], options)
    for objects in backups:
        log.info("backup %s is deleted: %s", objects.backup_id, counted(len(objects.archives), "archive"))


def refuse_if_kept(catalog: Catalog, backup_id: str) -> None:
    """Raise ``OperationError`` if the backup has a keep annotation now."""
    annotation = keep.read(catalog, backup_id)
    if annotation is not None:
        raise OperationError(
            f"backup {backup_id} is not deleted: it has a keep annotation ({keep.label(annotation) or 'empty'})",
            hint="barman-cloud-backup-keep --release removes it",
        )


def delete_objects(catalog: Catalog, keys: Sequence[str], options: DeletionOptions) -> None:
    """Delete ``keys``; whatever refuses it, and however, the answer is an ``OperationError`` (1), as Barman's is."""
    try:
        if keys:
            catalog.store.delete(keys, batch_size=options.batch_size)
    except DeleteFailedError as error:
        for key, reason in error.failures.items():
            log.error("%s can't be deleted: %s", catalog.store.object_url(key), reason)  # noqa: TRY400
        raise
    except (AccessDeniedError, StoreError) as error:
        raise OperationError(str(error), hint=error.hint) from error


def _mark(catalog: Catalog, mark: DeletionMark, objects: BackupObjects, options: DeletionOptions) -> None:
    """Mark the backup, unless it is kept meanwhile.

    Credentials that may delete but not write can't mark it. Then ``backup.info`` itself goes first: after a kill the
    archives are left behind, but no backup that looks whole.
    """
    try:
        stage = mark.announce()
    except AccessDeniedError as error:
        log.warning(
            "backup %s can't be marked as being deleted (%s): its backup.info is deleted first, and if this command is "
            "killed, its archives stay in the store",
            objects.backup_id,
            error,
        )
        refuse_if_kept(catalog, objects.backup_id)
        delete_objects(catalog, [objects.info], options)
        return
    except StoreError as error:
        raise OperationError(f"backup {objects.backup_id} is not deleted: {error}", hint=error.hint) from error
    if stage == ANNOUNCED:
        try:
            refuse_if_kept(catalog, objects.backup_id)
        except OperationError:
            mark.take_back()
            raise
        mark.begin(lambda: refuse_if_kept(catalog, objects.backup_id))


def _is_untouched(catalog: Catalog, objects: BackupObjects) -> bool:
    """Tell whether every archive that was there is still there; False where that can't be known."""
    try:
        level = catalog.store.list_level(catalog.layout.backup_dir(objects.backup_id))
    except BarmanCloudError:
        return False
    return bool(objects.archives) and {item.key for item in level.objects}.issuperset(objects.data)


def _refuse_if_locked(catalog: Catalog, backup_id: str, keys: Sequence[str]) -> None:
    """Ask about every object before the first is deleted."""
    locks = [lock for lock in catalog.map(catalog.store.object_lock, keys) if lock]
    for lock in locks:
        log.info("%s is locked: %s", catalog.store.object_url(lock.key), lock.reason)
    if locks:
        raise LockedError(
            f"backup {backup_id} is not deleted: {len(locks)} of its {counted(len(keys), 'object')} "
            f"{'is' if len(locks) == 1 else 'are'} locked ({locks[0].key}: {locks[0].reason})",
            hint="nothing of this backup was deleted; repeat the command when the locks have ended",
        )
