"""Restoring a snapshot backup.

The user has made disks of the snapshots, attached and mounted them; here they are checked, and the label is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from barman_cloud import logs
from barman_cloud.catalog.backup_info import MAX_SIZE, BackupInfo, SnapshotsInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConfigurationError, SnapshotError
from barman_cloud.restore.durability import replace_file
from barman_cloud.restore.files import owner_of
from barman_cloud.snapshots.base import AttachedDisk, SnapshotOptions, SnapshotProvider, require_options
from barman_cloud.snapshots.mounts import Host, Mount
from barman_cloud.snapshots.open import open_recorded
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LABEL = "backup_label"


def restore_snapshot_backup(
    store: ObjectStore,
    layout: Layout,
    info: BackupInfo,
    target: Path,
    instance: str | None,
    options: SnapshotOptions,
    tablespaces: Sequence[str] | Mapping[str, str] = (),
    host: Host | None = None,
) -> None:
    """Check that disks of ``instance`` are clones of the snapshots, mounted as they were, and fetch the label.

    ``options`` is the command line's; what it leaves open comes from ``backup.info``. ``ConfigurationError`` for
    options that are missing or (``tablespaces``) impossible, ``SnapshotError`` for disks and mounts that aren't as they
    must be; then nothing is written.
    """
    snapshots = info.snapshots_info
    assert snapshots is not None
    _check_options(snapshots, instance, options, bool(tablespaces))
    assert instance is not None
    with open_recorded(snapshots, options) as provider:
        disks = find_clones(provider, snapshots, instance)
        check_mounts(provider, snapshots, disks, host or Host())
    if not target.is_dir():
        raise SnapshotError(
            f"recovery directory {target} is not a directory",
            hint="it is the data directory on the mounted disk, such as the one that was backed up",
        )
    write_label(target, store.get(layout.backup_label(info.backup_id), limit=MAX_SIZE))
    log.info("wrote %s; the data directory is ready for recovery", target / _LABEL)


def find_clones(provider: SnapshotProvider, snapshots: SnapshotsInfo, instance: str) -> dict[str, list[AttachedDisk]]:
    """Return for each snapshot the disks of ``instance`` that were made of it; ``SnapshotError`` if one has none."""
    clones: dict[str, list[AttachedDisk]] = {identifier: [] for identifier in snapshots.identifiers}
    for disk in provider.attached_disks(instance):
        source = provider.cloned_from(disk)
        if source in clones:
            clones[source].append(disk)
    missing = [identifier for identifier, disks in clones.items() if not disks]
    if missing:
        raise SnapshotError(
            f"no disk attached to instance {instance} was made of: {', '.join(missing)}",
            hint="create a disk of each snapshot, attach and mount it, then run the command again",
        )
    return clones


def check_mounts(
    provider: SnapshotProvider, snapshots: SnapshotsInfo, clones: Mapping[str, Sequence[AttachedDisk]], host: Host
) -> None:
    """Raise ``SnapshotError`` unless each clone is mounted where, and with the options with which, its original was."""
    wrong_places, wrong_options = [], []
    for identifier, snapshot in zip(snapshots.identifiers, snapshots.snapshots, strict=True):
        found = [_mount_of(provider, disk, host) for disk in clones[identifier]]
        mount = next((mount for mount in found if mount and mount.mount_point == snapshot.mount_point), None)
        if mount is None:
            actual = ", ".join(mount.mount_point if mount else "nowhere" for mount in found)
            wrong_places.append(f"{identifier} must be mounted on {snapshot.mount_point}, not {actual}")
        elif mount.options != snapshot.mount_options:
            wrong_options.append(
                f"{identifier} on {mount.mount_point} must be mounted {snapshot.mount_options}, not {mount.options}"
            )
    if wrong_places or wrong_options:
        raise SnapshotError(
            f"disks of the backup are not mounted as they were: {'; '.join(wrong_places + wrong_options)}",
            hint="mount them the same way, then run the command again",
        )


def write_label(directory: Path, label: bytes) -> None:
    """Write ``backup_label`` whole or not at all, for the directory's owner: PostgreSQL must be able to rename it."""
    replace_file(directory / _LABEL, label, 0o600, owner_of(directory))


def _mount_of(provider: SnapshotProvider, disk: AttachedDisk, host: Host) -> Mount | None:
    device = provider.local_device(disk, host)
    return host.find_mount(device) if device else None


def _check_options(snapshots: SnapshotsInfo, instance: str | None, options: SnapshotOptions, tablespaces: bool) -> None:
    if tablespaces:
        raise ConfigurationError(
            "--tablespace can't be used with a snapshot backup", hint="mount each disk where its original was mounted"
        )
    require_options(snapshot_recovery_instance=instance)
    if snapshots.provider == "gcp":
        require_options(gcp_zone=options.gcp_zone)
    elif snapshots.provider == "azure":
        require_options(azure_resource_group=options.azure_resource_group)
