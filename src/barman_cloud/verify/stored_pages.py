"""Page checksums of a backup's files, as they are in its archives.

The server was writing while the backup read, so a page may be half old and half new. As in ``pg_basebackup``, one that
was changed since the backup's begin is right whatever its checksum: recovery replaces it by the image in the WAL. One
whose LSN is older may still be such a torn page. A backup that verified checksums while it read has looked at it
again and names the pages that are damaged; without such a list every one that fails counts as damaged.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from barman_cloud.archive.archives_json import DamagedFile, PageChecksums
from barman_cloud.archive.buffers import Buffer
from barman_cloud.backup.page_check import PageChecker, PageChecks, Piece
from barman_cloud.incremental.file_format import PREFIX, read_blocks, read_header
from barman_cloud.postgres import page_checksum

_USUAL_PAGE = 8192
_PAGE_SIZES = frozenset(1 << power for power in range(10, 16))
_SEGMENT = 1 << 30
"""Bytes of a relation's file, as PostgreSQL is built nearly everywhere."""
_MOST_NAMED = 10_000
"""Damaged pages that are remembered: who has more needs no longer list."""
_LARGEST_VIEW = 256 << 10
"""Bytes of a page run that is copied, so that a few pages don't keep a whole buffer of the archive in memory."""


@dataclass
class StoredPages:
    """The pages of one backup, checked by several workers. ``begin`` and ``end`` are LSNs of the backup."""

    begin: int
    end: int
    known: PageChecksums | None
    """What the backup itself has found when it read the pages."""
    _checks: PageChecks | None = None
    _failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def checker(self) -> MemberPages:
        """Return the checker of one worker."""
        return MemberPages(self)

    def checks_for(self, page: Buffer) -> PageChecks:
        """Return the checks of the cluster; the first page that comes decides how large pages are."""
        with self._lock:
            if self._checks is None:
                size = _page_size(page)
                self._checks = PageChecks(self.begin, size, _SEGMENT // size)
            return self._checks

    def may_name_another(self) -> bool:
        """Count a damaged page; False once there are so many that no more are named."""
        with self._lock:
            self._failed += 1
            return self._failed <= _MOST_NAMED

    def conclude(self) -> tuple[int, tuple[DamagedFile, ...]]:
        """Return how many pages were checked, and the damaged ones."""
        if self._checks is None:
            return 0, ()
        found = self._checks.conclude(self.end)
        known = self.known
        if known is None or sum(_count(file) for file in known.files) < known.failed:
            return found.pages, found.files
        named = {file.path: file.blocks for file in known.files}
        real = (DamagedFile(file.path, _within(file.blocks, named.get(file.path, ()))) for file in found.files)
        return found.pages, tuple(file for file in real if file.blocks)


class MemberPages:
    """Checks the pages of the members that one worker reads. Not to be shared between threads."""

    def __init__(self, pages: StoredPages) -> None:
        self._pages = pages
        self._checker: _StoredPageChecker | None = None

    def watch(self, path: str, name: str, content: Iterable[Buffer]) -> Iterator[Buffer]:
        """Pass the content of a file on. ``path`` is its path in PGDATA, ``name`` that in PGDATA or its tablespace."""
        if page_checksum.segment_of(name) is None:
            yield from content
            return
        take = None
        for data in content:
            if take is None:
                take = self._checker_for(data).watch(path, "", name)
                assert take is not None  # a name with a segment
            take(data if len(data) >= _LARGEST_VIEW else bytes(data))
            yield data

    def incremental(self, path: str, name: str, size: int, content: Iterator[Buffer], *, pages: bool) -> None:
        """Check the format of an incremental file of ``size`` bytes, and with ``pages`` its pages.

        Raises ``IntegrityError`` for what PostgreSQL doesn't write.
        """
        header, first = read_header(content, size, path)
        segment = page_checksum.segment_of(plain_name(name)) if pages else None
        for offset, data in read_blocks(header, first, content, path):
            if segment is not None:
                block = offset // _USUAL_PAGE
                piece = Piece(path, "", segment, block, len(data) // _USUAL_PAGE)
                self._checker_for(data).add(bytes(data), piece)

    def flush(self) -> None:
        """Check what was gathered."""
        if self._checker is not None:
            self._checker.flush()

    def _checker_for(self, page: Buffer) -> _StoredPageChecker:
        if self._checker is None:
            self._checker = _StoredPageChecker(self._pages.checks_for(page), self._pages)
        return self._checker


class _StoredPageChecker(PageChecker):
    def __init__(self, checks: PageChecks, pages: StoredPages) -> None:
        super().__init__(checks)
        self._pages = pages

    def _failed(self, piece: Piece, block: int, lsn: int) -> None:
        # Decided here and not at the end, so that pages which recovery replaces can't crowd out damaged ones.
        if not self._pages.begin <= lsn <= self._pages.end and self._pages.may_name_another():
            self._checks.add_failure(piece.path, block, lsn)


def plain_name(name: str) -> str:
    """Return the name of the relation's file that an incremental file belongs to."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.removeprefix(PREFIX)}"


def _page_size(page: Buffer) -> int:
    if len(page) < 20:
        return _USUAL_PAGE
    size_and_version: int = struct.unpack_from("=H", page, 18)[0]
    size = size_and_version & 0xFF00
    return size if size in _PAGE_SIZES else _USUAL_PAGE


def _count(file: DamagedFile) -> int:
    return sum(last - first + 1 for first, last in file.blocks)


def _within(blocks: Iterable[tuple[int, int]], limits: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return what of ascending runs is in other runs."""
    common = [(max(one[0], other[0]), min(one[1], other[1])) for one in blocks for other in limits]
    return tuple(sorted(run for run in common if run[0] <= run[1]))
