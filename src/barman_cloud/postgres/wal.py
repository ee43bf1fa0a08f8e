"""WAL file names, LSNs and the header of a segment.

Names and addresses follow PostgreSQL's ``src/include/access/xlog_internal.h``; the page header is
``XLogLongPageHeaderData`` there. LSNs are int in here and ``X/Y`` outside. This module is on the path of
``wal-archive`` and ``wal-restore`` and imports nothing but small standard modules.
"""

from __future__ import annotations

import enum
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from barman_cloud.buffers import Buffer as Buffer
from barman_cloud.errors import IntegrityError, UsageError

DEFAULT_SEGMENT_SIZE = 16 << 20
MIN_SEGMENT_SIZE = 1 << 20
MAX_SEGMENT_SIZE = 1 << 30

SEGMENT_NAME_LENGTH = 24
"""Of a segment's name: timeline, log and segment, eight hexadecimal digits each."""

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})\Z")
_NAME = re.compile(
    r"(?P<timeline>[0-9A-Fa-f]{8})"
    r"(?:\.(?P<history>history)"
    r"|(?P<log>[0-9A-Fa-f]{8})(?P<segment>[0-9A-Fa-f]{8})(?:\.(?P<partial>partial)|\.(?P<offset>[0-9A-Fa-f]{8})\.backup)?"
    r")\Z"
)

_PAGE_HEADER = struct.Struct("=HHIQI4xQII")
LONG_HEADER_SIZE = _PAGE_HEADER.size
"""Bytes at the beginning of a segment that say what it is."""
_LONG_HEADER_FLAG = 0x0002
WAL_MAGIC = range(0xD050, 0xD400)
"""XLOG_PAGE_MAGIC has been 0xD0nn and 0xD1nn since PostgreSQL 8.0 (18: 0xD118) and grows with every format change."""
_PAGE_SIZES = (1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""What ``configure --with-wal-blocksize`` offers."""


class WalKind(enum.Enum):
    """What a file of a WAL archive is."""

    SEGMENT = "segment"
    PARTIAL = "partial"
    BACKUP = "backup"
    HISTORY = "history"


class WalName(NamedTuple):
    """A parsed WAL file name. ``text`` keeps the spelling; hexadecimal digits may be of either case."""

    text: str
    kind: WalKind
    timeline: int
    log: int = 0
    segment: int = 0

    @property
    def folder(self) -> str:
        """The folder of an archive that holds the file, upper case; empty for a history file."""
        return "" if self.kind is WalKind.HISTORY else f"{self.timeline:08X}{self.log:08X}"

    @property
    def segment_name(self) -> str:
        """The 24 digits, upper case, without ``.partial`` or ``.<offset>.backup``; not for history files."""
        return f"{self.timeline:08X}{self.log:08X}{self.segment:08X}"

    def start_lsn(self, segment_size: int = DEFAULT_SEGMENT_SIZE) -> int:
        """Return the LSN of the segment's first byte."""
        return (self.log << 32) + self.segment * segment_size

    def following(self, segment_size: int = DEFAULT_SEGMENT_SIZE) -> Iterator[str]:
        """Yield the names of the segments after this one on the same timeline, without end."""
        lsn = self.start_lsn(segment_size)
        while True:
            lsn += segment_size
            yield segment_name(self.timeline, lsn, segment_size)


class PageHeader(NamedTuple):
    """The long header on the first page of a segment. Sizes in bytes, ``page_address`` is an LSN."""

    magic: int
    timeline: int
    page_address: int
    system_identifier: int
    segment_size: int
    block_size: int


def parse_lsn(text: str) -> int:
    """Return the LSN written as ``X/Y``; ``UsageError`` if it isn't one."""
    match = _LSN.match(text.strip())
    if match is None:
        raise UsageError(f"not a log sequence number: {text!r}", hint="an LSN looks like 16/B374D848")
    return (int(match[1], 16) << 32) + int(match[2], 16)


def format_lsn(lsn: int, server_version: int = 0) -> str:
    """Return the LSN as the server prints it: ``X/Y``, from PostgreSQL 19 on with eight digits behind the slash."""
    low = lsn & 0xFFFFFFFF
    return f"{lsn >> 32:X}/{low:08X}" if server_version >= 190000 else f"{lsn >> 32:X}/{low:X}"


def segment_name(timeline: int, lsn: int, segment_size: int = DEFAULT_SEGMENT_SIZE) -> str:
    """Return the name of the segment that holds ``lsn``; an LSN on a boundary belongs to the segment it begins."""
    return f"{timeline:08X}{lsn >> 32:08X}{(lsn & 0xFFFFFFFF) // segment_size:08X}"


def parse_wal_name(text: str) -> WalName | None:
    """Return what ``text`` (a file's base name) names, or None if it is no WAL file name."""
    match = _NAME.match(text)
    if match is None:
        return None
    timeline = int(match["timeline"], 16)
    if match["history"]:
        return WalName(text, WalKind.HISTORY, timeline)
    if match["partial"]:
        kind = WalKind.PARTIAL
    elif match["offset"]:
        kind = WalKind.BACKUP
    else:
        kind = WalKind.SEGMENT
    return WalName(text, kind, timeline, int(match["log"], 16), int(match["segment"], 16))


def is_wal_name(text: str) -> bool:
    """Tell whether ``text`` names a segment, a partial segment, a backup history or a timeline history file."""
    return _NAME.match(text) is not None


def is_segment_size(size: int) -> bool:
    """Tell whether PostgreSQL may have been initialised with segments of ``size`` bytes."""
    return MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE and size & (size - 1) == 0


def parse_page_header(data: Buffer) -> PageHeader:
    """Return the header of a segment's first page; ``IntegrityError`` if ``data`` doesn't begin with one.

    Reads the byte order of this machine: PostgreSQL's data files aren't portable between byte orders anyway.
    """
    if len(data) < _PAGE_HEADER.size:
        raise IntegrityError(f"{len(data)} bytes are too few for the header of a WAL segment")
    magic, info, timeline, address, _, system, segment_size, block_size = _PAGE_HEADER.unpack_from(data)
    if magic not in WAL_MAGIC or not info & _LONG_HEADER_FLAG or not is_segment_size(segment_size):
        raise IntegrityError(f"the first page has no WAL segment header (it begins with 0x{magic:04X})")
    if block_size not in _PAGE_SIZES:
        raise IntegrityError(f"the first page says that pages have {block_size} bytes, which none have")
    return PageHeader(magic, timeline, address, system, segment_size, block_size)


def check_segment(data: Buffer, name: WalName, *, system_identifier: int | None = None) -> PageHeader:
    """Check that ``data`` is the whole segment (or partial segment) that ``name`` says, and return its header.

    Raises ``IntegrityError`` if the size, the page address, the timeline or (when given) the system identifier doesn't
    fit.
    """
    header = check_header(data, name, system_identifier=system_identifier)
    check_size(len(data), name, header)
    return header


def check_size(size: int, name: WalName, header: PageHeader) -> None:
    """Check that a segment with this header is complete with ``size`` bytes; ``IntegrityError`` if it isn't."""
    if size != header.segment_size:
        raise IntegrityError(
            f"{name.text} has {size} bytes, but its header says that segments have {header.segment_size}"
        )


def check_header(data: Buffer, name: WalName, *, system_identifier: int | None = None) -> PageHeader:
    """Check that ``data`` begins like the segment that ``name`` says, and return its header.

    Raises ``IntegrityError`` as :func:`check_segment` does. The first page of a timeline's first segment is a copy from
    its parent, so an older timeline there is right.
    """
    try:
        header = parse_page_header(data)
    except IntegrityError as error:
        raise IntegrityError(f"{name.text} is not a WAL segment: {error}") from None
    if header.page_address != name.start_lsn(header.segment_size):
        found = segment_name(header.timeline, header.page_address, header.segment_size)
        raise IntegrityError(f"{name.text} holds another segment: its header is that of {found}")
    if header.timeline > name.timeline:
        raise IntegrityError(f"{name.text} holds WAL of timeline {header.timeline}, newer than its name says")
    refuse_foreign(name, header, system_identifier)
    return header


def refuse_foreign(name: WalName, header: PageHeader, system_identifier: int | None) -> None:
    """Raise ``IntegrityError`` if the segment with this header is of another cluster than ``system_identifier``."""
    if system_identifier not in (None, header.system_identifier):
        raise IntegrityError(
            f"{name.text} belongs to another cluster: its system identifier is {header.system_identifier}, "
            f"not {system_identifier}"
        )
