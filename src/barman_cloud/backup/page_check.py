"""Verifying page checksums of what a backup reads, without reading it twice.

The server goes on writing, so a page may be half old and half new when it is read. As in ``pg_basebackup``, a page that
fails is read again, and is right if its checksum fits then, or if it was changed since the backup's begin: recovery
replaces such a page by the image in the WAL. That can't be true of a page from the future, so what claims a change
after the backup's end is damaged.

Pages of many files are gathered and checked together, because a check of few pages takes as long as one of many.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from barman_cloud import logs
from barman_cloud.archive.archives_json import DamagedFile, PageChecksums
from barman_cloud.archive.buffers import Buffer
from barman_cloud.postgres import page_checksum

log = logs.get_logger(__name__)

_BATCH = 4 << 20
"""Bytes that are checked together."""
_SUSPECTS = 10_000
_FILES = 1000
"""Files that the sidecar names at most."""
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """Pages of one file, in a batch."""

    path: str
    file: str
    segment: int
    block: int
    """The first page's number in the file."""
    count: int


@dataclass
class PageChecks:
    """What the checks of all workers have found. ``page_size`` in bytes, ``begin`` is the LSN of the backup's begin."""

    begin: int
    page_size: int
    segment_blocks: int
    pages: int = 0
    _damaged: list[tuple[str, int]] = field(default_factory=list)
    _suspects: list[tuple[str, int, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def checker(self) -> PageChecker:
        """Return a checker for one worker."""
        return PageChecker(self)

    def add(self, pages: int) -> None:
        with self._lock:
            self.pages += pages

    def add_failure(self, path: str, block: int, lsn: int) -> None:
        """Note a page that failed twice."""
        with self._lock:
            if lsn < self.begin:
                self._damaged.append((path, block))
            elif len(self._suspects) < _SUSPECTS:
                self._suspects.append((path, block, lsn))

    def conclude(self, end: int) -> PageChecksums:
        """Return what was found; ``end`` is the LSN of the backup's end. Logs a WARNING if a page is damaged."""
        damaged = [*self._damaged, *((path, block) for path, block, lsn in self._suspects if lsn > end)]
        blocks: dict[str, list[int]] = defaultdict(list)
        for path, block in sorted(damaged):
            blocks[path].append(block)
        files = tuple(DamagedFile(path, _ranges(numbers)) for path, numbers in blocks.items())
        log.info("verified the checksums of %d pages", self.pages)
        if files:
            named = "; ".join(f"{file.path}: {file.describe()}" for file in files[:_NAMED])
            more = f"; and {len(files) - _NAMED} more files" if len(files) > _NAMED else ""
            log.warning("%d pages of the cluster fail their checksum (file: blocks): %s%s", len(damaged), named, more)
        return PageChecksums(self.pages, len(damaged), files[:_FILES])


class PageChecker:
    """Checks the pages that one worker reads. Not to be shared between threads."""

    def __init__(self, checks: PageChecks) -> None:
        self._checks = checks
        self._buffers: list[Buffer] = []
        self._pieces: list[Piece] = []
        self._size = 0

    def watch(self, path: str, file: str, name: str, first: int = 0) -> Callable[[Buffer], None] | None:
        """Return the function that takes a file's content, piece by piece; None if its pages have no checksums.

        ``path`` is where the file is in the restored PGDATA, ``file`` where it is read, ``name`` what it is called in
        PGDATA or its tablespace, ``first`` the number of the page that the content begins with.
        """
        segment = page_checksum.segment_of(name)
        if segment is None:
            return None
        size = self._checks.page_size
        block = first
        rest = b""

        def take(data: Buffer) -> None:
            nonlocal block, rest
            if rest or len(data) % size:
                data = rest + bytes(data)
                whole = len(data) - len(data) % size
                data, rest = data[:whole], data[whole:]
            count = len(data) // size
            if count:
                self.add(data, Piece(path, file, segment, block, count))
                block += count

        return take

    def flush(self) -> None:
        """Check what was gathered."""
        pieces, data = self._pieces, b"".join(self._buffers)
        self._pieces, self._buffers, self._size = [], [], 0
        if not pieces:
            return
        bad = page_checksum.bad_pages(data, map(self._numbers, pieces), self._checks.page_size)
        self._checks.add(sum(piece.count for piece in pieces))
        position, remaining = 0, iter(pieces)
        piece = next(remaining)
        for index, lsn in bad:
            while index >= position + piece.count:
                position += piece.count
                piece = next(remaining)
            self._failed(piece, piece.block + index - position, lsn)

    def add(self, data: Buffer, piece: Piece) -> None:
        """Take whole pages of one file."""
        self._buffers.append(data)
        self._pieces.append(piece)
        self._size += len(data)
        if self._size >= _BATCH:
            self.flush()

    def _numbers(self, piece: Piece) -> range:
        first = piece.segment * self._checks.segment_blocks + piece.block
        return range(first, first + piece.count)

    def _failed(self, piece: Piece, block: int, _lsn: int) -> None:
        """Look again at a page that failed: the server may have been writing it."""
        size = self._checks.page_size
        try:
            with open(piece.file, "rb", buffering=0) as file:
                page = os.pread(file.fileno(), size, block * size)
        except FileNotFoundError:
            return
        if len(page) < size:
            return  # cut off since
        number = piece.segment * self._checks.segment_blocks + block
        for _, lsn in page_checksum.bad_pages(page, [range(number, number + 1)], size):
            log.debug("%s, block %d fails its checksum, with LSN %X", piece.path, block, lsn)
            self._checks.add_failure(piece.path, block, lsn)


def _ranges(numbers: list[int]) -> tuple[tuple[int, int], ...]:
    """Return ascending numbers as first and last of each run."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return tuple(runs)
