"""Writing the content of new files, large ones past the page cache (``O_DIRECT`` of open(2)).

A restore writes every byte once and reads none of it again. Through the page cache each of them costs a page of memory,
a copy and the kernel's write-back, which together take longer than the rest of a restore, push out what a server beside
it had cached, and count against the memory limit of a container. Small files aren't worth it, and few file systems do
it well (others wait for the disk after each write, or copy all the same): those go through the cache, their write-back
started early.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from abc import ABC, abstractmethod
from functools import cache
from pathlib import Path

from barman_cloud.buffers import Buffer, write_all
from barman_cloud.restore.durability import WRITEBACK_STEP, start_writeback

DIRECT_FROM = 1 << 20
"""Bytes of a file from which on it is written directly."""
BUFFER_SIZE = 4 << 20
"""Bytes of one direct write."""

_BLOCK = mmap.PAGESIZE
"""What the address, the offset and the length of a direct write are multiples of."""
_SMALL_FILE = 256 << 10
_FILE_SYSTEMS = frozenset({"ext4", "xfs"})
_O_DIRECT = getattr(os, "O_DIRECT", 0)


class Outputs:
    """Makes the outputs of one thread, which writes one file at a time."""

    def __init__(self) -> None:
        self._buffer: memoryview | None = None

    def open(self, fd: int, size: int) -> Output:
        """Return an output to the new, empty file ``fd``, which will have about ``size`` bytes."""
        if size < DIRECT_FROM or file_system(os.fstat(fd).st_dev) not in _FILE_SYSTEMS or not _switch(fd, direct=True):
            return CachedOutput(fd)
        if self._buffer is None:
            # Memory of its own begins on a page's boundary.
            self._buffer = memoryview(mmap.mmap(-1, BUFFER_SIZE))
        return DirectOutput(fd, self._buffer)


@cache
def file_system(device: int) -> str | None:
    """Return the type of the file system on a device, as in proc_pid_mountinfo(5); None if that doesn't tell."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        place, _, kind = line.partition(" - ")
        if place.split()[2] == number:
            return kind.split()[0]
    return None


class Output(ABC):
    """The content of one file. All methods raise OSError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @abstractmethod
    def write(self, data: Buffer) -> None:
        """Append ``data``."""

    @abstractmethod
    def end(self) -> None:
        """Hand all that was appended over to the kernel; making it durable is another step."""


class CachedOutput(Output):
    """Writes through the page cache."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._size = 0
        self._flushed = 0

    def write(self, data: Buffer) -> None:
        write_all(self._fd, data)
        self._size += len(data)
        if self._size - self._flushed >= WRITEBACK_STEP:
            self._start_writeback()

    def end(self) -> None:
        if self._size - self._flushed >= _SMALL_FILE:
            self._start_writeback()

    def _start_writeback(self) -> None:
        start_writeback(self._fd, self._flushed, self._size - self._flushed)
        self._flushed = self._size


class DirectOutput(Output):
    """Gathers the content in ``buffer``, which begins on a page's boundary, and writes it from there to the disk."""

    def __init__(self, fd: int, buffer: memoryview) -> None:
        super().__init__(fd)
        self._buffer = buffer
        self._filled = 0

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            taken = min(len(view), len(self._buffer) - self._filled)
            self._buffer[self._filled : self._filled + taken] = view[:taken]
            self._filled += taken
            view = view[taken:]
            if self._filled == len(self._buffer):
                self._write_direct(self._buffer)
                self._filled = 0

    def end(self) -> None:
        whole = self._filled - self._filled % _BLOCK
        self._write_direct(self._buffer[:whole])
        if whole < self._filled:
            _switch(self._fd, direct=False)
            write_all(self._fd, self._buffer[whole : self._filled])

    def _write_direct(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except OSError as error:
                # Another block size, or a file system that can't do it after all: through the cache then.
                if error.errno != errno.EINVAL or not _switch(self._fd, direct=False):
                    raise


def _switch(fd: int, *, direct: bool) -> bool:
    """Switch direct writing of an open file on or off; False if it is so already, or can't be."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    wanted = flags | _O_DIRECT if direct else flags & ~_O_DIRECT
    if wanted == flags:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, wanted)
    except OSError:
        return False
    return True
