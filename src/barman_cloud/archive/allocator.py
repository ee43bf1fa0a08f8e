"""How the C library's memory allocator treats the pipe's buffers (glibc's ``mallopt(3)``)."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8


def keep_freed_buffers() -> None:
    """Let freed buffers be used again, instead of giving their memory back to the kernel and asking for it anew.

    The pipe makes and frees buffers of MiB thousands of times, in one thread and the other. By default the kernel
    fetches and clears most of their pages again and again: five to fifteen per cent of the time of a restore. What was
    freed stays with the process until it ends. Call it before there are threads. Other C libraries are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_ARENA_MAX, 2)
