"""Is a WAL segment what PostgreSQL wrote? Its page headers, and the checksum of each record in it.

A segment consists of pages (``XLogPageHeaderData`` in PostgreSQL's ``access/xlog_internal.h``), and records run through
them (``XLogRecord`` in ``access/xlogrecord.h``). The layout is the same in PostgreSQL 13 to 19::

    | page header | rest of a record | record | record | begin of a rec- | page header | -ord | record | 0 0 0 0 …

    page header   magic 2, info 2, timeline 4, LSN of the page 8, bytes left of a record that began before 4, padding 4;
                  the first page of a segment has 16 bytes more
    record        length 4, transaction 4, LSN of the record before 8, info 1, resource manager 1, padding 2,
                  CRC-32C 4 (over what follows it, then the 20 bytes before it); begins at a multiple of 8 bytes

Behind the end of WAL anything may follow: zeros (after a switch of segments, or in a new file) or old pages, of what
the file was before it was recycled. So a page that doesn't fit is damage if one that fits comes after it, or if no
server can have written it; and the end itself can't be told from damage to the last page before it.
``docs/explanation/wal.md`` lists what can't be seen.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import (
    LONG_HEADER_SIZE,
    WAL_MAGIC,
    Buffer,
    PageHeader,
    WalKind,
    WalName,
    check_header,
    check_size,
    format_lsn,
)

_SHORT_HEADER_SIZE = 24
_CONTINUES, _LONG, _REMOVABLE, _OVERWRITES = 0x0001, 0x0002, 0x0004, 0x0008
_ALL_FLAGS = 0x000F

_unpack_length = struct.Struct("=I").unpack_from
_RECORD_HEADER_SIZE = 24
_BEFORE_CRC = 20
_SWITCHED = "a switch to the next segment, though this one goes on"
_SWITCH = 0x40
"""The upper half of the info of the record (resource manager 0) after which the rest of a segment isn't used."""


class Finding(NamedTuple):
    """Damage: at which byte of the segment, and what is wrong there."""

    offset: int
    what: str

    def __str__(self) -> str:
        return f"{self.what} (at byte {self.offset})"


def find_damage(pieces: Iterable[Buffer], name: WalName, *, records: bool = True) -> Iterator[Finding]:
    """Yield what is damaged in a segment, whose bytes come in ``pieces`` that may be cut anywhere.

    All page headers are checked, which costs 2 ms for 16 MiB, and unless ``records`` is False the checksum of each
    record, at 1.2 us for each: 10 ms for a segment of whole page images, 250 ms for one of small records.
    Raises ``IntegrityError`` if the segment isn't the one that ``name`` says, or isn't complete.
    """
    check, pieces = begin_check(pieces, name, records=records)
    size = 0
    for piece in pieces:
        size += len(piece)
        yield from check.feed(piece)
    yield from check.finish()
    check_size(size, name, check.header)


def begin_check(
    pieces: Iterable[Buffer],
    name: WalName,
    *,
    records: bool = True,
    system_identifier: int | None = None,
    before: SegmentCheck | None = None,
) -> tuple[SegmentCheck, Iterator[Buffer]]:
    """Return the check of the segment ``name``, which nothing was fed to yet, and all the ``pieces`` of it.

    ``before`` is the finished check of the segment before. Raises ``IntegrityError`` if the header doesn't fit
    the name, or the cluster that ``system_identifier`` names.
    """
    rest = iter(pieces)
    first: Buffer = next(rest, b"")
    while len(first) < LONG_HEADER_SIZE and (more := next(rest, b"")):
        first = bytes(first) + more
    header = check_header(first, name, system_identifier=system_identifier)
    return SegmentCheck(name, header, records=records, before=before), chain((first,), rest)


def refuse_damage(name: WalName, findings: list[Finding], *, hint: str | None = None) -> None:
    """Raise ``IntegrityError`` for the first of the findings, if there are any."""
    if findings:
        raise IntegrityError(f"{name.text} is damaged: {findings[0]}", hint=hint)


class SegmentCheck:
    """The check of one segment, or partial segment, while its bytes pass by. ``header`` is that of its first page.

    A record that began in the segment before can be checked only if the finished check of that one is given as
    ``before``. If it fails, its offset is negative, counted from the end of that segment.
    """

    def __init__(self, name: WalName, header: PageHeader, *, records: bool, before: SegmentCheck | None = None) -> None:
        self._partial = name.kind is WalKind.PARTIAL
        self._newest_timeline = name.timeline
        self.header = header
        self._headers = struct.Struct(f"=HHIQI{header.block_size - 20}x")
        self._position = 0
        self._cut = b""
        """The beginning of a page whose end hasn't come yet."""
        self._timeline = 1
        """Of the page before; they never fall."""
        self._left = 0
        """Bytes of a record that the next page must say to follow; 0: it may say anything."""
        self._end: int | None = None
        """Where the first page begins that isn't WAL of this segment, if the last one wasn't."""
        self._end_is_damage = False
        self._records = _Records() if records else None
        if self._records and before and before._records and before._end is None:
            self._records.go_on_from(before._records, before._position)

    def feed(self, piece: Buffer) -> list[Finding]:
        """Check the pages that ``piece`` completes, and return what is wrong with them, or with the one before."""
        findings: list[Finding] = []
        size = self.header.block_size
        data = memoryview(piece)
        if self._cut:
            missing = size - len(self._cut)
            self._cut += data[:missing]
            data = data[missing:]
            if len(self._cut) < size:
                return findings
            self._check_pages(memoryview(self._cut), findings)
        whole = len(data) - len(data) % size
        self._check_pages(data[:whole], findings)
        self._cut = bytes(data[whole:])
        return findings

    def finish(self) -> list[Finding]:
        """Return what only the end of the segment shows to be wrong."""
        if self._records is None or self._end is not None:
            return []
        return self._records.confirmed_by_end()

    def missing_before(self, offset: int) -> list[Finding]:
        """Return what is wrong, after :meth:`finish`, if it is known that WAL goes on up to byte ``offset``."""
        found = self._records.ends() if self._records is not None else []
        if self._end is not None:
            found.append(Finding(self._end, "no WAL of this segment"))
        return [
            Finding(end.offset, f"{end.what}, though WAL is needed up to byte {offset}")
            for end in found[:1]
            if end.offset < offset
        ]

    def _check_pages(self, pages: memoryview, findings: list[Finding]) -> None:
        size, first_address = self.header.block_size, self.header.page_address
        room = size - _SHORT_HEADER_SIZE
        for start, fields in enumerate(self._headers.iter_unpack(pages)):
            magic, info, timeline, address, left = fields
            if (
                self._records is None
                and self._end is None
                and magic == self.header.magic
                and timeline == self._timeline
                and address == first_address + self._position
                and info & ~_REMOVABLE == (left > 0)
                and (left == self._left or not self._left)
            ):  # nearly all pages, so this must be quick
                self._left = left - room if left > room else 0
            elif not (self._partial and self._end is not None):  # what follows the end there says nothing
                self._check_page(fields, pages[start * size : (start + 1) * size], findings)
            self._position += size

    def _check_page(self, fields: tuple[int, int, int, int, int], page: memoryview, findings: list[Finding]) -> None:
        magic, info, timeline, address, left = fields
        begin, header = self._position, self.header
        if (
            magic != header.magic
            or address != header.page_address + begin
            or not self._timeline <= timeline <= self._newest_timeline
        ):
            self._check_end(begin, (magic, info, timeline, address), findings)
            return
        if self._end is not None:
            if not self._end_is_damage:
                what = f"no WAL of this segment, though there is some at byte {begin} again"
                findings.append(Finding(self._end, what))
            self._end = None
            self._lose()
        header_size = _SHORT_HEADER_SIZE if begin else LONG_HEADER_SIZE
        wrong = self._wrong_flags(begin, info, left)
        if wrong:
            findings.append(Finding(begin, wrong))
            self._lose()
        else:
            self._left = max(0, left - header.block_size + header_size)
            if self._records is not None:
                self._records.check_page(bytes(page), begin, header_size, info, left, findings)
        self._timeline = timeline

    def _lose(self) -> None:
        self._left = 0
        if self._records is not None:
            self._records.lose()

    def _wrong_flags(self, begin: int, info: int, left: int) -> str | None:
        """Return what is wrong with the flags of a page's header, or with the length that goes with them."""
        if info & ~_ALL_FLAGS or (info & _LONG != 0) != (begin == 0):
            return f"impossible flags 0x{info:04X} in a page header"
        if (info & _CONTINUES != 0) != (left > 0) or (info & _CONTINUES and info & _OVERWRITES):
            return f"flags 0x{info:04X} in a page header with {left} bytes of an earlier record"
        if self._left and left != self._left and not info & _OVERWRITES:
            return f"a page header with {left} bytes of a record that lacks {self._left}"
        return None

    def _check_end(self, begin: int, fields: tuple[int, int, int, int], findings: list[Finding]) -> None:
        """Check a page that isn't WAL of this segment: it must be one that may be behind the end of WAL."""
        if self._end is None:
            self._end, self._end_is_damage = begin, False
        magic, info, timeline, address = fields
        if self._partial or fields == (0, 0, 0, 0):
            return
        old = timeline < self._timeline or address < self.header.page_address + begin
        if (
            magic not in WAL_MAGIC
            or info & ~_ALL_FLAGS
            or timeline == 0
            or not old
            or address % self.header.segment_size != begin
        ):
            what = f"magic 0x{magic:04X}, flags 0x{info:04X}, timeline {timeline}, LSN {format_lsn(address)}"
            findings.append(Finding(begin, f"a page header that no page can have there: {what}"))
            self._end_is_damage = True


class _Records:
    """Follows the records through the pages of one segment.

    Behind a record that isn't right the next one can't be found; the next page helps on, which says where one begins.
    """

    def __init__(self) -> None:
        from crc32c import crc32c

        self._crc32c = crc32c
        self._lost = True
        """It isn't known where the next record begins, or which one goes on on the next page."""
        self._begin = 0
        self._head = b""
        self._checksum = 0
        self._left = 0
        """The record that goes on on the next page: where it begins, the bytes of its header that have come, the
        checksum of what has come of its data, and how many bytes are to come; 0: none does.
        """
        self._doubt: Finding | None = None
        """Damage, unless WAL ends there."""
        self._end: Finding | None = None
        """The end of WAL in this segment, as its records say; damage if another page of it follows."""

    def go_on_from(self, before: _Records, size: int) -> None:
        """Take over what was known at the end of the segment before, of ``size`` bytes."""
        if not (before._lost or before._doubt or before._end):
            self._lost, self._left, self._begin = False, before._left, before._begin - size
            self._head, self._checksum = before._head, before._checksum

    def lose(self) -> None:
        """Take no more for known about the records than before the first page."""
        self._lost, self._left, self._doubt, self._end = True, 0, None, None

    def confirmed_by_end(self) -> list[Finding]:
        """Return what is wrong if WAL goes on in the next segment."""
        return [self._doubt] if self._doubt else []

    def ends(self) -> list[Finding]:
        """Return where WAL ends on the last page, or seems to; nothing behind a switch to the next segment."""
        if self._doubt:
            return [self._doubt]
        return [self._end] if self._end and self._end.what is not _SWITCHED else []

    def check_page(self, page: bytes, begin: int, position: int, info: int, left: int, findings: list[Finding]) -> None:
        """Check the records on a page, behind its header, of ``position`` bytes, whose flags and length are right."""
        if doubt := self._doubt or self._end:
            findings.append(doubt)
            self.lose()
        if not self._lost and self._left != left and not info & _OVERWRITES:
            findings.append(Finding(self._begin, f"a record that the page at byte {begin} doesn't go on with"))
            self.lose()
        end = position + left
        if left and not self._lost:
            self._go_on(page[position:end], findings)
        if end > len(page):
            return
        self._lost, self._left = False, 0
        self._walk(page, _aligned(end), begin)

    def _go_on(self, data: bytes, findings: list[Finding]) -> None:
        missing = _RECORD_HEADER_SIZE - len(self._head)
        if missing:
            self._head += data[:missing]
        self._checksum = self._crc32c(data[missing:], self._checksum)
        self._left -= len(data)
        if (
            self._left == 0
            and self._crc32c(self._head[:_BEFORE_CRC], self._checksum) != _unpack_length(self._head, _BEFORE_CRC)[0]
        ):
            findings.append(Finding(self._begin, "a record that fails its checksum"))

    def _walk(self, page: bytes, position: int, begin: int) -> None:
        """Check the records that begin on the page, the first of them at ``position``."""
        crc32c, end = self._crc32c, len(page)
        while position < end:
            self._begin = begin + position
            (length,) = _unpack_length(page, position)
            stop = position + length
            data = position + _RECORD_HEADER_SIZE
            if length < _RECORD_HEADER_SIZE:
                self._stop(page, position, length)
                return
            if stop > end:
                self._head = page[position:data]
                self._checksum = crc32c(page[data:])
                self._left = stop - end
                return
            checksum = crc32c(page[position : position + _BEFORE_CRC], crc32c(page[data:stop]))
            if checksum != _unpack_length(page, position + _BEFORE_CRC)[0]:
                self._doubt = Finding(self._begin, "a record that fails its checksum")
                return
            if length == _RECORD_HEADER_SIZE and page[position + 17] == 0 and page[position + 16] & 0xF0 == _SWITCH:
                self._end = Finding(self._begin, _SWITCHED)
                return
            position = _aligned(stop)

    def _stop(self, page: bytes, position: int, length: int) -> None:
        if page.count(0, position) == len(page) - position:
            self._end = Finding(self._begin, "the end of all records, though WAL goes on")
        else:
            self._doubt = Finding(self._begin, f"a record of {length} bytes, fewer than its header has")


def _aligned(position: int) -> int:
    """Return the next multiple of 8, where a record may begin."""
    return position + 7 & ~7
