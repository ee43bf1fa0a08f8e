"""What the readers and the writers of compressed streams share."""

from __future__ import annotations

import sys
from typing import Any, Final

SNAPPY_START: Final = b"\xff\x06\x00\x00sNaPpY"
"""The stream identifier, a chunk of its own, that every framed snappy stream starts with."""


def zstd_module() -> Any:
    """Return the standard library's zstd module, or its backport before Python 3.14."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
