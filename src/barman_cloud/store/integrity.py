"""How it is noticed that bytes changed on the way to a store, in it, or on the way back.

* An object whose content is known before its upload is stored with its CRC-32 as user metadata, which every provider
  keeps and Barman ignores; who reads the whole object compares it (``docs/reference/format.md``).
* An object that comes empty is asked for once more, by a HEAD: an answer can lose its content on the way.
* What a store says of an upload (its ETag if that is an MD5, or the checksum that it computed) is compared with what
  was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import IntegrityError
from barman_cloud.store.failures import TransientError

if TYPE_CHECKING:
    from barman_cloud.store.base import Buffer, ObjectStore

log = logs.get_logger(__name__)

CHECKSUM = "barmancloudcrc32"
"""Name of the user metadata. Azure takes no dashes in such names, and some proxies no underscores."""


class AlteredError(TransientError):
    """The store has other bytes than were sent; sending them again may help."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: the store received other bytes than were sent",
            hint="something on the way changes them: look at proxies, network cards and memory",
            answered=True,
        )


_LARGE = 4 << 20
"""Bytes from which on the quicker library is worth its loading."""


def crc32(data: Buffer, value: int = 0) -> int:
    """Return the CRC-32 (zlib's, ISO 3309) of ``data``, going on from ``value``."""
    if len(data) >= _LARGE:
        try:
            from isal.isal_zlib import crc32 as quick
        except ImportError:
            pass
        else:
            return int(quick(data, value))
    from zlib import crc32 as plain

    return plain(data, value)


def crc32_of(pieces: Iterable[Buffer]) -> int:
    """Return the CRC-32 of several buffers, one after the other."""
    value = 0
    for piece in pieces:
        value = crc32(piece, value)
    return value


def md5_of(pieces: Iterable[Buffer]) -> str:
    """Return the MD5 of several buffers, in hexadecimal digits."""
    import hashlib

    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def metadata_of(data: Buffer) -> dict[str, str]:
    """Return the user metadata that the object is stored with."""
    return {CHECKSUM: f"{crc32(data):08x}"}


def is_intact(data: Buffer, expected: object) -> bool:
    """Compare an object with the metadata that came with it; True as well when it has none, as Barman's objects."""
    return not isinstance(expected, str) or expected == f"{crc32(data):08x}"


def require_intact(name: str, data: Buffer, expected: object) -> None:
    """Raise ``IntegrityError`` unless the object ``name`` is what it was stored as."""
    if not is_intact(data, expected):
        raise IntegrityError(
            f"{name} has another checksum than it was stored with",
            hint="it was damaged in the store, or is changed on the way",
        )


def is_empty(store: ObjectStore, key: str, *, last: bool = True) -> bool:
    """Tell whether an object that came without content has none by what a HEAD says, too.

    Nothing of ours is empty, and an annotation, a ``backup.info`` or a history file would mean something else. If the
    HEAD says otherwise: a WARNING, or ``IntegrityError`` if that was the ``last`` try.
    """
    size = store.head(key).size
    if size and last:
        raise IntegrityError(
            f"{store.object_url(key)} came without content, and is {size} bytes long",
            hint="something on the way, such as a proxy or a cache, loses the content of answers",
        )
    if size:
        log.warning("%s came without content, and is %d bytes long; reading it again", key, size)
    return not size


def md5_in(etag: str | None) -> str | None:
    """Return the MD5 that an ETag is, if it looks like one: 32 hexadecimal digits and no number of parts."""
    text = (etag or "").strip('"').lower()
    return text if len(text) == 32 and not text.strip("0123456789abcdef") else None
