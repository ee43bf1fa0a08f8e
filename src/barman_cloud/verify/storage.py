"""What the store keeps that nobody asked for, and what it won't let go: unfinished uploads, and object locks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from barman_cloud import logs
from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import EMPTY, STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.heartbeat import Sign, read_sign
from barman_cloud.catalog.layout import DATA
from barman_cloud.catalog.leftovers import Age
from barman_cloud.catalog.retention import Policy, RecoveryWindow, Status, judge
from barman_cloud.errors import AccessDeniedError, ConfigurationError, NotFoundError, StoreError
from barman_cloud.report.text import counted
from barman_cloud.store.base import ObjectLock
from barman_cloud.verify.findings import Finding, ok, warning

log = logs.get_logger(__name__)

_NAMED = 5


def signs_of_life(catalog: Catalog, view: CatalogView) -> dict[str, Sign]:
    """Return the last sign of life of each backup that is STARTED, as far as it gives any."""
    running = [info.backup_id for info in view.backups.values() if info.status == STARTED]
    signs = catalog.map(lambda backup_id: read_sign(catalog.store, catalog.layout, backup_id), running)
    return {backup_id: sign for backup_id, sign in zip(running, signs, strict=True) if sign is not None}


def upload_findings(catalog: Catalog, view: CatalogView, now: datetime) -> Iterator[Finding]:
    """Tell of uploads that nobody will finish: their parts cost money and are in no listing of objects."""
    running = {info.backup_id for info in view.backups.values() if info.status in (STARTED, EMPTY)}
    old: list[str] = []
    try:
        for upload in catalog.store.list_uploads(catalog.layout.root):
            if catalog.layout.backup_id_of(upload.key) in running or upload.began is None:
                continue
            if now - upload.began > Age().uploads:
                old.append(catalog.store.object_url(upload.key))
    except (StoreError, AccessDeniedError) as error:
        yield ok("unfinished-uploads", f"unfinished uploads can't be listed here: {error}")
        return
    if old:
        named = ", ".join(old[:_NAMED]) + (f" and {len(old) - _NAMED} more" if len(old) > _NAMED else "")
        yield warning(
            "unfinished-uploads",
            f"{counted(len(old), 'upload')} begun more than a day ago and never finished: {named}",
            "remove what is stored of them: barman-cloud cleanup; and give the bucket a lifecycle rule for them",
            *old[:_NAMED],
        )
    else:
        yield ok("unfinished-uploads", "no unfinished upload is older than a day")


def lock_findings(
    catalog: Catalog, view: CatalogView, policy: Policy, minimum_redundancy: int, now: datetime
) -> Iterator[Finding]:
    """Compare object locks with what a retention policy wants: to delete, and to have."""
    if not catalog.store.capabilities.object_lock:
        return
    keeps = keep.read_all(catalog)
    verdicts = judge(view.backups, keeps, policy, minimum_redundancy, now)
    obsolete = [backup_id for backup_id, verdict in verdicts.items() if verdict.status is Status.OBSOLETE]
    done = [info for info in view.backups.values() if info.is_complete]
    try:
        locks = dict(zip(obsolete, catalog.map(lambda backup_id: _lock(catalog, backup_id), obsolete), strict=True))
        newest = _lock(catalog, done[-1].backup_id) if done else None
    except (StoreError, AccessDeniedError, ConfigurationError) as error:
        yield ok("object-locks", f"object locks can't be looked at here: {error}")
        return
    locked = {backup_id: lock for backup_id, lock in locks.items() if lock is not None}
    if locked:
        first, lock = next(iter(locked.items()))
        yield warning(
            "object-locks",
            f"the policy calls {counted(len(locked), 'backup')} obsolete that can't be deleted yet: {first} is "
            f"{lock.reason}",
            "shorten the bucket's retention, or the policy won't save what it is meant to save",
            *locked,
        )
    problem = _ends_too_early(done, newest, policy)
    if problem:
        yield warning(
            "object-locks",
            problem,
            "lengthen the bucket's retention if backups are to be safe as long as they are needed",
        )
    if not locked and not problem:
        yield ok("object-locks", "object locks and the retention policy agree" if newest else "nothing is locked")


def _ends_too_early(done: Sequence[BackupInfo], lock: ObjectLock | None, policy: Policy) -> str | None:
    """Return what is wrong if the newest backup may be deleted before the policy stops to need it."""
    if lock is None or lock.until is None or not isinstance(policy, RecoveryWindow):
        return None
    newest = done[-1]
    if newest.end_time is None:
        return None
    needed = newest.end_time + timedelta(days=policy.days)
    if lock.until >= needed:
        return None
    return (
        f"the policy needs backup {newest.backup_id} until {needed:%Y-%m-%d %H:%M} at least, and its lock ends on "
        f"{lock.until:%Y-%m-%d %H:%M}"
    )


def _lock(catalog: Catalog, backup_id: str) -> ObjectLock | None:
    """Return the lock of an archive of a backup; None if it isn't locked, or has none."""
    archives = catalog.archives(backup_id)
    parts = archives.get(DATA) or next(iter(archives.values()), [])
    try:
        return catalog.store.object_lock(parts[0].key) if parts else None
    except NotFoundError:
        return None
