"""The page cache and the file system between measurements."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

READ = 1 << 20
"""Bytes read from a file at once."""


def read(paths: list[Path]) -> Iterator[bytes]:
    """Yield the content of files, one after another."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while data := file.read(READ):
                yield data


def cache(directory: Path) -> None:
    """Read the files below ``directory``, so that they are in the page cache as a server's often used data are."""
    sync(directory)
    for _ in read(_files(directory)):
        pass


def forget_cached(directory: Path) -> None:
    """Drop the files below ``directory`` from the page cache, so that they are read from the disk again."""
    sync(directory)
    for path in _files(directory):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def discard(directory: Path) -> None:
    """Free the space of the files below ``directory``, but keep their names until the end of the run.

    ext4 avoids the inodes of files that were deleted a short time ago; looking for others would make the next
    contestant's files slow to create.
    """
    for path in _files(directory):
        if not path.is_symlink():
            os.truncate(path, 0)


def sync(directory: Path) -> None:
    """Make everything written below ``directory`` durable, for tools that left that to the kernel (syncfs(2))."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
