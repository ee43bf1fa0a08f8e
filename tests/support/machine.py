"""A machine's disks as the snapshot code sees them: a tree of ``/sys``, ``/dev``, ``/proc``, or real loop devices."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from barman_cloud.snapshots.mounts import Host
from tests.support.snapshot_clouds import DISKS, Cloud


def recorded_host(
    root: Path, cloud: Cloud, mounts: Mapping[str, tuple[str, str]], *, unmounted: tuple[str, ...] = ()
) -> Host:
    """Write the tree of a machine whose disks have these mounts (disk -> mount point and options) and return it."""
    lines = []
    for number, disk in enumerate(DISKS):
        kernel_name = f"xvd{'fg'[number]}"
        (root / "sys/block" / kernel_name).mkdir(parents=True, exist_ok=True)
        (root / "sys/class/block" / kernel_name).mkdir(parents=True, exist_ok=True)
        link = root / "dev" / cloud.device(disk)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(root / "dev" / kernel_name, link.parent))
        if disk in mounts and disk not in unmounted:
            where, options = mounts[disk]
            flags, _, rest = options.partition(",")
            escaped = where.replace(" ", "\\040")
            lines.append(f"{30 + number} 1 202:{number} / {escaped} {flags},{rest} - ext4 /dev/{kernel_name} {flags}\n")
    table = root / "proc/self/mountinfo"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("".join(lines))
    return Host(root)


def fake_ssh(root: Path) -> str:
    """Return an ``ssh_command`` that looks at the tree ``root`` in place of another machine."""
    program = root / "fake-ssh"
    program.write_text(
        "#!/bin/sh\n# fake-ssh HOST SCRIPT\n"
        f"""exec sh -c "$(printf '%s' "$2" | sed '1s|^cd / |cd {root} |')"\n"""
    )
    program.chmod(0o755)
    return f"{program} postgres@db1"


class LoopDisks:
    """File systems in files on loop devices, mounted below one directory; a copy of a file is a disk's snapshot."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.devices: dict[str, str] = {}
        """Disk -> loop device."""
        self._links: list[Path] = []

    def create(self, disk: str, megabytes: int) -> Path:
        """Make a disk with an empty ext4, mount it and return its mount point."""
        image = self.image(disk)
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        _run("mkfs.ext4", "-q", "-E", "nodiscard", str(image))
        return self.mount(disk, disk)

    def mount(self, image: str, disk: str) -> Path:
        """Attach an image as ``disk`` and mount it at that disk's mount point."""
        self.devices[disk] = _run("losetup", "--find", "--show", str(self.image(image)))
        point = self.mount_point(disk)
        point.mkdir(exist_ok=True)
        _run("mount", "-o", "noatime", self.devices[disk], str(point))
        return point

    def snapshot(self, disk: str, snapshot: str) -> None:
        """Copy the disk's blocks as they are now, with whatever the kernel hasn't written yet missing."""
        _run("cp", "--sparse=always", str(self.image(disk)), str(self.image(snapshot)))

    def link(self, path: Path, disk: str) -> None:
        """Let ``path`` lead to the disk's device, as a udev rule does."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(self.devices[disk])
        self._links.append(path)

    def sync(self) -> None:
        """Write everything that the file systems hold to the disks."""
        for disk in self.devices:
            _run("sync", "--file-system", str(self.mount_point(disk)))

    def detach(self) -> None:
        """Unmount and detach everything."""
        for path in self._links:
            path.unlink(missing_ok=True)
        self._links.clear()
        for disk, device in self.devices.items():
            subprocess.run(["umount", str(self.mount_point(disk))], capture_output=True, check=False)
            subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
        self.devices.clear()

    def image(self, name: str) -> Path:
        return self.directory / f"{name}.img"

    def mount_point(self, disk: str) -> Path:
        return self.directory / disk


@contextlib.contextmanager
def loop_disks(directory: Path) -> Iterator[LoopDisks]:
    """Loop devices for the test, or a skip where this machine doesn't allow them."""
    disks = LoopDisks(directory)
    if os.geteuid() != 0 or not all(map(shutil.which, ("losetup", "mkfs.ext4", "mount"))):
        pytest.skip("loop devices need root and the tools to make file systems")
    try:
        disks.create("probe", 8)
    except (OSError, subprocess.CalledProcessError) as error:
        disks.detach()
        pytest.skip(f"no loop devices here: {error}")
    try:
        yield disks
    finally:
        disks.detach()


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
