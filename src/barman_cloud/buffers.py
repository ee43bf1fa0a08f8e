"""The one name for what bytes travel in."""

from __future__ import annotations

from typing import TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Any contiguous buffer of bytes. Who passes one on never changes it afterwards, unless a docstring says so."""
