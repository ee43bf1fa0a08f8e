"""The spool of ``wal-receive``: WAL that was acknowledged to PostgreSQL and isn't in the store yet.

A segment is written into ``<name>.partial``, which has its full size from the start, and gets its own name once it is
complete and fsynced. What lies here is the only copy of it, so nothing is removed before the store has it.
"""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from barman_cloud.errors import ConflictError
from barman_cloud.postgres.wal import LONG_HEADER_SIZE, parse_wal_name

if TYPE_CHECKING:
    from barman_cloud.wal.spool import Directory

PARTIAL = ".partial"
_LOCK = "lock"
_COPIES = "copies"
_PIECE = 1 << 20


class ReceiveSpool:
    """Files of one receiver, which holds the spool alone. All methods raise OSError."""

    def __init__(self, directory: Directory) -> None:
        """Lock the spool; ``ConflictError`` if another receiver has."""
        self._directory = directory
        self._lock = directory.open(_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConflictError(
                f"another wal-receive uses the spool {directory.path}", hint="stop it, or name another --spool-dir"
            ) from None
        self._copies = os.path.join(directory.path, _COPIES)
        self.begun: dict[str, int] = {}
        """Of the unfinished segments that :meth:`left_over` found, by name, how many bytes they have."""
        if _COPIES not in directory.names():
            os.mkdir(_COPIES, 0o700, dir_fd=directory.descriptor)
            os.fsync(directory.descriptor)

    def left_over(self) -> list[str]:
        """Return the paths of what earlier receivers have left to be stored.

        Unfinished segments, which hold acknowledged WAL too, are set aside first, because they are received again from
        their beginning. Each gets a directory of its own: there may be several of one segment, and the store decides
        which of them goes farthest.
        """
        for name in self.names():
            if name.endswith(PARTIAL) and self._is_begun(name):
                segment = name.removesuffix(PARTIAL)
                self.begun[segment] = max(self.begun.get(segment, 0), self._end_of(name))
                self._set_aside(name)
        found = []
        for folder, _, files in os.walk(self._copies, topdown=False):
            found += [os.path.join(folder, name) for name in files]
            if folder != self._copies and not files:
                os.rmdir(folder)
        return [*sorted(found), *(self.path(name) for name in self.names() if not name.endswith(PARTIAL))]

    def _set_aside(self, name: str) -> None:
        """Move the file into a new directory of its own; a loss of power leaves it in one of the two places."""
        spool = self._directory.descriptor
        folder = os.path.join(_COPIES, str(time.time_ns()))
        os.mkdir(folder, 0o700, dir_fd=spool)
        _sync_directory(_COPIES, spool)
        os.rename(name, os.path.join(folder, name), src_dir_fd=spool, dst_dir_fd=spool)
        _sync_directory(folder, spool)
        os.fsync(spool)

    def _is_begun(self, name: str) -> bool:
        file = self._directory.open(name, os.O_RDONLY)
        try:
            return any(os.read(file, LONG_HEADER_SIZE))
        finally:
            os.close(file)

    def _end_of(self, name: str) -> int:
        """Return how many bytes of a segment were written: the rest is zeros."""
        file = self._directory.open(name, os.O_RDONLY)
        try:
            end = os.fstat(file).st_size
            while end > 0:
                start = max(0, end - _PIECE)
                if written := len(os.pread(file, end - start, start).rstrip(b"\0")):
                    return start + written
                end = start
            return 0
        finally:
            os.close(file)

    def close(self) -> None:
        """Let another receiver use the spool."""
        os.close(self._lock)

    def path(self, name: str) -> str:
        return os.path.join(self._directory.path, name)

    def names(self) -> list[str]:
        """Return the names of all WAL files, history files first."""
        found = [name for name in self._directory.names() if parse_wal_name(name)]
        return sorted(found, key=lambda name: (not name.endswith(".history"), name))

    def free_bytes(self) -> int:
        """Return how much more the disk takes."""
        status = os.fstatvfs(self._directory.descriptor)
        return status.f_bavail * status.f_frsize

    def segment(self, name: str, size: int) -> SegmentFile:
        """Open the segment ``name`` for writing: a new one, or what an earlier receiver has of it."""
        return SegmentFile(self._directory, name, size)

    def write(self, name: str, content: bytes) -> None:
        """Store a small file, durably."""
        temporary = f"{name}.tmp"
        file = self._directory.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            _write(file, content, 0)
            os.fsync(file)
        finally:
            os.close(file)
        _rename(self._directory, temporary, name)

    def copy_path(self, name: str) -> str:
        """Return where the copy of the segment in progress ``name`` is."""
        return os.path.join(self._copies, f"{name}{PARTIAL}")

    def copy_partial(self, name: str) -> str:
        """Copy the segment in progress, as it is now, and return the path of the copy; it needn't outlive a crash."""
        path = self.copy_path(name)
        source = self._directory.open(f"{name}{PARTIAL}", os.O_RDONLY)
        try:
            with open(path, "wb") as copy:
                while piece := os.read(source, _PIECE):
                    copy.write(piece)
        finally:
            os.close(source)
        return path


class SegmentFile:
    """A segment in progress."""

    def __init__(self, directory: Directory, name: str, size: int) -> None:
        self._directory = directory
        self.name = name
        self._file = directory.open(f"{name}{PARTIAL}", os.O_RDWR | os.O_CREAT)
        try:
            os.posix_fallocate(self._file, 0, size)
            os.fsync(self._file)
            os.fsync(directory.descriptor)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, data: memoryview, position: int) -> None:
        _write(self._file, data, position)

    def sync(self) -> None:
        """Make everything durable that was written."""
        os.fdatasync(self._file)

    def finish(self) -> None:
        """Give the complete segment its name."""
        self.sync()
        os.close(self._file)
        _rename(self._directory, f"{self.name}{PARTIAL}", self.name)

    def close(self) -> None:
        """Leave the segment as it is."""
        self.sync()
        os.close(self._file)


def _write(file: int, data: bytes | memoryview, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        position += written
        view = view[written:]


def _sync_directory(name: str, parent: int) -> None:
    file = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _rename(directory: Directory, old: str, new: str) -> None:
    os.rename(old, new, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)
    os.fsync(directory.descriptor)
