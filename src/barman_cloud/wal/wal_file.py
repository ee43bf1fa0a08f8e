"""A WAL file that is to be archived: looked at, and read in pieces that are checked as they pass.

It is read, not mapped: a mapped file that shrinks kills the process without a word.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from barman_cloud.errors import IntegrityError, UsageError
from barman_cloud.postgres.wal import LONG_HEADER_SIZE, WalKind, WalName, check_header, check_size, parse_wal_name
from barman_cloud.postgres.wal_check import SegmentCheck, refuse_damage
from barman_cloud.wal import spool
from barman_cloud.wal.stored import SMALL_FILE_LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.buffers import Buffer
    from barman_cloud.postgres.wal import PageHeader
    from barman_cloud.wal.receive_memory import SegmentBytes

_HINT = "the server's own copy is damaged: once that is understood, --skip-page-check archives it as it is"


def wal_name_of(path: str) -> WalName:
    """Return the parsed name of the WAL file at ``path``; ``UsageError`` if no WAL file is named so."""
    name = parse_wal_name(os.path.basename(path))
    if name is None:
        raise UsageError(
            f"{path} is not named like a WAL file",
            hint="expected are 24 hexadecimal digits (with .partial or .<offset>.backup), or 8 with .history",
        )
    return name


class WalFile:
    """A WAL file, open until the end of the block. Its name, header, size and cluster fit each other."""

    def __init__(self, path: str, *, check_content: bool = True) -> None:
        """Open the file at ``path``; ``check_content`` also refuses damaged pages and small files that aren't right.

        Raises ``UsageError`` for a name that no WAL file has, ``IntegrityError`` for a segment whose header doesn't fit
        its name, size or cluster, and OSError.
        """
        self.path = path
        self.name = wal_name_of(path)
        self._check_content = check_content
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.status = os.fstat(self._file)
            self._header = self._check_header()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> WalFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def size(self) -> int:
        """Return the size in bytes, as it was when the file was opened."""
        return self.status.st_size

    @property
    def system_identifier(self) -> int | None:
        """Return the identifier of the cluster that wrote the file; None if neither it nor what is beside it tells."""
        if self._header is not None:
            return self._header.system_identifier
        return self._cluster_beside()

    def pieces(self, size: int, *, see: Callable[[bytes], None] | None = None) -> Iterator[bytes]:
        """Yield the content from the beginning, ``size`` bytes at a time, after ``see`` was called with each piece.

        Raises ``IntegrityError`` at the first damage, or if the file has become shorter.
        """
        check = self._page_check()
        for position in range(0, self.size, size):
            piece = self.read(position, min(size, self.size - position))
            if check is not None:
                refuse_damage(self.name, check.feed(piece), hint=_HINT)
            if see is not None:
                see(piece)
            yield piece

    def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes; ``IntegrityError`` if the file doesn't have them any more."""
        piece = os.pread(self._file, size, position)
        while len(piece) < size:
            more = os.pread(self._file, size - len(piece), position + len(piece))
            if not more:
                raise IntegrityError(f"{self.path} became shorter while it was read: {self.size} bytes were expected")
            piece += more
        return piece

    def _cluster_beside(self) -> int | None:
        return spool.own_system_identifier(os.path.abspath(self.path))

    def _check_header(self) -> PageHeader | None:
        if self.name.kind not in (WalKind.SEGMENT, WalKind.PARTIAL):
            if self.size > SMALL_FILE_LIMIT:
                raise IntegrityError(f"{self.path} has {self.size} bytes, too many for such a file")
            if self._check_content:
                self._check_small_file()
            return None
        start = self.read(0, min(LONG_HEADER_SIZE, self.size))
        header = check_header(start, self.name, system_identifier=self._cluster_beside())
        check_size(self.size, self.name, header)
        return header

    def _check_small_file(self) -> None:
        from barman_cloud.postgres.wal_files import check_backup_label, check_history

        check = check_history if self.name.kind is WalKind.HISTORY else check_backup_label
        try:
            check(self.read(0, self.size), self.name)
        except IntegrityError as error:
            raise IntegrityError(str(error), hint=_HINT) from error

    def _page_check(self) -> SegmentCheck | None:
        if self._header is None or not self._check_content:
            return None
        return SegmentCheck(self.name, self._header, records=False)


class WalContent(WalFile):
    """A segment, partial segment or history file that is in memory, or a large segment that is there in part."""

    def __init__(self, name: str, content: Buffer | SegmentBytes) -> None:
        """Take ``content``, which isn't copied, for the file ``name``; the same errors as of a file."""
        self.path = name
        self.name = wal_name_of(name)
        self._check_content = True
        self._content = memoryview(content) if isinstance(content, bytes | bytearray | memoryview) else content
        self._header = self._check_header()

    def __exit__(self, *_: object) -> None:
        if isinstance(self._content, memoryview):
            self._content.release()

    @property
    def size(self) -> int:
        return len(self._content)

    def read(self, position: int, size: int) -> bytes:
        return bytes(self._content[position : position + size])

    def _cluster_beside(self) -> int | None:
        return None
