"""Finding devices and mounts, on trees of ``/sys``, ``/dev`` and ``/proc`` as the providers' machines have them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from barman_cloud.errors import SnapshotError
from barman_cloud.snapshots.mounts import Host, Mount
from barman_cloud.snapshots.remote import look_at
from tests.support.machine import fake_ssh

Tree = Mapping[str, str]
"""Path -> content; a content that begins with ``->`` is a symbolic link."""

MOUNTINFO = """\
21 1 259:1 / / rw,relatime shared:1 - xfs /dev/nvme0n1p1 rw
36 21 259:3 / /srv/pg/data rw,noatime shared:2 - ext4 /dev/nvme1n1 rw,data=ordered
37 21 259:3 /base /srv/bind rw,noatime shared:3 - ext4 /dev/nvme1n1 rw,data=ordered
38 21 202:80 / /srv/my\\040tablespace rw,relatime shared:4 - xfs /dev/xvdg rw,attr2
39 21 8:33 / /srv/part rw,relatime shared:5 - ext4 /dev/sdc1 rw
40 21 8:50 / /srv/one rw,relatime shared:6 - ext4 /dev/sdd1 rw
41 21 8:51 / /srv/two rw,relatime shared:7 - ext4 /dev/sdd2 rw
"""


@pytest.fixture(autouse=True, params=["here", "over ssh"])
def _machine(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Look at each tree as this machine's, and as that of another one."""
    if request.param == "here":
        return
    original = plant

    def planted(root: Path, tree: Tree) -> Host:
        original(root, {"proc/self/mountinfo": MOUNTINFO, **tree})
        return look_at(fake_ssh(root), tmp_path_factory.mktemp("seen"))

    monkeypatch.setitem(globals(), "plant", planted)


def plant(root: Path, tree: Tree) -> Host:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content[2:].strip())
        else:
            path.write_text(content)
    return Host(root)


NITRO = {
    "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/serial": "vol0aaaaaaaaaaaaaaaa",
    "sys/devices/pci0000:00/0000:00:1f.0/nvme/nvme1/serial": "vol0123456789abcdef0 \n",
    "sys/devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1/device": "-> ../../nvme0",
    "sys/devices/pci0000:00/0000:00:1f.0/nvme/nvme1/nvme1n1/device": "-> ../../nvme1",
    "sys/block/nvme0n1": "-> ../devices/pci0000:00/0000:00:04.0/nvme/nvme0/nvme0n1",
    "sys/block/nvme1n1": "-> ../devices/pci0000:00/0000:00:1f.0/nvme/nvme1/nvme1n1",
}


class TestEc2:
    def test_nitro_volumes_are_found_by_serial_number(self, tmp_path: Path) -> None:
        host = plant(tmp_path, NITRO)
        assert host.by_nvme_serial("vol0123456789abcdef0") == "/dev/nvme1n1"
        assert host.by_nvme_serial("vol0aaaaaaaaaaaaaaaa") == "/dev/nvme0n1"
        assert host.by_nvme_serial("vol0123456789abcdef") is None

    def test_multipath_nvme_has_its_serial_number_at_the_subsystem(self, tmp_path: Path) -> None:
        virtual = "sys/devices/virtual/nvme-subsystem/nvme-subsys1"
        host = plant(
            tmp_path,
            {
                f"{virtual}/serial": "vol0123456789abcdef0\n",
                f"{virtual}/nvme1n1/device": "-> ../../nvme-subsys1",
                "sys/block/nvme1n1": "-> ../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1",
            },
        )
        assert host.by_nvme_serial("vol0123456789abcdef0") == "/dev/nvme1n1"

    @pytest.mark.parametrize("kernel_name", ["sdf", "xvdf", "hdf"])
    def test_the_kernel_may_use_another_prefix(self, tmp_path: Path, kernel_name: str) -> None:
        host = plant(tmp_path, {f"sys/block/{kernel_name}/size": "1"})
        assert host.by_name("/dev/sdf") == f"/dev/{kernel_name}"
        assert host.by_name("/dev/sdg") is None

    def test_other_names_are_taken_as_they_are(self, tmp_path: Path) -> None:
        host = plant(tmp_path, {"sys/block/xvdbb/size": "1", "sys/block/sdb/size": "1"})
        assert host.by_name("/dev/xvdbb") == "/dev/xvdbb"
        assert host.by_name("xvdb") is None

    def test_a_link_that_udev_made_is_followed(self, tmp_path: Path) -> None:
        host = plant(tmp_path, {"dev/sdf": "-> nvme1n1", "sys/class/block/nvme1n1/size": "1"})
        assert host.by_name("/dev/sdf") == "/dev/nvme1n1"


class TestAzure:
    def test_links_of_the_azure_images(self, tmp_path: Path) -> None:
        host = plant(
            tmp_path,
            {
                "dev/disk/azure/scsi1/lun0": "-> ../../../sdc",
                "dev/disk/azure/data/by-lun/7": "-> ../../../../nvme0n8",
                "dev/disk/azure/scsi1/lun9": "-> ../../../sdz",
                "sys/class/block/sdc/size": "1",
                "sys/class/block/nvme0n8/size": "1",
            },
        )
        assert host.by_azure_lun(0) == "/dev/sdc"
        assert host.by_azure_lun(7) == "/dev/nvme0n8"
        assert host.by_azure_lun(9) is None, "a stale link"

    def test_without_links_by_controller_and_lun(self, tmp_path: Path) -> None:
        os_disk = "sys/devices/vmbus/00000000-0000-8899-0000-000000000000/host0/target0:0:0/0:0:0:0"
        data = "sys/devices/vmbus/f8b3781b-1e82-4818-a1c3-63d806ec15bb"
        host = plant(
            tmp_path,
            {
                f"{os_disk}/type": "0",
                "sys/devices/vmbus/00000000-0000-8899-0000-000000000000/device_id": "{00000000-0000-8899-0000-0}",
                f"{data}/device_id": "{f8b3781b-1e82-4818-a1c3-63d806ec15bb}\n",
                f"{data}/host1/target1:0:0/1:0:0:0/type": "0",
                f"{data}/host1/target1:0:0/1:0:0:10/type": "0",
                "sys/block/sda/device": f"-> ../../../{os_disk}",
                "sys/block/sdb/device": f"-> ../../../{data}/host1/target1:0:0/1:0:0:10",
                "sys/block/sdc/device": f"-> ../../../{data}/host1/target1:0:0/1:0:0:0",
            },
        )
        assert host.by_azure_lun(0) == "/dev/sdc"
        assert host.by_azure_lun(10) == "/dev/sdb"
        assert host.by_azure_lun(1) is None


def test_google_disks_are_found_by_device_name(tmp_path: Path) -> None:
    host = plant(tmp_path, {"dev/disk/by-id/google-pgdata": "-> ../../sdb", "sys/class/block/sdb/size": "1"})
    assert host.by_google_name("pgdata") == "/dev/sdb"
    assert host.by_google_name("pg") is None


class TestMounts:
    @pytest.fixture
    def host(self, tmp_path: Path) -> Host:
        partitions = {f"sys/block/{disk}/{disk}{n}/partition": f"{n}" for disk in ("sdc", "sdd") for n in (1, 2)}
        return plant(tmp_path, {"proc/self/mountinfo": MOUNTINFO, **partitions})

    def test_of_a_whole_disk_not_that_of_a_bind_mount(self, host: Host) -> None:
        assert host.find_mount("/dev/nvme1n1") == Mount("/dev/nvme1n1", "/srv/pg/data", "rw,noatime,data=ordered")

    def test_mount_points_may_have_blanks(self, host: Host) -> None:
        assert host.find_mount("/dev/xvdg") == Mount("/dev/xvdg", "/srv/my tablespace", "rw,relatime,attr2")

    def test_of_the_only_mounted_partition(self, host: Host) -> None:
        assert host.find_mount("/dev/sdc") == Mount("/dev/sdc1", "/srv/part", "rw,relatime")

    def test_several_mounted_partitions_are_refused(self, host: Host) -> None:
        with pytest.raises(SnapshotError, match=r"/dev/sdd1 on /srv/one, /dev/sdd2 on /srv/two"):
            host.find_mount("/dev/sdd")

    def test_a_disk_that_is_not_mounted(self, host: Host) -> None:
        assert host.find_mount("/dev/sde") is None

    def test_the_machines_own_mounts(self) -> None:
        found = Host().find_mount("/dev/no-such-device")
        assert found is None

    def test_without_findmnt(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(SnapshotError, match="findmnt is not installed"):
            host.find_mount("/dev/sde")
