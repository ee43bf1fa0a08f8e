"""The decompressing libraries, one reader each, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.libraries import SNAPPY_START, zstd_module
from barman_cloud.errors import IntegrityError

STEP: Final = 1 << 20
"""No decompression step returns more than this many bytes, whatever the input."""
_FEED: Final = 384 << 10
"""Bytes given to a library at once: many, since each step costs a change of threads, but not many times ``STEP`` when
decompressed, since the library copies what it can't digest within a step.
"""


class Decompressor(Protocol):
    """A compressed stream being read."""

    def decompress(self, data: Buffer) -> Iterator[Buffer]:
        """Yield what ``data`` adds to the content, in buffers of at most ``STEP`` bytes; ``IntegrityError`` if damaged.

        The iterator must be used up before the next call.
        """

    def finish(self) -> None:
        """Check that the stream was complete; ``IntegrityError`` if it was cut off.

        A snappy stream has no end mark, so one that was cut between two of its chunks can't be told from a whole one.
        """


class PlainReader:
    """No compression."""

    def decompress(self, data: Buffer) -> Iterator[Buffer]:
        yield data

    def finish(self) -> None:
        return


class _Frame(Protocol):
    """What the decompressors of the standard library, and those modelled on them, have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: Buffer, max_length: int, /) -> bytes: ...


_Reader: TypeAlias = tuple[Callable[[], _Frame], tuple[type[Exception], ...]]


def _read_gzip() -> _Reader:
    from isal import igzip_lib

    error: Any = igzip_lib.error
    return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), (error,)


def _read_bzip2() -> _Reader:
    import bz2

    return bz2.BZ2Decompressor, (OSError, ValueError)


def _read_xz() -> _Reader:
    import lzma

    return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), (lzma.LZMAError,)


def _read_lz4() -> _Reader:
    import lz4.frame

    return lz4.frame.LZ4FrameDecompressor, (RuntimeError, ValueError)


def _read_zstd() -> _Reader:
    zstd = zstd_module()
    return zstd.ZstdDecompressor, (zstd.ZstdError,)


FRAMES: Final[dict[str, Callable[[], _Reader]]] = {
    "gzip": _read_gzip,
    "bzip2": _read_bzip2,
    "xz": _read_xz,
    "zstd": _read_zstd,
    "lz4": _read_lz4,
}
"""The frame reader of a compression, and the errors it raises on damaged data; snappy isn't one of them."""


class FrameReader:
    """Reads one or more members or frames, with zero bytes allowed after each (padding of tapes and of ``xz``)."""

    def __init__(
        self, name: str, source: str, new_frame: Callable[[], _Frame], errors: tuple[type[Exception], ...]
    ) -> None:
        self._name = name
        self._source = source
        self._new_frame = new_frame
        self._errors = errors
        self._frame: _Frame | None = new_frame()

    def decompress(self, data: Buffer) -> Iterator[Buffer]:
        view = memoryview(data)
        for start in range(0, len(view), _FEED):
            yield from self._digest(view[start : start + _FEED])

    def _digest(self, piece: Buffer) -> Iterator[Buffer]:
        while True:
            if self._frame is None:
                piece = bytes(piece).lstrip(b"\0")
                if not piece:
                    return
                self._frame = self._new_frame()
            frame = self._frame
            try:
                content = frame.decompress(piece, STEP)
            except self._errors as error:
                raise IntegrityError(f"{self._source}: damaged {self._name} data ({error})") from error
            if content:
                yield content
            if frame.eof:
                piece, self._frame = frame.unused_data or b"", None
            elif frame.needs_input:
                return
            else:
                piece = b""

    def finish(self) -> None:
        if self._frame is not None:
            raise IntegrityError(f"{self._source}: the {self._name} data ends too early")


class SnappyReader:
    """Reads framed snappy streams (``framing_format.txt`` of snappy), up to 16 chunks of 64 KiB in one call."""

    _BATCH: Final = STEP >> 16
    _LONGEST: Final = 80 << 10  # a chunk of 64 KiB that can't be compressed takes 76,490 bytes at most

    def __init__(self, source: str) -> None:
        import cramjam

        self._source = source
        self._unpack: Callable[[Buffer], Any] = cramjam.snappy.decompress
        self._error: type[Exception] = cramjam.DecompressionError
        self._rest: Buffer = b""
        self._started = False

    def decompress(self, data: Buffer) -> Iterator[Buffer]:
        view = memoryview(data)
        for start in range(0, len(view), STEP):
            part = view[start : start + STEP]
            joined = b"".join((self._rest, part)) if self._rest else bytes(part)
            for first, end in self._batches(joined):
                yield self._unpacked(joined, first, end)

    def _batches(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield the bounds of runs of data chunks, and keep an incomplete last chunk for the next call."""
        position = first = count = 0
        while position + 4 <= len(data):
            kind = data[position]
            end = position + 4 + int.from_bytes(data[position + 1 : position + 4], "little")
            self._check(kind, end - position, data[position : position + 10])
            if end > len(data):
                break
            if kind > 1:
                if count:
                    yield first, position
                first, count = end, 0
            else:
                count += 1
                if count == self._BATCH:
                    yield first, end
                    first, count = end, 0
            position = end
        if count:
            yield first, position
        self._rest = data[position:]

    def _check(self, kind: int, length: int, head: bytes) -> None:
        if kind == 0xFF and SNAPPY_START.startswith(head):
            self._started = True
        elif kind == 0xFF or not self._started or 1 < kind < 0x80 or (kind < 2 and length > self._LONGEST):
            raise IntegrityError(f"{self._source}: damaged snappy data (bad chunk)")

    def _unpacked(self, data: bytes, first: int, end: int) -> Buffer:
        try:
            return memoryview(self._unpack(SNAPPY_START + data[first:end]))
        except self._error as error:
            raise IntegrityError(f"{self._source}: damaged snappy data ({error})") from error

    def finish(self) -> None:
        if self._rest or not self._started:
            raise IntegrityError(f"{self._source}: the snappy data ends too early")
