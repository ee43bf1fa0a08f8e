"""Tar archives as streams: POSIX pax on the way out, every dialect in use on the way in.

The standard library's ``tarfile`` remembers every member, costs 100 microseconds a header and copies file contents in
16 KiB pieces; archives of a database are a million small files or a few of a gigabyte. A member is written as::

    member_header(member) + content + padding(member.size)

and after the last one follows ``end_of_archive()``. Formats: POSIX.1-2017, "pax Interchange Format"; GNU tar manual,
"Basic Tar Format". Names are ``str`` as ``os.fsdecode`` gives them: what an archive holds are the bytes of the name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias
from zlib import adler32

from barman_cloud.archive.buffers import Buffer
from barman_cloud.errors import IntegrityError

BLOCK: Final = 512
RECORD: Final = 20 * BLOCK

Kind: TypeAlias = Literal["file", "hardlink", "symlink", "character device", "block device", "directory", "fifo"]

_FLAG: Final[dict[Kind, bytes]] = {
    "file": b"0",
    "hardlink": b"1",
    "symlink": b"2",
    "character device": b"3",
    "block device": b"4",
    "directory": b"5",
    "fifo": b"6",
}
_KIND: Final[dict[bytes, Kind]] = {flag: kind for kind, flag in _FLAG.items()} | {b"\0": "file", b"7": "file"}

_ZEROS: Final = bytes(RECORD)
_ZERO_BLOCK: Final = bytes(BLOCK)
_BLANK: Final = b" " * 8
_LARGEST_OCTAL: Final = 8**11 - 1
_LARGEST_ID: Final = 8**7 - 1
_LONGEST_EXTENSION: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive knows of one file, directory or link."""

    name: str
    """Relative path with ``/``; directories have no trailing slash here, only in the archive."""
    kind: Kind = "file"
    mode: int = 0o600
    """Permission bits only."""
    uid: int = 0
    gid: int = 0
    uname: str = ""
    gname: str = ""
    size: int = 0
    """Bytes of content that follow; 0 unless ``kind`` is ``file``."""
    mtime: float = 0.0
    """Seconds since 1970; written with microseconds."""
    linkname: str = ""


# Writing


def member_header(member: Member) -> bytes:
    """Return the pax header and the ustar header of ``member``, a multiple of 512 bytes."""
    name, kind, size, mtime = member.name, member.kind, member.size, member.mtime
    if kind == "directory":
        name += "/"
    # The usual case in about three microseconds: everything fits, and the pax header holds nothing but the time.
    if (
        name.isascii()
        and len(name) <= 100
        and not member.linkname
        and 0 <= size <= _LARGEST_OCTAL
        and 1e9 <= mtime < 9_999_999_999
        and (owner := _owner_fields(kind, member.mode, member.uid, member.gid, member.uname, member.gname))
    ):
        head = b"%b%b%011o\0%011o\0" % (name.encode().ljust(100, b"\0"), owner[0], size, int(mtime))
        return b"".join((_MTIME_ONLY, (b"27 mtime=%.6f\n" % mtime).ljust(BLOCK, b"\0"), _sealed(head, owner[1])))
    return _unusual_header(member, name)


def padding(size: int) -> bytes:
    """Return the zero bytes that follow content of ``size`` bytes."""
    return _ZEROS[: -size % BLOCK]


def end_of_archive(size: int = 0) -> bytes:
    """Return the end mark of an archive of ``size`` bytes so far: two zero blocks, and zeros up to 10,240 bytes."""
    return _ZEROS[: 2 * BLOCK] + _ZEROS[: -(size + 2 * BLOCK) % RECORD]


def _sealed(head: bytes, tail: bytes) -> bytes:
    """Put the checksum between the 148 bytes before it and the 356 after; both are ASCII.

    Adler-32 starts with a plain sum of the bytes plus 1, modulo 65,521: more than 512 bytes of ASCII can reach.
    """
    checksum = (adler32(head + _BLANK + tail) & 0xFFFF) - 1
    return b"%b%06o\0 %b" % (head, checksum, tail)


@lru_cache(4096)
def _owner_fields(
    kind: Kind, mode: int, uid: int, gid: int, uname: str, gname: str, linkname: str = ""
) -> tuple[bytes, bytes] | None:
    """Return mode, uid and gid, and all that follows the checksum; None if something doesn't fit."""
    names = (uname.isascii() and gname.isascii()) and max(len(uname), len(gname)) < 32
    if not (names and 0 <= uid <= _LARGEST_ID and 0 <= gid <= _LARGEST_ID):
        return None
    tail = b"%b%bustar\x0000%b%b%b%b" % (
        _FLAG[kind],
        linkname.encode().ljust(100, b"\0"),
        uname.encode().ljust(32, b"\0"),
        gname.encode().ljust(32, b"\0"),
        b"0000000\0" * 2,
        bytes(155 + 12),
    )
    return b"%07o\0%07o\0%07o\0" % (mode & 0o7777, uid, gid), tail


def _unusual_header(member: Member, name: str) -> bytes:
    """Return the headers of a member of any kind; what ustar can't hold stands in the pax header."""
    size = member.size if member.kind == "file" else 0
    seconds = int(member.mtime)
    texts: dict[str, str] = {"mtime": f"{member.mtime:.6f}"}
    if not _fits(name, 100):
        texts["path"] = name
    if not _fits(member.linkname, 100):
        texts["linkpath"] = member.linkname
    if size > _LARGEST_OCTAL:
        texts["size"] = str(size)
    for key, number in (("uid", member.uid), ("gid", member.gid)):
        if not 0 <= number <= _LARGEST_ID:
            texts[key] = str(number)
    texts |= {key: text for key, text in (("uname", member.uname), ("gname", member.gname)) if not _fits(text, 31)}
    plain = _owner_fields(
        member.kind,
        member.mode,
        0 if "uid" in texts else member.uid,
        0 if "gid" in texts else member.gid,
        _ascii(member.uname, 31),
        _ascii(member.gname, 31),
        _ascii(member.linkname, 100),
    )
    assert plain is not None
    head = b"%b%b%011o\0%011o\0" % (
        _ascii(name, 100).encode().ljust(100, b"\0"),
        plain[0],
        0 if "size" in texts else size,
        seconds if 0 <= seconds <= _LARGEST_OCTAL else 0,
    )
    records = pax_records(texts)
    return b"".join((_pax_header(len(records)), records, padding(len(records)), _sealed(head, plain[1])))


def _fits(text: str, longest: int) -> bool:
    return text.isascii() and len(text) <= longest and "\0" not in text


def _ascii(text: str, longest: int) -> str:
    return text.encode("ascii", "replace").decode().replace("\0", "?")[:longest]


def pax_records(texts: dict[str, str]) -> bytes:
    """Return the content of a pax header; names that aren't UTF-8 are marked by ``hdrcharset=BINARY``."""
    pairs = [(key.encode(), os.fsencode(text)) for key, text in texts.items()]
    try:
        b"".join(value for _, value in pairs).decode()
    except UnicodeDecodeError:
        pairs.insert(0, (b"hdrcharset", b"BINARY"))
    return b"".join(_record(key, value) for key, value in pairs)


def _record(key: bytes, value: bytes) -> bytes:
    """Return ``<length> <key>=<value>`` and a line feed, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) > len(str(rest)):
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _pax_header(size: int) -> bytes:
    """Return the ustar header of a pax header with ``size`` bytes of records."""
    head = b"%b%b%011o\0%011o\0" % (b"././@PaxHeader".ljust(100, b"\0"), b"0000000\0" * 3, size, 0)
    return _sealed(head, b"x" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(155 + 12))


_MTIME_ONLY: Final = _pax_header(27)


# Reading


def read_members(chunks: Iterable[Buffer], source: str = "archive") -> Iterator[tuple[Member, Iterator[Buffer]]]:
    """Yield each member of a tar stream with an iterator over its content.

    The content iterator is valid until the next member is asked for; what it left unread is skipped. Buffers are views
    of the chunks where possible. After the end mark the rest of ``chunks`` is read too, so that checks at the end of a
    compressed stream take place. Memory doesn't depend on the number or size of members.

    ``IntegrityError`` if the archive is damaged, cut off (an end mark is required) or uses sparse files or volumes.
    """
    stream = _Stream(chunks, source)
    shared: dict[str, bytes] = {}
    extended: dict[str, bytes] = {}
    while (header := stream.read(BLOCK)) != _ZERO_BLOCK:
        flag = _checked(header, source)
        size = _number(header[124:136], source)
        if flag == b"x":
            extended.update(_parse_pax(stream.extension(size), source))
        elif flag == b"g":
            shared.update(_parse_pax(stream.extension(size), source))
        elif flag == b"L":
            extended.setdefault("path", stream.extension(size).rstrip(b"\0"))
        elif flag == b"K":
            extended.setdefault("linkpath", stream.extension(size).rstrip(b"\0"))
        elif flag == b"V":
            stream.extension(size)
        else:
            member = _member(header, flag, size, {**shared, **extended} if shared else extended, source)
            yield member, stream.content(member.size)
            stream.skip()
            extended = {}
    stream.drain()


class _Stream:
    """The chunks of an archive, cut anew into headers and contents."""

    def __init__(self, chunks: Iterable[Buffer], source: str) -> None:
        self._chunks = iter(chunks)
        self._source = source
        self._chunk: Buffer = b""
        self._position = 0
        self._left = 0
        """Bytes of the current content that weren't read yet."""
        self._padding = 0
        self._serial = 0

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes."""
        position = self._position
        end = position + size
        if end <= len(self._chunk):
            self._position = end
            return bytes(self._chunk[position:end])
        return b"".join(self._pieces(size))

    def extension(self, size: int) -> bytes:
        """Return the content of a header that extends the next one."""
        if not 0 <= size <= _LONGEST_EXTENSION:
            raise IntegrityError(f"{self._source}: damaged archive (an extended header of {size} bytes)")
        return self.read(size + -size % BLOCK)[:size]

    def content(self, size: int) -> Iterator[Buffer]:
        """Start the content of a member, and return an iterator over it."""
        self._left, self._padding = size, -size % BLOCK
        self._serial += 1
        return self._content(self._serial) if size else iter(())

    def skip(self) -> None:
        """Go to the next header."""
        size = self._left + self._padding
        self._left = self._padding = 0
        end = self._position + size
        if end <= len(self._chunk):
            self._position = end
            return
        for _ in self._pieces(size):
            pass

    def drain(self) -> None:
        for _ in self._chunks:
            pass

    def _content(self, serial: int) -> Iterator[Buffer]:
        while self._left and serial == self._serial:
            piece = self._piece(self._left)
            self._left -= len(piece)
            yield piece

    def _pieces(self, size: int) -> Iterator[Buffer]:
        while size:
            piece = self._piece(size)
            size -= len(piece)
            yield piece

    def _piece(self, limit: int) -> Buffer:
        """Return what is left of the current chunk, or else the next one, but at most ``limit`` bytes."""
        while self._position >= len(self._chunk):
            try:
                self._chunk = next(self._chunks)
            except StopIteration:
                raise IntegrityError(f"{self._source}: the archive ends too early") from None
            self._position = 0
        position = self._position
        end = min(position + limit, len(self._chunk))
        self._position = end
        if end - position == len(self._chunk):
            return self._chunk
        return memoryview(self._chunk)[position:end]


def _checked(header: bytes, source: str) -> bytes:
    """Return the type flag of a header whose checksum is right; see ``_sealed`` for the arithmetic."""
    stored = _number(header[148:156], source)
    blanked = header[:148] + _BLANK + header[156:]
    if (stored + 1) % 65521 != adler32(blanked) & 0xFFFF and stored != sum(memoryview(blanked).cast("b")):
        raise IntegrityError(f"{source}: damaged archive (a header's checksum is wrong)")
    return header[156:157]


def _number(field: bytes, source: str) -> int:
    """Parse octal digits, or base 256 when the first bit is set (GNU)."""
    first = field[0]
    if first & 0x80:
        value = int.from_bytes(field, "big", signed=first == 0xFF)
        return value if first == 0xFF else value - (0x80 << 8 * (len(field) - 1))
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise IntegrityError(f"{source}: damaged archive (a header field isn't a number)") from None


def _text(field: bytes) -> str:
    return os.fsdecode(field.partition(b"\0")[0])


def _parse_pax(records: bytes, source: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    position = 0
    try:
        while position < len(records):
            space = records.index(b" ", position)
            end = position + int(records[position:space])
            key, equals, value = records[space + 1 : end - 1].partition(b"=")
            if not equals or end <= space or records[end - 1] != 0x0A:
                raise ValueError
            found[key.decode()] = value
            position = end
    except (ValueError, IndexError):
        raise IntegrityError(f"{source}: damaged archive (bad pax record)") from None
    if any(key.startswith("GNU.sparse.") for key in found):
        raise IntegrityError(f"{source}: sparse files in archives aren't supported")
    return found


class _Owner(NamedTuple):
    mode: int
    uid: int
    gid: int
    uname: str
    gname: str


@lru_cache(4096)
def _owner(numbers: bytes, names: bytes, source: str) -> _Owner:
    """Parse what is the same for most members."""
    mode, uid, gid = (_number(numbers[start : start + 8], source) for start in (0, 8, 16))
    return _Owner(mode & 0o7777, uid, gid, _text(names[:32]), _text(names[32:]))


def _member(header: bytes, flag: bytes, size: int, pax: dict[str, bytes], source: str) -> Member:
    """Combine a header with the pax records (or GNU long names) that came before it."""
    kind = _KIND.get(flag)
    if kind is None:
        what = {b"S": "a sparse file", b"M": "a part of a multi-volume archive"}.get(flag, f"of unknown type {flag!r}")
        raise IntegrityError(f"{source}: archive member {_text(header[:100])!r} is {what}, which isn't supported")
    name = _text(header[:100])
    if header[345] and header[257:263] == b"ustar\0":
        name = f"{_text(header[345:500])}/{name}"
    linkname = _text(header[157:257]) if header[157] else ""
    mode, uid, gid, uname, gname = _owner(header[100:124], header[265:329], source)
    try:
        mtime = float(pax["mtime"]) if "mtime" in pax else _number(header[136:148], source)
        if len(pax) > 1 or (pax and "mtime" not in pax):
            size = int(pax.get("size") or size)
            uid, gid = int(pax.get("uid") or uid), int(pax.get("gid") or gid)
            name, linkname, uname, gname = (
                os.fsdecode(pax[key]) if pax.get(key) else plain
                for key, plain in (("path", name), ("linkpath", linkname), ("uname", uname), ("gname", gname))
            )
    except ValueError:
        raise IntegrityError(f"{source}: damaged archive (bad pax record of {name!r})") from None
    if name.endswith("/"):
        kind = "directory" if kind == "file" and flag != b"7" else kind
        name = name.rstrip("/") or name
    if kind != "file":
        size = 0
    elif size < 0:
        raise IntegrityError(f"{source}: damaged archive ({name!r} has a size of {size} bytes)")
    return Member(name, kind, mode, uid, gid, uname, gname, size, mtime, linkname)
