"""``global/pg_control``: its system identifier, and reading it whole while the server writes it.

The server rewrites the file in place, and on some file systems a reader may see half of an update. The file carries a
CRC-32C behind its data (``src/include/catalog/pg_control.h``); its place depends on the version, so every one is tried.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from barman_cloud.errors import IntegrityError

_MIN_DATA = 200
_MAX_DATA = 508  # PG_CONTROL_MAX_SAFE_SIZE is 512 bytes, the checksum included
_FIELDS = struct.Struct("=Q4x4xi4xqQQ")
_IN_PRODUCTION = 6
_TRIES = 20
_PAUSE = 0.05


def read_control_file(path: Path) -> bytes:
    """Return the content of a control file, whole; ``IntegrityError`` if it fails its own checksum for a second."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE)
        data = path.read_bytes()
        if is_whole(data):
            return data
    raise IntegrityError(f"{path} fails its own checksum", hint="run pg_controldata on the data directory")


def is_whole(data: bytes) -> bool:
    """Tell whether a control file's checksum fits its data, whatever version wrote it."""
    return checksum_offset(data) is not None


def checksum_offset(data: bytes) -> int | None:
    """Return where the checksum is that fits the data before it, which depends on the version; None if none fits."""
    if len(data) < _MAX_DATA + 4:
        return None
    sizes = range(_MIN_DATA, _MAX_DATA + 1, 4)
    return next((size for size in sizes if crc32c(data[:size]) == struct.unpack_from("=I", data, size)[0]), None)


class ControlFile(NamedTuple):
    """What the first fields of a control file say (``ControlFileData``, the same since PostgreSQL 11)."""

    system_identifier: str
    """As the server prints it."""
    in_production: bool
    """The server runs and isn't in recovery; False for a standby."""
    checkpoint_redo: int
    """LSN at which recovery from the latest checkpoint, or on a standby the latest restartpoint, begins."""


def parse_control_file(data: bytes) -> ControlFile:
    """Return what ``data``, a whole control file, says."""
    identifier, state, _, _, redo = _FIELDS.unpack_from(data)
    return ControlFile(str(identifier), state == _IN_PRODUCTION, redo)
