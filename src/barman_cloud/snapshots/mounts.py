"""Which block device a provider's disk is on this machine, and where it is mounted.

Everything is read from ``/sys``, ``/dev`` and ``findmnt`` (util-linux), none of which needs root. The providers' names
for a disk and the kernel's differ:

* EC2: on Nitro machines every volume is an NVMe device whose serial number is the volume id without its dash; on Xen
  machines the kernel calls ``/dev/sdf`` by another prefix, ``xvdf`` (EC2 User Guide, "Device names", "EBS and NVMe").
* Azure: udev rules of the Azure images link ``/dev/disk/azure``; without them a data disk is the SCSI disk with the
  attachment's LUN behind the controller that Hyper-V gives to data disks (rules file ``66-azure-storage.rules``).
* Google: udev rules of the guest environment link ``/dev/disk/by-id/google-<device name>``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from barman_cloud.errors import SnapshotError

_AZURE_DATA_CONTROLLER = re.compile(r"\{?f8b3781[b-d]-1e82-4818-a1c3-63d806ec15bb\}?", re.IGNORECASE)
_FINDMNT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Mount:
    """Where the file system of a device is mounted; ``options`` is findmnt's text (``rw,noatime``)."""

    device: str
    mount_point: str
    options: str


@dataclass(frozen=True, slots=True)
class Host:
    """The machine's devices and mounts below ``root``: ``/``, or a recorded tree (``sys``, ``dev``, ``proc``)."""

    root: Path = Path("/")
    remote: bool = False
    """The tree is of another machine: only what is in it is known."""

    def by_nvme_serial(self, serial: str) -> str | None:
        """Return the NVMe device with this serial number."""
        for device in sorted(self._block_devices("nvme*")):
            if _read(device / "device" / "serial") == serial:
                return f"/dev/{device.name}"
        return None

    def by_name(self, name: str) -> str | None:
        """Return the device of a name such as ``/dev/sdf``, which the kernel may call ``xvdf`` or ``hdf``."""
        short = name.removeprefix("/dev/")
        letters = short.removeprefix("sd")
        candidates = [short] if letters == short else [short, f"xvd{letters}", f"hd{letters}"]
        for candidate in candidates:
            if device := self._follow(f"dev/{candidate}"):
                return device
            if (self.root / "sys/block" / candidate).exists():
                return f"/dev/{candidate}"
        return None

    def by_azure_lun(self, lun: int) -> str | None:
        """Return the data disk attached as this logical unit number."""
        for link in (f"dev/disk/azure/scsi1/lun{lun}", f"dev/disk/azure/data/by-lun/{lun}"):
            if device := self._follow(link):
                return device
        for disk in sorted(self._block_devices("sd*")):
            scsi = (disk / "device").resolve()
            if scsi.name.rpartition(":")[2] == str(lun) and any(
                _AZURE_DATA_CONTROLLER.fullmatch(_read(parent / "device_id")) for parent in scsi.parents
            ):
                return f"/dev/{disk.name}"
        return None

    def by_google_name(self, device_name: str) -> str | None:
        """Return the disk attached under this device name."""
        return self._follow(f"dev/disk/by-id/google-{device_name}")

    def find_mount(self, device: str) -> Mount | None:
        """Return where the device, or its only mounted partition, is mounted.

        ``SnapshotError`` if several partitions are: a snapshot records one mount for each disk.
        """
        if mount := self._findmnt(device):
            return mount
        mounts = [mount for partition in self._partitions(device) if (mount := self._findmnt(partition))]
        if len(mounts) > 1:
            places = ", ".join(f"{mount.device} on {mount.mount_point}" for mount in mounts)
            raise SnapshotError(
                f"several partitions of {device} are mounted: {places}",
                hint="give the cluster disks with one file system",
            )
        return mounts[0] if mounts else None

    def _findmnt(self, device: str) -> Mount | None:
        command = ["findmnt", "--json", "--output", "TARGET,OPTIONS,FSROOT", "--source", device]
        if self.root != Path("/"):
            command += ["--tab-file", str(self.root / "proc/self/mountinfo")]
        try:
            # findmnt answers 1, and nothing, for a device that isn't mounted.
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=_FINDMNT_SECONDS, env={**os.environ, "LC_ALL": "C"}
            )
        except FileNotFoundError:
            raise SnapshotError("findmnt is not installed", hint="install the package util-linux") from None
        except subprocess.TimeoutExpired:
            raise SnapshotError(
                f"findmnt gave no answer about {device} in {_FINDMNT_SECONDS} s",
                hint="does a network file system hang?",
            ) from None
        if answer.returncode not in (0, 1):
            raise SnapshotError(
                f"findmnt failed for {device}: {answer.stderr.strip() or f'status {answer.returncode}'}"
            )
        mounts = json.loads(answer.stdout)["filesystems"] if answer.stdout.strip() else []
        # A bind mount of a directory has the same source, but it isn't where the disk's file system is mounted.
        for mount in sorted(mounts, key=lambda entry: entry["fsroot"] != "/"):
            return Mount(device, mount["target"], mount["options"])
        return None

    def _block_devices(self, pattern: str) -> Iterator[Path]:
        return (self.root / "sys/block").glob(pattern)

    def _partitions(self, device: str) -> list[str]:
        disk = self.root / "sys/block" / device.removeprefix("/dev/")
        return sorted(f"/dev/{entry.parent.name}" for entry in disk.glob("*/partition"))

    def _follow(self, link: str) -> str | None:
        """Return the device that a link in ``dev`` leads to; None if it isn't a link, or leads nowhere we know."""
        path = self.root / link
        if not path.is_symlink():
            return None
        device = Path(os.path.normpath(path.parent / path.readlink())).name
        return f"/dev/{device}" if (self.root / "sys/class/block" / device).exists() else None


def _read(path: Path) -> str:
    """Return the trimmed content of a small file, empty if it can't be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
