"""Deleting backups and the WAL that only they needed, or telling what would be deleted.

The order of one run: each backup is marked and loses its archives (``catalog.removal``); then, for all of them, one
pass over the WAL archive; then ``backup.info`` of each goes. So a run that is killed, or loses its store, leaves no
half backup that counts as a good one, and the same command finishes the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice

from barman_cloud import logs
from barman_cloud.catalog import dry_run, keep, retention
from barman_cloud.catalog.backup_info import ANNOUNCED, BEGUN, STARTED, BackupInfo
from barman_cloud.catalog.backup_objects import BackupObjects
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.deletion_mark import DeletionMark, original_of
from barman_cloud.catalog.dry_run import Writer
from barman_cloud.catalog.lineage import descendants, disown
from barman_cloud.catalog.removal import DeletionOptions, refuse_if_kept, remove_data, remove_infos
from barman_cloud.catalog.retention import Policy, Status
from barman_cloud.catalog.wal_cleanup import NoCleanup, WalCleanup, plan_wal_cleanup
from barman_cloud.catalog.wal_sweep import Taken, WalSweep
from barman_cloud.errors import BarmanCloudError, ConnectivityError, OperationError, StoreError
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.store.base import DeleteFailedError

log = logs.get_logger(__name__)

_HOOK_BATCH = 1000


def delete_by_id(
    catalog: Catalog,
    view: CatalogView,
    backup_id: str,
    minimum_redundancy: int,
    options: DeletionOptions,
    out: Writer,
    *,
    with_children: bool = False,
) -> None:
    """Delete one backup, of whatever status, and ``with_children`` all that build on it, these first.

    ``OperationError`` (1) if one of them is kept, if incremental backups build on it (unless ``with_children``), or if
    too few DONE ones would remain.
    An id that isn't there is a WARNING only: the backup is gone, as was asked.
    """
    info = view.backups.get(backup_id)
    if info is None:
        log.warning("backup %s of server %s doesn't exist: nothing is deleted", backup_id, catalog.layout.server)
        return
    above = descendants(view.backups, backup_id)
    doomed = [*above, backup_id]
    for member in doomed:
        found = _settled(catalog, view, view.backups[member], keep.read(catalog, member), options)
        if found.deletion != BEGUN:
            refuse_if_kept(catalog, member)
    if above and not with_children:
        raise OperationError(
            f"backup {backup_id} is not deleted: incremental backups build on it: {', '.join(sorted(above))}",
            hint="delete these first, or all together by --with-children",
        )
    info = view.backups[backup_id]
    retention.check_redundancy(view.backups, backup_id, minimum_redundancy)
    if info.deletion:
        log.info("backup %s: going on with a deletion that wasn't finished", backup_id)
    if info.status == STARTED:
        log.warning("backup %s is STARTED: it may still be running", backup_id)
    _delete(catalog, view, doomed, {}, options, out, by_policy=False)


def delete_by_policy(
    catalog: Catalog,
    view: CatalogView,
    policy: Policy,
    minimum_redundancy: int,
    now: datetime,
    options: DeletionOptions,
    out: Writer,
) -> None:
    """Delete every backup that ``policy`` calls obsolete. The verdict on each backup goes to the log at INFO."""
    keeps = keep.read_all(catalog)
    for info in list(view.backups.values()):
        _settled(catalog, view, info, keeps.get(info.backup_id), options)
    verdicts = retention.judge(view.backups, keeps, policy, minimum_redundancy, now)
    for backup_id, verdict in verdicts.items():
        log.info("backup %s: %s, %s", backup_id, verdict.status, verdict.reason)
    obsolete = retention.deletion_order(verdicts, view.backups)
    log.info("%d of %s obsolete", len(obsolete), counted(len(verdicts), "backup"))
    assert all(verdicts[backup_id].status is Status.OBSOLETE for backup_id in obsolete)
    _delete(catalog, view, obsolete, keeps, options, out, by_policy=True)


def _settled(
    catalog: Catalog, view: CatalogView, info: BackupInfo, annotation: str | None, options: DeletionOptions
) -> BackupInfo:
    """Return what a killed deletion left of ``backup.info``, put right in the store and in ``view`` if it is kept.

    A deletion that was only announced gives way to an annotation. One that has begun doesn't: the annotation came after
    it, and ``backup-keep`` said so.
    """
    if info.deletion != ANNOUNCED or annotation is None:
        return info
    original = original_of(catalog.read_info(info.backup_id))
    if original is None:
        return info
    if not options.dry_run:
        mark = DeletionMark(catalog, info.backup_id)
        mark.announce()
        mark.take_back()
    view.backups[info.backup_id] = catalog.parse_info(info.backup_id, original)
    return view.backups[info.backup_id]


def _delete(
    catalog: Catalog,
    view: CatalogView,
    backup_ids: Sequence[str],
    keeps: keep.Keeps,
    options: DeletionOptions,
    out: Writer,
    *,
    by_policy: bool,
) -> None:
    deleted: list[BackupObjects] = []
    failure: BarmanCloudError | None = None
    for backup_id in backup_ids:
        try:
            info = view.backups[backup_id]
            if (by_policy or len(backup_ids) > 1) and not options.dry_run and info.deletion != BEGUN:
                refuse_if_kept(catalog, backup_id)
            deleted.append(_remove(catalog, info, options))
        except BarmanCloudError as error:
            failure = error
            break
    if failure and (not deleted or isinstance(failure, ConnectivityError)):
        raise failure
    plans = _plan(catalog, view, [objects.backup_id for objects in deleted], keeps, by_policy=by_policy)
    if options.dry_run:
        dry_run.report(catalog.store, catalog.layout, deleted, plans, out)
    else:
        try:
            _clean_wal(catalog, [plan for plan in plans if isinstance(plan, WalCleanup)], options)
        except ConnectivityError:
            raise
        except BarmanCloudError as error:
            failure = failure or error
        remove_infos(catalog, deleted, options)
        progress.current().notes["backups"] = [objects.backup_id for objects in deleted]
        progress.current().notes["archives"] = sum(len(objects.archives) for objects in deleted)
        _tell_parents(catalog, view, [objects.backup_id for objects in deleted])
        for objects in deleted if options.hooks else ():
            assert options.hooks is not None
            options.hooks.after_backup(objects.backup_id, None)
    if failure:
        raise failure


def _remove(catalog: Catalog, info: BackupInfo, options: DeletionOptions) -> BackupObjects:
    """Delete a backup's data, with what is to be called before that, and after it if it fails."""
    if options.hooks is None or options.dry_run:
        return remove_data(catalog, info, options)
    options.hooks.before_backup(info)
    try:
        return remove_data(catalog, info, options)
    except BaseException as error:
        options.hooks.after_backup(info.backup_id, error)
        raise


def _tell_parents(catalog: Catalog, view: CatalogView, deleted: Sequence[str]) -> None:
    for backup_id in deleted:
        parent = view.backups[backup_id].parent_backup_id
        if parent and parent not in deleted:
            disown(catalog, parent, backup_id)


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

    A file that can't be deleted is an ERROR in the log and no failure of the command, as for Barman, unless it is in
    a folder that goes as a whole: the next deletion tries again.
    """
    if not plans:
        return
    sweep = WalSweep(catalog.store, catalog.layout, plans)
    count = 0
    work = progress.current()
    work.phase("deleting WAL", measure=progress.STORED)

    def going() -> Iterator[Taken]:
        nonlocal count
        for taken in sweep:
            count += 1
            work.add(stored=taken.size, items=1)
            yield taken

    try:
        _delete_wal(catalog, going(), options)
    except DeleteFailedError as error:
        work.notes["wal_files"] = count - len(error.failures)
        for key, reason in error.failures.items():
            log.error("%s is left behind: %s", catalog.store.object_url(key), reason)  # noqa: TRY400
        if any(map(sweep.goes_as_a_whole, error.failures)):
            raise StoreError(f"{len(error.failures)} of {counted(count, 'WAL object')} could not be deleted") from error
    except ConnectivityError:
        raise
    except BarmanCloudError as error:
        if catalog.store.capabilities.prefix_delete:
            raise
        log.error("the WAL archive is not cleaned: %s", error)  # noqa: TRY400
    else:
        work.notes["wal_files"] = count
        log.info("deleted %s", counted(count, "WAL object"))


def _delete_wal(catalog: Catalog, going: Iterator[Taken], options: DeletionOptions) -> None:
    """Delete WAL objects, batch by batch if something is to be called around that."""
    hooks = options.hooks
    if hooks is None:
        catalog.store.delete((taken.key for taken in going), batch_size=options.batch_size)
        return
    while batch := list(islice(going, _HOOK_BATCH)):
        allowed = hooks.before_wal(batch)
        try:
            catalog.store.delete([taken.key for taken in allowed], batch_size=options.batch_size)
        except BaseException as error:
            hooks.after_wal(allowed, error)
            raise
        hooks.after_wal(allowed, None)
