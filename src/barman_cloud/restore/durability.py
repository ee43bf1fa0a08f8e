"""Making restored files durable, at the price of one flush instead of one per file.

Write-back of files that go through the page cache (``output``) is started while they are written
(``sync_file_range(2)``), so that the disk works while the network does; at the end one ``syncfs(2)`` per file system
waits for the rest. PostgreSQL offers the same method (``recovery_init_sync_method = syncfs``), with the same condition:
before Linux 5.8, ``syncfs`` reports no write errors. There, and on other systems, each file and directory gets its own
``fsync``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

WRITEBACK_STEP = 8 << 20
"""Bytes after which write-back of a growing file is started."""

_SYNC_FILE_RANGE_WRITE = 2
_FSYNC_THREADS = 8


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing this range to disk; a hint without a promise, which does not wait."""
    call = _libc_function("sync_file_range")
    if call is not None:
        call(fd, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))


def sync_trees(roots: Iterable[Path]) -> None:
    """Return when everything below ``roots`` is on disk: content, names and attributes; ``OSError`` if that fails."""
    if _syncfs_reports_errors():
        for root in {root.stat().st_dev: root for root in roots}.values():
            _syncfs(root)
    else:
        with ThreadPoolExecutor(_FSYNC_THREADS) as pool:
            for _ in pool.map(sync_path, _walk(roots)):
                pass


def sync_path(path: Path | str) -> None:
    """``fsync`` one file or directory."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_file(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Put ``content`` under the name ``path``: whole and on disk, or not at all.

    A link of that name is replaced, not followed. ``owner`` (uid and gid) can only be given by root.
    """
    temporary = path.with_name(f".{path.name}.barman-cloud")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        if owner:
            os.fchown(fd, *owner)
        os.fchmod(fd, mode)
        os.fsync(fd)
    temporary.replace(path)
    sync_path(path.parent)


def _syncfs(path: Path) -> None:
    call = _libc_function("syncfs")
    assert call is not None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if call(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def _walk(roots: Iterable[Path]) -> Iterator[str]:
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118 - a million times
                if os.path.isfile(path) and not os.path.islink(path):  # noqa: PTH114
                    yield path
            yield folder


@cache
def _libc_function(name: str) -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    return function


@cache
def _syncfs_reports_errors() -> bool:
    if _libc_function("syncfs") is None:
        return False
    try:
        major, minor = os.uname().release.split(".")[:2]
        return (int(major), int("".join(filter(str.isdigit, minor)))) >= (5, 8)
    except ValueError:
        return False
