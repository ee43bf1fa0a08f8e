"""A base backup as snapshots of the cluster's disks; only its metadata and label go to the object store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from barman_cloud import logs
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lifecycle import BackupRequest, Run, take_backup
from barman_cloud.backup.record import reason_of
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError, ConfigurationError, OperationError
from barman_cloud.postgres.backup_mode import BackupMode, BackupStart, BackupStop, check_privileges
from barman_cloud.postgres.connection import Connection, ServerMetadata
from barman_cloud.snapshots.base import AttachedDisk, SnapshotOptions, SnapshotProvider, find_mounts, select_disks
from barman_cloud.snapshots.begun import Begun
from barman_cloud.snapshots.mounts import Host, Mount
from barman_cloud.snapshots.open import kind_of_store, open_provider
from barman_cloud.snapshots.taking import SnapshotSet
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_ANY_ID = "20000101T000000"
"""As long as every other backup id."""


def run_snapshot_backup(
    store: ObjectStore,
    layout: Layout,
    request: BackupRequest,
    instance: str | None,
    disks: Sequence[str],
    options: SnapshotOptions,
    host: Host | None = None,
    kind: str | None = None,
) -> BackupInfo:
    """Take a backup by snapshots of ``disks``, which are attached to ``instance`` and mounted on ``host`` (this one).

    ``kind`` tells whose disks they are (``aws``, ``azure``, ``gcp``), or else the store. What is wrong with options,
    instance, disks or mounts is raised before anything is made (``ConfigurationError``, ``SnapshotError``); a later
    failure removes the snapshots, marks the backup FAILED and raises ``OperationError``.
    """
    if not instance or not disks:
        raise ConfigurationError("a snapshot backup needs --snapshot-instance and at least one --snapshot-disk")
    with open_provider(kind or kind_of_store(store.url.provider), options) as provider:
        method = SnapshotMethod(provider, layout.server, instance, disks, host or Host())
        try:
            info = take_backup(store, layout, request, method)
        except BaseException:
            method.settle(Catalog(store, layout))
            raise
        method.forget_begun()
        return info


class SnapshotMethod:
    """The copy method (``lifecycle.CopyMethod``) of disk snapshots."""

    mode: str | None = None
    failure = "uploading data"

    def __init__(
        self, provider: SnapshotProvider, server_name: str, instance: str, disks: Sequence[str], host: Host
    ) -> None:
        self.server_name = server_name
        self._provider = provider
        self._instance = instance
        self._names = disks
        self._host = host
        self._mounts: dict[str, Mount] = {}
        self._snapshots: SnapshotSet | None = None
        self._backup_id = _ANY_ID
        self._record: tuple[ObjectStore, str] | None = None
        self._began = 0.0

    def check(self, connection: Connection) -> None:
        """Check that the machine has the disks, that they are mounted here, and that the snapshots can be named."""
        disks = self._attached()
        self._provider.check(disks, _ANY_ID)
        self._mounts = find_mounts(self._provider, disks, self._instance, self._host)

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        check_privileges(connection, in_recovery=metadata.in_recovery)

    def begin(self, connection: Connection, run: Run) -> BackupMode:
        return BackupMode(connection, run.fail, keepalive_interval=run.request.keepalive_interval)

    def prepare(self, metadata: ServerMetadata) -> None:
        self._began = time.monotonic()
        places = [metadata.data_directory, *(location for _, _, location in metadata.tablespaces)]
        if metadata.data_directory:
            places.append(f"{metadata.data_directory}/pg_wal")
        for place in filter(None, places) if not self._host.remote else ():
            if not _is_on(place, self._mounts.values()):
                log.warning("%s is on none of the disks: the backup will lack it", place)

    def copy(self, run: Run) -> None:
        # Backup mode may have taken long to start: nothing of what was checked need be true any more.
        disks = self._attached()
        self._mounts = find_mounts(self._provider, disks, self._instance, self._host)
        self._backup_id = run.info.backup_id
        begun = Begun.of(self._provider, disks, self._backup_id).to_json()
        # Before the first request: if we are killed, whoever deletes the backup has to know of its snapshots.
        key = run.layout.snapshots_begun(self._backup_id)
        call_interruptibly(lambda: run.store.put(key, begun, tags=run.tags))
        self._record = (run.store, key)
        self._snapshots = SnapshotSet(self._provider, run.wait)
        self._snapshots.take(disks, run.info.backup_id)

    def finish(self, run: Run, start: BackupStart, stop: BackupStop) -> dict[str, Any]:
        assert self._snapshots is not None
        key = run.layout.backup_label(run.info.backup_id)
        call_interruptibly(lambda: run.store.put(key, stop.label.encode(), tags=run.tags))
        # Last of all: a locked snapshot couldn't be removed if anything else failed.
        self._snapshots.lock()
        run.info.snapshots_info = self._snapshots.info(self._mounts)
        took = round(time.monotonic() - self._began, 6)
        return {"copy_time": took, "total_time": took}

    def check_stored(self, run: Run, sizes: Mapping[str, int]) -> None:
        key = run.layout.backup_label(run.info.backup_id)
        if key not in sizes:
            raise OperationError(
                f"{run.store.object_url(key)} has vanished", hint="was the backup deleted while it was made?"
            )

    def abort(self) -> None:
        """Remove the snapshots that were made."""
        if self._snapshots and self._snapshots.discard():
            self.forget_begun()
        self._snapshots = None

    def forget_begun(self) -> None:
        """Delete the record of begun snapshots: ``backup.info`` names them, or there are none."""
        if self._record is None:
            return
        store, key = self._record
        try:
            store.delete([key])
        except BarmanCloudError as error:
            log.info("%s stays, which does no harm: %s", store.object_url(key), error)

    def settle(self, catalog: Catalog) -> None:
        """Decide about snapshots that nobody removed: the backup was complete, but storing its last state failed.

        The request that failed may have arrived, and then the backup is good: only the catalog can tell.
        """
        if not self._snapshots:
            return
        try:
            done = catalog.load_one(self._backup_id).status == backup_info.DONE
        except BarmanCloudError as error:
            log.error(  # noqa: TRY400 - one line; the trace is of no use here
                "can't tell whether backup %s is DONE, so its snapshots stay: %s (%s)",
                self._backup_id,
                ", ".join(self._snapshots.identifiers),
                reason_of(error),
            )
            return
        if done:
            log.warning("backup %s is DONE all the same: its backup.info did arrive", self._backup_id)
        else:
            self.abort()

    def _attached(self) -> list[AttachedDisk]:
        return select_disks(self._provider.attached_disks(self._instance), self._instance, self._names)


def _is_on(place: str, mounts: Iterable[Mount]) -> bool:
    """Tell whether a directory is on one of the mounted file systems; True if this machine doesn't have it."""
    try:
        device = Path(place).stat().st_dev
        return any(device == Path(mount.mount_point).stat().st_dev for mount in mounts)
    except OSError:
        return True
