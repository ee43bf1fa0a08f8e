"""Deleting backups and the WAL that only they needed, or telling what would be deleted.

The order of one run: each backup with its archives first and ``backup.info`` last, so that a run which fails half-way
can be repeated; then, for all of them, one pass over the WAL archive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from barman_cloud import logs
from barman_cloud.catalog import dry_run, keep, retention
from barman_cloud.catalog.backup_info import STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView, by_extraction
from barman_cloud.catalog.layout import DATA, ArchiveName
from barman_cloud.catalog.retention import Policy, Status
from barman_cloud.catalog.wal_cleanup import NoCleanup, WalCleanup, plan_wal_cleanup
from barman_cloud.catalog.wal_sweep import WalSweep
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConnectivityError,
    LockedError,
    OperationError,
    StoreError,
)
from barman_cloud.report.text import counted
from barman_cloud.store.base import DeleteFailedError

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeletionOptions:
    """How to delete. ``batch_size`` is in objects per request; None means as many as the store takes."""

    dry_run: bool = False
    batch_size: int | None = None
    check_object_lock: bool = False
    delete_snapshots: Callable[[BackupInfo], None] | None = None
    """Deletes the volume snapshots of a snapshot backup; raises if one of them is still there afterwards."""


@dataclass(frozen=True, slots=True)
class BackupObjects:
    """The objects of one backup, in the order in which they go; ``info`` is the last to go."""

    backup_id: str
    info: str
    label: str | None
    """The ``backup_label`` object; only of snapshot backups."""
    archives: tuple[str, ...]
    sidecars: tuple[str, ...]


def delete_by_id(
    catalog: Catalog,
    view: CatalogView,
    backup_id: str,
    minimum_redundancy: int,
    options: DeletionOptions,
    out: TextIO,
) -> None:
    """Delete one backup, of whatever status.

    ``OperationError`` (1) if it is kept, if an incremental backup builds on it, or if too few DONE ones would remain.
    An id that isn't there is a WARNING only: the backup is gone, as was asked.
    """
    info = view.backups.get(backup_id)
    if info is None:
        log.warning("backup %s of server %s doesn't exist: nothing is deleted", backup_id, catalog.layout.server)
        return
    _refuse_if_kept(catalog, backup_id)
    if children := retention.children_of(view.backups, backup_id):
        raise OperationError(
            f"backup {backup_id} is not deleted: incremental backups build on it: {', '.join(children)}",
            hint="delete these first",
        )
    retention.check_redundancy(view.backups, backup_id, minimum_redundancy)
    if info.status == STARTED:
        log.warning("backup %s is STARTED: it may still be running", backup_id)
    _delete(catalog, view, [backup_id], {}, options, out, by_policy=False)


def delete_by_policy(
    catalog: Catalog,
    view: CatalogView,
    policy: Policy,
    minimum_redundancy: int,
    now: datetime,
    options: DeletionOptions,
    out: TextIO,
) -> None:
    """Delete every backup that ``policy`` calls obsolete. The verdict on each backup goes to the log at INFO."""
    keeps = keep.read_all(catalog)
    verdicts = retention.judge(view.backups, keeps, policy, minimum_redundancy, now)
    for backup_id, verdict in verdicts.items():
        log.info("backup %s: %s, %s", backup_id, verdict.status, verdict.reason)
    obsolete = retention.deletion_order(verdicts, view.backups)
    log.info("%d of %d backups are obsolete", len(obsolete), len(verdicts))
    assert all(verdicts[backup_id].status is Status.OBSOLETE for backup_id in obsolete)
    _delete(catalog, view, obsolete, keeps, options, out, by_policy=True)


def find_objects(catalog: Catalog, info: BackupInfo) -> BackupObjects:
    """List a backup's folder and return what belongs to the backup; what doesn't is named at INFO and stays.

    Archives that should be there and aren't are a WARNING.
    """
    layout, backup_id = catalog.layout, info.backup_id
    expected = {DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or ())}
    ours = (layout.archives_json(backup_id), layout.manifest(backup_id), layout.configuration(backup_id))
    archives: list[ArchiveName] = []
    sidecars: list[str] = []
    for item in catalog.store.list_level(layout.backup_dir(backup_id)).objects:
        name = layout.parse_archive_key(item.key)
        if name is not None and name.base in expected:
            archives.append(name)
        elif item.key in ours:
            sidecars.append(item.key)
        elif item.key not in (layout.backup_info(backup_id), layout.backup_label(backup_id)):
            log.info("%s is no part of the backup and stays", item.key)
    if info.is_complete and not info.snapshots_info:
        for base in sorted(expected - {name.base for name in archives}):
            log.warning("backup %s has no archive '%s'", backup_id, base)
    return BackupObjects(
        backup_id,
        layout.backup_info(backup_id),
        layout.backup_label(backup_id) if info.snapshots_info else None,
        tuple(name.key for name in sorted(archives, key=by_extraction)),
        tuple(sidecars),
    )


def _delete(
    catalog: Catalog,
    view: CatalogView,
    backup_ids: Sequence[str],
    keeps: keep.Keeps,
    options: DeletionOptions,
    out: TextIO,
    *,
    by_policy: bool,
) -> None:
    deleted: list[BackupObjects] = []
    failure: BarmanCloudError | None = None
    for backup_id in backup_ids:
        try:
            if by_policy and not options.dry_run:
                _refuse_if_kept(catalog, backup_id)
            deleted.append(_delete_backup(catalog, view.backups[backup_id], options))
        except BarmanCloudError as error:
            failure = error
            break
    if failure and (not deleted or isinstance(failure, ConnectivityError)):
        raise failure
    plans = _plan(catalog, view, [objects.backup_id for objects in deleted], keeps, by_policy=by_policy)
    if options.dry_run:
        dry_run.report(catalog.store, catalog.layout, deleted, plans, out)
    else:
        _clean_wal(catalog, [plan for plan in plans if isinstance(plan, WalCleanup)], options)
    if failure:
        raise failure


def _refuse_if_kept(catalog: Catalog, backup_id: str) -> None:
    annotation = keep.read(catalog, backup_id)
    if annotation is not None:
        raise OperationError(
            f"backup {backup_id} is not deleted: it has a keep annotation ({keep.label(annotation) or 'empty'})",
            hint="barman-cloud-backup-keep --release removes it",
        )


def _delete_backup(catalog: Catalog, info: BackupInfo, options: DeletionOptions) -> BackupObjects:
    objects = find_objects(catalog, info)
    if options.check_object_lock:
        _refuse_if_locked(catalog, info.backup_id, objects.archives + objects.sidecars)
    if options.dry_run:
        return objects
    if objects.label:
        if options.delete_snapshots:
            options.delete_snapshots(info)
        _delete_objects(catalog, [objects.label], options)
    _delete_objects(catalog, objects.archives + objects.sidecars, options)
    _delete_objects(catalog, [objects.info], options)
    log.info("backup %s is deleted: %s", info.backup_id, counted(len(objects.archives), "archive"))
    return objects


def _delete_objects(catalog: Catalog, keys: Sequence[str], options: DeletionOptions) -> None:
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


def _refuse_if_locked(catalog: Catalog, backup_id: str, keys: Sequence[str]) -> None:
    """Ask about every object before the first is deleted."""
    locks = [lock for lock in catalog.map(catalog.store.object_lock, keys) if lock]
    for lock in locks:
        log.error("%s is locked: %s", catalog.store.object_url(lock.key), lock.reason)
    if locks:
        raise LockedError(
            f"backup {backup_id} is not deleted: {len(locks)} of its {len(keys)} objects are locked "
            f"({locks[0].key}: {locks[0].reason})",
            hint="nothing of this backup was deleted; repeat the command when the locks have ended",
        )


def _plan(
    catalog: Catalog, view: CatalogView, deleted: Sequence[str], keeps: keep.Keeps, *, by_policy: bool
) -> list[WalCleanup | NoCleanup]:
    by_folder = catalog.store.capabilities.prefix_delete
    backups = dict(view.backups)
    plans = []
    for backup_id in deleted:
        plan = plan_wal_cleanup(backups, keeps, backup_id, by_policy=by_policy, by_folder=by_folder)
        if isinstance(plan, NoCleanup):
            log.info("after backup %s no WAL goes: %s", backup_id, plan.reason)
        else:
            log.info("after backup %s: %s", backup_id, plan.describe())
        plans.append(plan)
        del backups[backup_id]
    return plans


def _clean_wal(catalog: Catalog, plans: Sequence[WalCleanup], options: DeletionOptions) -> None:
    """Delete the WAL that ``plans`` give up.

    A file that can't be deleted is an ERROR in the log and no failure of the command, as for Barman, unless it lies in
    a folder that goes as a whole: the next deletion tries again.
    """
    if not plans:
        return
    sweep = WalSweep(catalog.store, catalog.layout, plans)
    count = 0

    def keys() -> Iterator[str]:
        nonlocal count
        for taken in sweep:
            count += 1
            yield taken.key

    try:
        catalog.store.delete(keys(), batch_size=options.batch_size)
    except DeleteFailedError as error:
        for key, reason in error.failures.items():
            log.error("%s is left behind: %s", catalog.store.object_url(key), reason)  # noqa: TRY400
        if any(map(sweep.goes_as_a_whole, error.failures)):
            raise StoreError(f"of {count} WAL objects {len(error.failures)} could not be deleted") from error
    except BarmanCloudError as error:
        if catalog.store.capabilities.prefix_delete:
            raise
        log.error("the WAL archive is not cleaned: %s", error)  # noqa: TRY400
    else:
        log.info("%d WAL objects are deleted", count)
