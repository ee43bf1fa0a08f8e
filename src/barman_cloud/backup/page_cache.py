"""Reading a file once without disturbing the page cache (Linux).

What was cached before a backup is what the server works with, and stays; what the backup's reads brought in is dropped
again. ``mincore(2)`` tells which is which. Where the kernel doesn't say (it answers only to the owner of a file), or
there is no such call, everything counts as cached before, and nothing is dropped.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from collections.abc import Callable

_GRANULE = max(128 << 10, mmap.PAGESIZE)
"""What is dropped or kept as one piece, in bytes."""
_STRIDE = 8 << 20
"""How much is read before it is dropped, in bytes; a multiple of the granule."""


class CacheGuard:
    """One open file of ``size`` bytes that is read from its beginning to its end."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._dropped = 0
        self._cached = _cached_granules(descriptor, size)

    def passed(self, position: int) -> None:
        """Say that everything before ``position`` was read."""
        if self._cached is not None and (position >= self._size or position - self._dropped >= _STRIDE):
            self._drop(-(-position // _GRANULE) if position >= self._size else position // _GRANULE)

    def _drop(self, end: int) -> None:
        """Drop what is before granule ``end`` and wasn't cached when the file was opened."""
        assert self._cached is not None
        granule = self._dropped // _GRANULE
        while granule < end:
            until = granule
            while until < end and not self._cached[until]:
                until += 1
            if until > granule:
                os.posix_fadvise(
                    self._descriptor, granule * _GRANULE, (until - granule) * _GRANULE, os.POSIX_FADV_DONTNEED
                )
            granule = until + 1
        self._dropped = end * _GRANULE


def _cached_granules(descriptor: int, size: int) -> bytes | None:
    """Return one byte for each granule of the file, not zero if a page of it is cached; None if that is unknown."""
    ask = _mincore()
    if ask is None or not size:
        return None
    pages = ask(descriptor, size)
    if pages is None:
        return None
    if not pages.count(1):
        return bytes(-(-size // _GRANULE))
    step = _GRANULE // mmap.PAGESIZE
    return bytes(1 if pages.count(1, at, at + step) else 0 for at in range(0, len(pages), step))


@functools.cache
def _mincore() -> Callable[[int, int], bytearray | None] | None:
    """Return a function of descriptor and size that returns one byte per page, 1 for cached ones."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        map_file, unmap, mincore = libc.mmap, libc.munmap, libc.mincore
    except (OSError, AttributeError):
        return None
    map_file.restype = ctypes.c_void_p
    map_file.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    unmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    failed = ctypes.c_void_p(-1).value

    def ask(descriptor: int, size: int) -> bytearray | None:
        address = map_file(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
        if address == failed:
            return None
        try:
            pages = bytearray(-(-size // mmap.PAGESIZE))
            vector = (ctypes.c_char * len(pages)).from_buffer(pages)
            answered = mincore(address, size, ctypes.addressof(vector)) == 0
        finally:
            unmap(address, size)
        return pages.translate(_LOWEST_BIT) if answered else None

    return ask


# Only the lowest bit of mincore's answer has a meaning.
_LOWEST_BIT = bytes(value & 1 for value in range(256))
