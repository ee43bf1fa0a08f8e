"""The objects that a backup consists of, in the order in which they are deleted."""

from __future__ import annotations

from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog.backup_info import STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog, by_extraction
from barman_cloud.catalog.layout import DATA, ArchiveName, Layout

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BackupObjects:
    """The objects of one backup; ``info`` is the last to go."""

    backup_id: str
    info: str
    label: str | None
    """The ``backup_label`` object; only of snapshot backups."""
    archives: tuple[str, ...]
    sidecars: tuple[str, ...]
    begun: str | None = None
    """The record of snapshots that may exist although ``info`` doesn't name them."""
    beside: str | None = None
    """What a deletion puts beside a backup that is being made (``catalog.deletion_mark``); the very last to go."""
    size: int = 0
    """Bytes of all of them."""

    @property
    def data(self) -> tuple[str, ...]:
        """What goes before ``info``, label excepted."""
        return self.archives + self.sidecars


def _sidecar_keys(layout: Layout, backup_id: str) -> tuple[str, ...]:
    return (
        layout.archives_json(backup_id),
        layout.manifest(backup_id),
        layout.configuration(backup_id),
        layout.heartbeat(backup_id),
    )


def is_of_backup(layout: Layout, backup_id: str, key: str) -> bool:
    """Tell whether an object in the folder of a backup is what this program or Barman put there."""
    others = (
        layout.backup_info(backup_id),
        layout.backup_label(backup_id),
        layout.being_deleted(backup_id),
        layout.snapshots_begun(backup_id),
    )
    return key in others or key in _sidecar_keys(layout, backup_id) or layout.parse_archive_key(key) is not None


def find_objects(catalog: Catalog, info: BackupInfo) -> BackupObjects:
    """List a backup's folder and return what belongs to the backup; what doesn't is named at INFO and stays.

    Archives that should be there and aren't are a WARNING.
    """
    layout, backup_id = catalog.layout, info.backup_id
    expected = {DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or ())}
    sidecar_keys = _sidecar_keys(layout, backup_id)
    others = (layout.backup_info(backup_id), layout.backup_label(backup_id))
    archives: list[ArchiveName] = []
    sidecars: list[str] = []
    begun: str | None = None
    beside = layout.being_deleted(backup_id) if info.status == STARTED else None
    size = 0
    for item in catalog.store.list_level(layout.backup_dir(backup_id)).objects:
        name = layout.parse_archive_key(item.key)
        if name is not None and name.base in expected:
            archives.append(name)
        elif item.key in sidecar_keys:
            sidecars.append(item.key)
        elif item.key == layout.being_deleted(backup_id):
            beside = item.key
        elif item.key == layout.snapshots_begun(backup_id):
            begun = item.key
        elif item.key not in others:
            log.info("%s is no part of the backup and stays", item.key)
            continue
        size += item.size
    if info.is_complete and not info.snapshots_info:
        for base in sorted(expected - {name.base for name in archives}):
            log.warning("backup %s has no archive '%s'", backup_id, base)
    return BackupObjects(
        backup_id,
        layout.backup_info(backup_id),
        layout.backup_label(backup_id) if info.snapshots_info else None,
        tuple(name.key for name in sorted(archives, key=by_extraction)),
        tuple(sidecars),
        begun,
        beside,
        size,
    )
