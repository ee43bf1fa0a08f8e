"""The file operations of this process in their order, and what a loss of power could take back of them.

Unlike the harness in ``tests/faults``, which strikes at an operation of another process, this one watches code that a
test calls, and judges the order: a name given to a file whose content isn't on disk, a name that its directory doesn't
have on disk. That is what POSIX promises, and less than what most file systems do.
"""

from __future__ import annotations

import gc
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_AT_ONCE = ("link", "rename", "replace", "unlink", "remove", "mkdir", "rmdir", "symlink")


class Operation(NamedTuple):
    """One operation; paths are relative to the root, which itself is ``.``."""

    what: str
    """Such as ``write``, ``fsync``, ``syncfs``, ``rename``, ``link``, ``unlink``, ``mkdir``; or what a test marks."""
    path: str
    target: str = ""
    """The new name of a rename or a link."""


@dataclass
class FileOperations:
    """What was done below ``root``."""

    root: Path
    done: list[Operation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """What was done in an order that a loss of power could show."""
    _written: dict[tuple[int, int], int] = field(default_factory=dict)
    """Size of each file (device, inode) at its last fsync; -1 before the first."""
    _pending: dict[str, str] = field(default_factory=dict)
    """Directories whose entries changed since they were last made durable, and how."""
    _dirty: dict[tuple[int, int], str] = field(default_factory=dict)
    """Files with content that isn't on disk."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mark(self, what: str, path: str = "") -> None:
        """Note something else, so that it has its place among the operations."""
        with self._lock:
            self.done.append(Operation(what, path))

    def place(self, what: str, path: str = "", *, last: bool = False) -> int:
        """Return at which place the first (or last) operation of this kind on this path, or target, is."""
        found = [n for n, op in enumerate(self.done) if op.what == what and (not path or path in (op.path, op.target))]
        assert found, f"no {what} of {path} in {self.done}"
        return found[-1 if last else 0]

    def has(self, what: str, path: str = "") -> bool:
        """Tell whether there is such an operation."""
        return any(op.what == what and (not path or path in (op.path, op.target)) for op in self.done)

    @property
    def unsynced(self) -> list[str]:
        """Files, by the name that they were opened under, with content that isn't on disk."""
        return sorted(self._dirty.values())

    def lost_with_the_power(self) -> list[str]:
        """Return what happened in a wrong order, and which names a loss of power now could take back."""
        return [
            *self.problems,
            *(f"{path}/: {how}, and the directory isn't on disk" for path, how in self._pending.items()),
        ]

    # What the replaced functions call -----------------------------------------------------------------------------

    def relative(self, target: object, dir_fd: int | None = None) -> str | None:
        """Return the path that an operation is about; None if it isn't below the root."""
        if isinstance(target, int):
            path = os.readlink(f"/proc/self/fd/{target}")
        else:
            path = os.fsdecode(target)  # type: ignore[arg-type]
            folder = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            path = os.path.join(folder, path)
        path = os.path.relpath(os.path.normpath(path), os.path.realpath(self.root))
        return None if path.startswith("..") else path

    def wrote(self, fd: int) -> None:
        if (path := self.relative(fd)) is None:
            return
        status = os.fstat(fd)
        with self._lock:
            self.done.append(Operation("write", path))
            self._dirty[status.st_dev, status.st_ino] = path

    def synced(self, fd: int) -> None:
        path = self.relative(fd)
        if path is None:
            return
        status = os.fstat(fd)
        with self._lock:
            self.done.append(Operation("fsync", path))
            if stat.S_ISDIR(status.st_mode):
                self._pending.pop(path, None)
            else:
                self._dirty.pop((status.st_dev, status.st_ino), None)
                self._written[status.st_dev, status.st_ino] = status.st_size

    def synced_all(self, path: str) -> None:
        with self._lock:
            self.done.append(Operation("syncfs", path))
            self._pending.clear()
            self._dirty.clear()
            self._written.clear()

    def created(self, path: str, fd: int) -> None:
        status = os.fstat(fd)
        with self._lock:
            self.done.append(Operation("create", path))
            self._pending[os.path.dirname(path) or "."] = f"create of {os.path.basename(path)}"
            self._written.setdefault((status.st_dev, status.st_ino), -1)

    def named(self, what: str, path: str, target: str, status: os.stat_result) -> None:
        """A file, or directory, that was ``path`` is ``target`` now, or is as well."""
        with self._lock:
            self.done.append(Operation(what, path, target))
            identity = status.st_dev, status.st_ino
            if stat.S_ISREG(status.st_mode) and identity in self._written:
                synced = self._written[identity]
                if identity in self._dirty or synced < status.st_size:
                    self.problems.append(f"{target}: has its name before its content is on disk")
            self._pending[os.path.dirname(target) or "."] = f"{what} to {os.path.basename(target)}"
            if what == "rename" and os.path.dirname(path) != os.path.dirname(target):
                self._pending[os.path.dirname(path) or "."] = f"{what} of {os.path.basename(path)}"

    def changed(self, what: str, path: str) -> None:
        with self._lock:
            self.done.append(Operation(what, path))
            if what == "mkdir":
                self._pending[os.path.dirname(path) or "."] = f"{what} of {os.path.basename(path)}"


@contextmanager
def recorded(root: Path) -> Iterator[FileOperations]:
    """Record the operations of this process below ``root`` while the block runs."""
    found = FileOperations(root)
    with pytest.MonkeyPatch.context() as patch:
        _patch(patch, found)
        yield found


def _patch(patch: pytest.MonkeyPatch, found: FileOperations) -> None:
    from barman_cloud.restore import durability

    def after(name: str, note: Callable[[int], None]) -> None:
        plain = getattr(os, name)

        def function(fd: int, *arguments: Any) -> Any:
            result = plain(fd, *arguments)
            note(fd)
            return result

        patch.setattr(os, name, function)

    for name in ("write", "pwrite", "posix_fallocate"):
        after(name, found.wrote)
    for name in ("fsync", "fdatasync"):
        after(name, found.synced)
    for name in _AT_ONCE:
        _patch_name(patch, found, name)
    plain_open, plain_syncfs = os.open, durability._syncfs

    def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        fd = plain_open(path, flags, *arguments, **options)
        if flags & os.O_CREAT and (relative := found.relative(fd)) is not None:
            found.created(relative, fd)
        return fd

    def syncfs(path: Path) -> None:
        plain_syncfs(path)
        if (relative := found.relative(path)) is not None:
            found.synced_all(relative)

    patch.setattr(os, "open", open_)
    patch.setattr(durability, "_syncfs", syncfs)


def _patch_name(patch: pytest.MonkeyPatch, found: FileOperations, name: str) -> None:
    plain = getattr(os, name)
    what = {"replace": "rename", "remove": "unlink"}.get(name, name)

    def function(path: Any, *arguments: Any, **options: Any) -> Any:
        from_fd = options.get("src_dir_fd", options.get("dir_fd"))
        place = (
            found.relative(path, from_fd) if what != "symlink" else found.relative(arguments[0], options.get("dir_fd"))
        )
        status = os.lstat(path) if from_fd is None and what in ("rename", "link") else None
        if from_fd is not None and what in ("rename", "link"):
            status = os.stat(path, dir_fd=from_fd, follow_symlinks=False)
        result = plain(path, *arguments, **options)
        if status is not None:
            target = found.relative(arguments[0], options.get("dst_dir_fd"))
            if place is not None and target is not None:
                found.named(what, place, target, status)
        elif place is not None:
            found.changed(what, place)
        return result

    patch.setattr(os, name, function)


def descriptors_left_by(work: Callable[[int], object], times: int = 20) -> int:
    """Return how many descriptors each call of ``work``, which gets its number, leaves open.

    A few others, of what else this process does or has forgotten, may come and go meanwhile.
    """
    work(0)
    before = _open_descriptors()
    for number in range(1, times + 1):
        work(number)
    return max(0, _open_descriptors() - before) // times


def _open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
