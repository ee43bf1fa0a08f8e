"""Whether the disks that were made of snapshots are attached and mounted as they were; with a real provider in
``tests/integration/snapshots``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import Snapshot, SnapshotsInfo
from barman_cloud.errors import SnapshotError
from barman_cloud.restore.snapshot import check_mounts, find_clones
from barman_cloud.snapshots.mounts import Mount

SNAPSHOTS = SnapshotsInfo(
    "gcp", {"project": "p"},
    tuple(Snapshot(f"/data{n}", "rw,noatime", {"snapshot_name": f"snap{n}"}) for n in (1, 2)),
)  # fmt: skip
PROVIDER: Any = SimpleNamespace(
    attached_disks=lambda _instance: ["boot", "disk1", "disk2"],
    cloned_from=lambda disk: {"disk1": "snap1", "disk2": "snap2"}.get(disk),
    local_device=lambda disk, _host: f"/dev/{disk}",
)


def host(**mounts: Mount | None) -> Any:
    return SimpleNamespace(find_mount=lambda device: mounts.get(device.rpartition("/")[2]))


def test_every_snapshot_needs_a_disk() -> None:
    assert find_clones(PROVIDER, SNAPSHOTS, "vm") == {"snap1": ["disk1"], "snap2": ["disk2"]}
    without: Any = SimpleNamespace(**{**vars(PROVIDER), "attached_disks": lambda _instance: ["disk2"]})
    with pytest.raises(SnapshotError, match="no disk attached to instance vm was made of: snap1"):
        find_clones(without, SNAPSHOTS, "vm")


@pytest.mark.parametrize(
    ("mount", "problem"),
    [
        (Mount("/dev/disk1", "/data1", "rw,noatime"), None),
        (Mount("/dev/disk1", "/data1", "ro,noatime"), "must be mounted rw,noatime, not ro,noatime"),
        (Mount("/dev/disk1", "/elsewhere", "rw,noatime"), "must be mounted on /data1, not /elsewhere"),
        (None, "must be mounted on /data1, not nowhere"),
    ],
)
def test_each_is_mounted_as_its_original_was(mount: Mount | None, problem: str | None) -> None:
    clones: Any = {"snap1": ["disk1"], "snap2": ["disk2"]}
    here = host(disk1=mount, disk2=Mount("/dev/disk2", "/data2", "rw,noatime"))
    if problem is None:
        check_mounts(PROVIDER, SNAPSHOTS, clones, here)
        return
    with pytest.raises(SnapshotError, match=problem):
        check_mounts(PROVIDER, SNAPSHOTS, clones, here)
