"""What ``check`` says of a snapshot server: whether a snapshot backup would find machine, disks and mounts."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from barman_cloud.config.server import Server
from barman_cloud.errors import BarmanCloudError
from barman_cloud.snapshots.base import SnapshotOptions, find_mounts, select_disks
from barman_cloud.snapshots.mounts import Host
from barman_cloud.snapshots.open import kind_of_store, open_provider
from barman_cloud.snapshots.remote import look_at
from barman_cloud.store.url import provider_of
from barman_cloud.verify.findings import Finding, critical, ok

_OLDER_NAMES = {"gcp_project": "snapshot_gcp_project", "gcp_zone": "snapshot_zone"}


def snapshot_options(server: Server) -> SnapshotOptions:
    """Return the options of snapshots that the server's section gives."""
    given: dict[str, Any] = {}
    for name in SnapshotOptions.names():
        if name != "tags":
            older = _OLDER_NAMES.get(name)
            given[name] = server[name] or (server[older] if older else None)
    return SnapshotOptions(**given, tags=server["tags"] or {})


def snapshot_finding(server: Server) -> Finding:
    """Ask the cloud about the machine and its disks, and the machine about its mounts."""
    instance, names = server["snapshot_instance"], server["snapshot_disks"]
    if not instance or not names:
        return critical(
            "snapshots", "backup_method is snapshot without snapshot_instance and snapshot_disks", "set both keys"
        )
    try:
        kind = server["snapshot_provider"] or kind_of_store(provider_of(server.base_url).name)
        with (
            TemporaryDirectory(prefix="barman-cloud-mounts-") as directory,
            open_provider(kind, snapshot_options(server)) as provider,
        ):
            disks = select_disks(provider.attached_disks(instance), instance, names)
            host = look_at(server["ssh_command"], Path(directory)) if server["ssh_command"] else Host()
            mounts = find_mounts(provider, disks, instance, host)
    except BarmanCloudError as error:
        return critical("snapshots", str(error), error.hint or "a snapshot backup would fail for the same reason")
    places = ", ".join(sorted(mount.mount_point for mount in mounts.values()))
    return ok("snapshots", f"the disks of {instance} are attached, and mounted on {places}", instance)
