"""CRC-32C (Castagnoli): the checksum of ``backup_manifest`` and of stored archives.

It runs at 17 GiB/s on one core, ten times SHA-256, and Google Cloud Storage and S3 can compute the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import crc32c as library

from barman_cloud.archive.buffers import Buffer


def crc32c(data: Buffer, value: int = 0) -> int:
    """Return the CRC-32C of the bytes that gave ``value`` followed by ``data``; the lock is released meanwhile."""
    return library.crc32c(data, value)


class Tally:
    """Counts and checksums a stream of buffers that passes through; a stage of the pipe.

    ``size`` and ``crc32c`` are those of what was passed on so far.
    """

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = chunks
        self.size = 0
        self.crc32c = 0

    def __iter__(self) -> Iterator[Buffer]:
        for chunk in self._chunks:
            self.size += len(chunk)
            self.crc32c = crc32c(chunk, self.crc32c)
            yield chunk
