"""Directories of a spool as the code under test holds them."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from barman_cloud.wal.spool import Directory


def opened(path: Path | str) -> Directory:
    """Return any directory as one of the spool, whoever made it; it stays open until the process ends."""
    status = os.stat(path)
    return _opened(str(path), status.st_dev, status.st_ino)


@functools.cache
def _opened(path: str, device: int, inode: int) -> Directory:
    return Directory(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
