"""PostgreSQL's ``backup_manifest``: written as a stream, and read as one (PostgreSQL docs, "Backup Manifest Format").

Millions of files may be in it, and entries come from several workers. Each worker has an :class:`EntrySpool`, which
keeps finished lines compressed in memory, about 25 bytes a file. ``manifest_stream`` puts the lines of all together.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from isal import isal_zlib

from barman_cloud.archive.buffers import Buffer
from barman_cloud.errors import IntegrityError

_SPOOL_BLOCK: Final = 128 << 10
_CHECKSUM_KEY: Final = b'"Manifest-Checksum": "'
_LONGEST_LINE: Final = 64 << 10
_LARGEST_FRAME: Final = 1 << 20
"""Bytes of a manifest without its files: a line for each timeline that the backup's WAL is on, and little else."""
_LARGEST_FILE: Final = 1 << 62
_LONGEST_PATH: Final = 4096
_TEXTS: Final = (str, type(None))
_FILE_STARTS: Final = (b'{ "Path"', b'{ "Encoded-Path"')


@dataclass(frozen=True, slots=True)
class WalRange:
    """WAL that is needed to make the backup consistent; LSNs as int."""

    timeline: int
    start_lsn: int
    end_lsn: int


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a manifest that was read."""

    path: str
    """Relative to the data directory, as ``os.fsdecode`` gives it."""
    size: int
    last_modified: str
    algorithm: str | None
    """``CRC32C``, ``SHA224`` …, or None."""
    checksum: str | None
    """Hexadecimal digits; of a CRC-32C the least significant byte first."""

    @property
    def crc(self) -> int | None:
        """The CRC-32C as a number; None if the manifest has none, or another checksum."""
        if self.algorithm != "CRC32C" or self.checksum is None:
            return None
        return int.from_bytes(bytes.fromhex(self.checksum), "little")


def crc32c_text(checksum: int) -> str:
    """Return a CRC-32C as PostgreSQL writes it: the bytes of a little-endian number, in hexadecimal."""
    return checksum.to_bytes(4, "little").hex()


class EntrySpool:
    """The entries of one worker, compressed in memory. Not to be shared between threads."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._pending = 0
        self._blocks: list[bytes] = []
        self.count = 0
        self.size = 0
        """Bytes of all entries, with a comma and a line feed after each."""

    def add(self, path: str, size: int, mtime: float, checksum: int | None) -> None:
        """Add a file: its path from the data directory, bytes, seconds since 1970 and CRC-32C (None: not known)."""
        line = _entry(path, size, int(mtime), checksum)
        self._lines.append(line)
        self._pending += len(line)
        self.count += 1
        self.size += len(line)
        if self._pending >= _SPOOL_BLOCK:
            self._blocks.append(isal_zlib.compress(b"".join(self._lines), 1))
            self._lines.clear()
            self._pending = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield all entries, in runs of many."""
        for block in self._blocks:
            yield isal_zlib.decompress(block)
        if self._lines:
            yield b"".join(self._lines)


class ManifestSpool:
    """A manifest as a server sent it, byte for byte, compressed in memory: about 25 bytes a file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._pending = 0
        self._blocks: list[bytes] = []
        self._digest = hashlib.sha256()
        self._rest = b""
        """What comes after the last line feed but one: it may be the line of the checksum, which isn't part of it."""
        self.size = 0
        self.count = 0
        """Files that it lists."""

    def add(self, piece: Buffer) -> None:
        """Add what comes next."""
        self._pieces.append(bytes(piece))
        self._pending += len(piece)
        self.size += len(piece)
        if self._pending >= _SPOOL_BLOCK:
            self._pack()

    def finish(self) -> None:
        """Check that the manifest is whole: ``IntegrityError`` if its own checksum, in its last line, is wrong."""
        self._pack()
        if self._rest != _CHECKSUM_KEY + self._digest.hexdigest().encode() + b'"}\n':
            raise IntegrityError("the server's manifest is damaged or cut off: its own checksum is wrong")

    def __iter__(self) -> Iterator[bytes]:
        """Yield the manifest."""
        for block in self._blocks:
            yield isal_zlib.decompress(block)

    def _pack(self) -> None:
        block = b"".join(self._pieces)
        self._blocks.append(isal_zlib.compress(block, 1))
        self._pieces.clear()
        self._pending = 0
        text = self._rest + block
        end = text.rfind(b"\n", 0, len(text) - 1) + 1
        whole, self._rest = text[:end], text[end:]
        self._digest.update(whole)
        self.count += sum(whole.count(start) for start in _FILE_STARTS)


def manifest_stream(
    spools: Sequence[EntrySpool],
    wal_ranges: Sequence[WalRange],
    system_identifier: int | None = None,
    *,
    padded_lsns: bool = False,
) -> tuple[int, Iterator[bytes]]:
    """Return the size in bytes of a manifest, and its content.

    With ``system_identifier`` it is of version 2 (PostgreSQL 17 and later), otherwise of version 1; with
    ``padded_lsns`` LSNs are as PostgreSQL 19 prints them. The spools may not change until the content was read.
    """
    version = b"1" if system_identifier is None else b'2,\n"System-Identifier": %d' % system_identifier
    head = b'{ "PostgreSQL-Backup-Manifest-Version": %b,\n"Files": [' % version
    ranges = b",\n".join(_wal_range(wal_range, padded_lsns) for wal_range in wal_ranges)
    tail = b'\n],\n"WAL-Ranges": [\n%b\n],\n' % ranges
    entries = sum(spool.size for spool in spools)
    separators = 2 if entries else 0
    # A line feed before the first entry, none (and no comma) after the last; then the checksum of 64 digits.
    size = len(head) + (1 + entries - separators if entries else 0) + len(tail) + len(_CHECKSUM_KEY) + 64 + 3
    return size, _content(head, spools, tail)


def _content(head: bytes, spools: Sequence[EntrySpool], tail: bytes) -> Iterator[bytes]:
    digest = hashlib.sha256(head)
    yield head
    separator = b"\n"
    for spool in spools:
        for lines in spool:
            piece = separator + lines[:-2]
            separator = b",\n"
            digest.update(piece)
            yield piece
    digest.update(tail)
    yield tail
    yield b'%b%b"}\n' % (_CHECKSUM_KEY, digest.hexdigest().encode())


def _entry(path: str, size: int, mtime: int, checksum: int | None) -> bytes:
    if path.isascii() and path.isprintable() and '"' not in path and "\\" not in path:
        name = f'"Path": "{path}"'
    else:
        name = _unusual_path(path)
    if checksum is None:
        return f'{{ {name}, "Size": {size}, "Last-Modified": "{_gmt(mtime)}" }},\n'.encode()
    return (
        f'{{ {name}, "Size": {size}, "Last-Modified": "{_gmt(mtime)}", '
        f'"Checksum-Algorithm": "CRC32C", "Checksum": "{crc32c_text(checksum)}" }},\n'
    ).encode()


def _unusual_path(path: str) -> str:
    name = os.fsencode(path)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return f'"Encoded-Path": "{name.hex()}"'
    return f'"Path": {json.dumps(text, ensure_ascii=False)}'


@lru_cache(4096)
def _gmt(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(seconds))


def _wal_range(wal_range: WalRange, padded: bool) -> bytes:
    width = 8 if padded else 1
    start, end = (f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:0{width}X}" for lsn in (wal_range.start_lsn, wal_range.end_lsn))
    return f'{{ "Timeline": {wal_range.timeline}, "Start-LSN": "{start}", "End-LSN": "{end}" }}'.encode()


def read_wal_ranges(tail: bytes) -> tuple[WalRange, ...]:
    """Return the WAL ranges that the last bytes of a manifest tell of, unchecked; empty if they make no sense.

    They tell which backup a manifest belongs to, without reading all of it.
    """
    _, found, rest = tail.rpartition(b'"WAL-Ranges": ')
    try:
        return _wal_ranges(json.loads(rest[: rest.index(b"]") + 1])) if found else ()
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return ()


class ManifestReader:
    """Iterates over the files of a manifest without holding it in memory.

    Whatever is in it, the paths are below the data directory and sizes and checksums are of the right form. The reader
    relies on what PostgreSQL's own writer guarantees: one file in a line, and the checksum alone in the last one.
    When the iteration has ended, the checksum was right, and ``version``, ``system_identifier`` and ``wal_ranges`` are
    set. ``IntegrityError`` says which line is wrong.
    """

    def __init__(self, chunks: Iterable[Buffer], source: str = "backup_manifest") -> None:
        self._chunks = chunks
        self._source = source
        self._number = 0
        self.version = 0
        self.system_identifier: int | None = None
        self.wal_ranges: tuple[WalRange, ...] = ()

    def __iter__(self) -> Iterator[ManifestFile]:
        lines = self._lines()
        frame: list[bytes] = []
        size = 0
        for line in lines:
            if line.startswith(_FILE_STARTS):
                yield self._file(line)
            else:
                frame.append(line)
                size += len(line)
                if size > _LARGEST_FRAME:
                    raise self._error("too much that isn't a file entry")
        self._read_frame(b"".join(frame))

    def _lines(self) -> Iterator[bytes]:
        """Yield all lines but the last, without line feeds; that one is compared with the checksum of the others."""
        digest = hashlib.sha256()
        rest = b""
        for chunk in self._chunks:
            *whole, rest = (rest + bytes(chunk)).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                break
            for line in whole:
                self._number += 1
                if line.startswith(_CHECKSUM_KEY):
                    self._check(line, digest.hexdigest().encode())
                    return
                digest.update(line + b"\n")
                yield line
        self._number += 1
        raise self._error("the manifest ends too early")

    def _check(self, line: bytes, expected: bytes) -> None:
        if line != _CHECKSUM_KEY + expected + b'"}':
            raise self._error("the manifest's own checksum is wrong")

    def _file(self, line: bytes) -> ManifestFile:
        item = self._json(line.rstrip(b","))
        try:
            path = os.fsdecode(item["Path"].encode() if "Path" in item else bytes.fromhex(item["Encoded-Path"]))
            algorithm, checksum = item.get("Checksum-Algorithm"), item.get("Checksum")
            file = ManifestFile(path, int(item["Size"]), item["Last-Modified"], algorithm, checksum)
            if not 0 <= file.size <= _LARGEST_FILE:
                raise ValueError(f"a size of {file.size} bytes")
            if checksum is not None:
                bytes.fromhex(checksum)
            if algorithm.__class__ not in _TEXTS or file.last_modified.__class__ is not str:
                raise TypeError("a text is of another type")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise self._error(f"not a file entry ({error!r})") from error
        self._check_path(path)
        return file

    def _check_path(self, path: str) -> None:
        """Refuse what isn't below the data directory, or can't be a path at all."""
        usual = path and path[0] not in "/." and "/." not in path and "//" not in path and path[-1] != "/"
        if len(path) > _LONGEST_PATH or "\0" in path or not (usual or not {"", ".", ".."} & set(path.split("/"))):
            raise self._error(f"{path[:80]!r} is not a path below the data directory")

    def _read_frame(self, text: bytes) -> None:
        """Read what remains of the document without its files and its checksum."""
        document = self._json(text.rstrip().removesuffix(b",") + b"}")
        try:
            self.version = int(document["PostgreSQL-Backup-Manifest-Version"])
            identifier = document.get("System-Identifier")
            self.system_identifier = None if identifier is None else int(identifier)
            self.wal_ranges = _wal_ranges(document["WAL-Ranges"])
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise self._error(f"not a backup manifest ({error!r})") from error
        if self.version not in (1, 2):
            raise self._error(f"manifest version {self.version} is unknown")

    def _json(self, text: bytes) -> dict[str, Any]:
        try:
            item = json.loads(text.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise self._error(f"not JSON as PostgreSQL writes it ({error})") from error
        if not isinstance(item, dict):
            raise self._error("not a JSON object")
        return item

    def _error(self, problem: str) -> IntegrityError:
        return IntegrityError(f"{self._source}, line {self._number}: {problem}")


def _wal_ranges(items: Sequence[dict[str, Any]]) -> tuple[WalRange, ...]:
    return tuple(WalRange(int(item["Timeline"]), _lsn(item["Start-LSN"]), _lsn(item["End-LSN"])) for item in items)


def _lsn(text: str) -> int:
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)
