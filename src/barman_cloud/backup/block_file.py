"""Reading a relation file by its blocks, while the server goes on writing it.

As for a whole file, what was cut off since the file was opened is zeros: PostgreSQL's recovery makes it right from WAL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from barman_cloud.archive.buffers import Buffer
from barman_cloud.backup.page_cache import CacheGuard
from barman_cloud.incremental.file_format import BLOCK

_BLOCKS_PER_READ = (1 << 20) // BLOCK


class BlockFile:
    """An open relation file of ``size`` bytes, a whole number of blocks.

    Used in this order: :meth:`pages` if anybody wants them, then :meth:`runs`, whose end leaves the page cache as it
    was before both.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._guard: CacheGuard | None = None

    def pages(self) -> Iterator[Buffer]:
        """Yield all of the file, in buffers of whole pages."""
        self._watch_cache()
        length = self._size // BLOCK
        for block in range(0, length, _BLOCKS_PER_READ):
            yield self._read(block, min(_BLOCKS_PER_READ, length - block))

    def runs(self, blocks: Sequence[int]) -> Iterator[tuple[int, Buffer]]:
        """Yield the content of ``blocks``, which ascend: for runs of neighbours the number of the first, and all."""
        if blocks:
            self._watch_cache()
        index = 0
        while index < len(blocks):
            first, count = blocks[index], 1
            while count < _BLOCKS_PER_READ and index + count < len(blocks) and blocks[index + count] == first + count:
                count += 1
            yield first, self._read(first, count)
            index += count
        if self._guard:
            self._guard.passed(self._size)

    def _watch_cache(self) -> None:
        if self._guard is None:
            self._guard = CacheGuard(self._descriptor, self._size)

    def _read(self, block: int, count: int) -> Buffer:
        size, start = count * BLOCK, block * BLOCK
        data = os.pread(self._descriptor, size, start)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), start + len(data))
            if not more:
                return data.ljust(size, b"\0")
            data += more
        return data
