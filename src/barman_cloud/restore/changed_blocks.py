"""The changed blocks of a chain's increments in memory, and files put together with them while they pass.

Archives are streams: what an increment holds of a file comes when it comes, and not when the file is put together. So
the increments are read first, the newest first, which tells what every older block is worth.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.tar import Member
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.blocks import BASE, NOTHING, FileParts, Part, blocks_of, live_blocks, runs
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.file_format import BLOCK, Header, read_blocks, read_header
from barman_cloud.incremental.visibility import StaleMaps

HELD_BLOCK: Final = BLOCK + 160
"""Bytes of memory of a block that is held, with what Python needs beside it."""
_ZEROS: Final = bytes(1 << 20)


class ChangedBlocks:
    """Those blocks of all increments that are left in the end. Paths are those of manifests.

    Several threads may :meth:`learn` different files of one backup, or :meth:`get` blocks of different files.
    """

    def __init__(self, maps: StaleMaps) -> None:
        """``maps`` are those that need more than their own changed blocks."""
        self._maps = maps
        self.files: dict[str, FileParts] = {}
        """By the path of the restored file."""
        self._lock = threading.Lock()
        self._held: dict[str, dict[int, bytes]] = {}

    def learn(self, layer: int, archive: int, path: str, member: Member, content: Iterable[Buffer]) -> tuple[int, int]:
        """Take the incremental file ``path`` of backup ``layer``; those of newer backups must be known.

        Returns its size and CRC-32C, for the caller to compare; ``IntegrityError`` if it isn't an incremental file.
        """
        restored = restored_path(path)
        assert restored is not None
        with self._lock:
            file = self.files.setdefault(restored, FileParts(member))
            newer = list(file.parts)
        tally = Tally(content)
        chunks = iter(tally)
        header, first = read_header(chunks, member.size, path)
        self._take(restored, header, first, chunks, path, live_blocks(header, newer))
        with self._lock:
            file.parts.append(Part(layer, archive, header, tally.crc32c))
        return tally.size, tally.crc32c

    def put_together(self, path: str, size: int, base: Iterator[Buffer]) -> Iterator[Buffer]:
        """Yield the content that the file ``path`` becomes; ``base`` is what it is on top of, of ``size`` bytes."""
        content = put_together(path, self.files[path], size, base, self.get)
        return self._maps.cleared(path, content, self._changes) if path in self._maps else content

    def _changes(self, path: str, since: int) -> list[Sequence[int]]:
        file = self.files.get(path)
        return [part.header.blocks for part in file.parts if part.layer > since] if file else []

    def get(self, path: str, block: int) -> bytes:
        """Return the content of a block, which is forgotten; ``IntegrityError`` if it never came."""
        try:
            return self._held[path].pop(block)
        except KeyError:
            raise IntegrityError(
                f"block {block} of {path} isn't where it was a moment ago", hint="do other programs write the bucket?"
            ) from None

    def _take(
        self,
        restored: str,
        header: Header,
        first: bytes,
        chunks: Iterator[Buffer],
        source: str,
        wanted: Collection[int],
    ) -> None:
        for offset, data in read_blocks(header, first, chunks, source):
            block = offset // BLOCK
            for position in range(0, len(data), BLOCK):
                if block in wanted:
                    self._hold(restored, block, data[position : position + BLOCK])
                block += 1

    def _hold(self, path: str, block: int, data: memoryview) -> None:
        with self._lock:
            self._held.setdefault(path, {})[block] = bytes(data)


def put_together(
    path: str, file: FileParts, size: int, base: Iterator[Buffer], get: Callable[[str, int], bytes]
) -> Iterator[Buffer]:
    """Yield the content of a file, of ``file.length`` blocks.

    All of ``base``, its content of ``size`` bytes in the newest backup that has it whole, is consumed. ``get`` gives
    the changed blocks, which are asked for in order, each once.
    """
    stream = _BaseStream(base)
    for first, end, source in runs(file.sources(blocks_of(size))):
        if source == BASE:
            yield from stream.between(first * BLOCK, end * BLOCK)
        elif source == NOTHING:
            yield from _zeros((end - first) * BLOCK)
        else:
            for block in range(first, end):
                yield get(path, block)
    stream.drain()


class _BaseStream:
    """A file that is read once, from its beginning, of which some ranges are wanted."""

    def __init__(self, chunks: Iterator[Buffer]) -> None:
        self._chunks = chunks
        self._chunk = memoryview(b"")
        self._position = 0
        """Of the beginning of what is left of the chunk."""

    def between(self, start: int, end: int) -> Iterator[Buffer]:
        """Yield the bytes from ``start`` to ``end``; zeros stand for what is behind the end of the file."""
        while self._position < end:
            if not self._chunk:
                chunk = next(self._chunks, None)
                if chunk is None:
                    yield from _zeros(end - max(start, self._position))
                    return
                self._chunk = memoryview(chunk).cast("B")
            skipped = min(max(start - self._position, 0), len(self._chunk))
            taken = self._chunk[skipped : end - self._position]
            used = skipped + len(taken)
            self._chunk = self._chunk[used:]
            self._position += used
            if taken:
                yield taken

    def drain(self) -> None:
        for _ in self._chunks:
            pass


def _zeros(size: int) -> Iterator[Buffer]:
    while size > 0:
        yield _ZEROS[:size]
        size -= len(_ZEROS)
