"""Deleting the snapshots of a backup."""

from __future__ import annotations

from dataclasses import replace

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo, SnapshotsInfo
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.errors import LockedError, SnapshotError
from barman_cloud.snapshots.base import SnapshotOptions, SnapshotProvider, belongs_to
from barman_cloud.snapshots.open import open_recorded

log = logs.get_logger(__name__)


def with_snapshots(how: DeletionOptions, options: SnapshotOptions) -> DeletionOptions:
    """Return how to delete backups together with their snapshots, unless ``how`` says so already."""

    def check(info: BackupInfo) -> None:
        if info.snapshots_info:
            check_snapshots(info.snapshots_info, info.backup_id, options)

    def delete(info: BackupInfo) -> None:
        if info.snapshots_info:
            delete_snapshots(info.snapshots_info, info.backup_id, options)

    def discard(record: bytes, backup_id: str) -> None:
        from barman_cloud.snapshots.begun import discard_begun

        discard_begun(record, backup_id, options)

    return replace(
        how,
        check_snapshots=how.check_snapshots or check,
        delete_snapshots=how.delete_snapshots or delete,
        discard_begun=how.discard_begun or discard,
    )


def delete_snapshots(info: SnapshotsInfo, backup_id: str, options: SnapshotOptions) -> None:
    """Delete the snapshots that ``backup.info`` names, after the provider confirmed that they are this backup's.

    ``options`` carries credentials (profile, kind of credential); everything else is in ``info``. All snapshots are
    looked at before the first is deleted: ``LockedError`` if one is locked, ``SnapshotError`` if one isn't this
    backup's, and then nothing is deleted. A snapshot that doesn't exist any more is fine.
    """
    with open_recorded(info, options) as provider:
        for identifier in deletable_snapshots(provider, info, backup_id):
            provider.delete(identifier)
            log.info("deleted snapshot %s of backup %s", identifier, backup_id)


def check_snapshots(info: SnapshotsInfo, backup_id: str, options: SnapshotOptions) -> None:
    """Raise what :func:`delete_snapshots` would raise before it deletes anything."""
    with open_recorded(info, options) as provider:
        deletable_snapshots(provider, info, backup_id)


def deletable_snapshots(provider: SnapshotProvider, info: SnapshotsInfo, backup_id: str) -> list[str]:
    """Return which of the snapshots exist; raises as :func:`delete_snapshots` does if one must not be deleted."""
    found = []
    for identifier in info.identifiers:
        snapshot = provider.inspect(identifier)
        if snapshot is None:
            log.warning("snapshot %s of backup %s doesn't exist any more", identifier, backup_id)
            continue
        if not belongs_to(snapshot.name, backup_id):
            # A damaged or forged backup.info must not make us delete somebody else's data.
            raise SnapshotError(
                f"snapshot {identifier} is named {snapshot.name or 'nothing'}, so it isn't one of backup {backup_id}",
                hint=f"the name of this backup's snapshots ends in -{backup_id.lower()}; nothing was deleted",
            )
        if snapshot.locked:
            raise LockedError(
                f"snapshot {identifier} of backup {backup_id} can't be deleted: {snapshot.locked}",
                hint="wait until the lock expires, or unlock it; nothing was deleted",
            )
        found.append(identifier)
    return found
