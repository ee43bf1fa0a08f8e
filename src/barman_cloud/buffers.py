"""The one name for what bytes travel in, and how they are written out."""

from __future__ import annotations

import os
from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Any contiguous buffer of bytes. Who passes one on never changes it afterwards, unless a docstring says so."""


def write_all(fd: int, data: Buffer) -> int:
    """Write all of ``data``, however little of it a call takes, and return its size in bytes."""
    view = memoryview(data).cast("B")
    written = 0
    while written < view.nbytes:
        written += os.write(fd, view[written:])
    return written
