"""A disk of one's own that can be filled and made read-only, where root may mount one."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PLENTY = "256m"


@functools.cache
def can_mount() -> bool:
    """Tell whether this process may mount a file system in memory."""
    with tempfile.TemporaryDirectory() as name, mounted(Path(name)) as disk:
        return disk is not None


@contextlib.contextmanager
def mounted(directory: Path) -> Iterator[Disk | None]:
    """Mount a disk on ``directory`` until the block ends; None where that isn't allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={_PLENTY},mode=755", "barman-cloud-test", str(directory)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield Disk(directory)
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], capture_output=True, check=False)


class Disk:
    """A mounted one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def leave(self, kilobytes: int) -> None:
        """Let only so much room be free from now on."""
        status = os.statvfs(self.directory)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize // 1024
        # A size of 0 would be no limit at all; one page is the smallest.
        self._remount(f"size={max(used + kilobytes, 4)}k")

    def make_read_only(self) -> None:
        """Let nothing be written any more."""
        self._remount("ro")

    def reset(self) -> None:
        """Make it as it was at first."""
        self._remount(f"rw,size={_PLENTY}")

    def _remount(self, options: str) -> None:
        command = ["mount", "-o", f"remount,{options}", str(self.directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
