"""The compressing libraries, one writer each, behind one protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.libraries import SNAPPY_START, zstd_module


class Compressor(Protocol):
    """A compressed stream being written."""

    def compress(self, data: Buffer, /) -> Buffer:
        """Return what is ready of the stream after ``data``; often empty."""

    def flush(self) -> Buffer:
        """Return the rest of the stream, its end included. Nothing may follow."""


class Plain:
    """No compression."""

    def compress(self, data: Buffer, /) -> Buffer:
        return data

    def flush(self) -> Buffer:
        return b""


class _Lz4:
    """One LZ4 frame of 64 KiB blocks.

    For the fast levels, independent blocks of that size pack 1 to 4 % better than linked or larger ones: positions in
    them fit 16 bits, so that the library's table holds twice as many. The slow levels find more the further they may
    look back, so their blocks are linked. Each block carries a checksum: it costs 1 %, and one of the whole content
    would cost 30 %.
    """

    _SLOW = 3
    """The lowest level of the slow algorithm (LZ4 HC), as of lz4 1.9."""

    def __init__(self, level: int) -> None:
        import lz4.frame

        self._frame = lz4.frame.LZ4FrameCompressor(
            compression_level=level,
            block_size=lz4.frame.BLOCKSIZE_MAX64KB,
            block_linked=level >= self._SLOW,
            block_checksum=True,
        )
        self._header: bytes = self._frame.begin()

    def compress(self, data: Buffer, /) -> Buffer:
        packed: bytes = self._frame.compress(data)
        if self._header:
            packed, self._header = self._header + packed, b""
        return packed

    def flush(self) -> Buffer:
        return self._header + bytes(self._frame.flush())


class _Snappy:
    """One framed snappy stream.

    The library's streaming class holds the interpreter's lock, its one-shot function doesn't: each buffer becomes a
    stream of its own, whose identifier is left out after the first.
    """

    def __init__(self, _level: int) -> None:
        import cramjam

        self._pack: Callable[[Buffer], Any] = cramjam.snappy.compress
        self._started = False

    def compress(self, data: Buffer, /) -> Buffer:
        if not data:
            return b""
        packed = memoryview(self._pack(data))
        if self._started:
            return packed[len(SNAPPY_START) :]
        self._started = True
        return packed

    def flush(self) -> Buffer:
        return b"" if self._started else SNAPPY_START


def _gzip(level: int) -> Compressor:
    """Start a gzip member.

    ISA-L has the levels 0 to 3; its level 1 packs better than zlib's 1, its 2 and 3 within 7 % of zlib's 6 and 9, at
    five to ten times the speed.
    """
    from isal import isal_zlib

    stream: Compressor = isal_zlib.compressobj((level + 2) // 3, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)
    return stream


def _bzip2(level: int) -> Compressor:
    import bz2

    return bz2.BZ2Compressor(level)


def _xz(level: int) -> Compressor:
    import lzma

    return lzma.LZMACompressor(preset=level)


def _zstd(level: int) -> Compressor:
    return parallel_zstd(level, 1)


def parallel_zstd(level: int, threads: int) -> Compressor:
    """Start a zstd frame that is compressed by so many threads of the library's own; with one, by the caller's.

    A thread takes 1 MiB at a time, which packs less than 1 % worse than the library's 4 MiB and needs a third of its
    memory.
    """
    zstd = zstd_module()
    parameter = zstd.CompressionParameter
    options = {parameter.compression_level: level, parameter.checksum_flag: 1}
    if threads > 1:
        options |= {parameter.nb_workers: threads, parameter.job_size: 1 << 20}
    stream: Compressor = zstd.ZstdCompressor(options=options)
    return stream


COMPRESSORS: Final[dict[str, Callable[[int], Compressor]]] = {
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zstd": _zstd,
    "lz4": _Lz4,
    "snappy": _Snappy,
}
"""How to start a stream of a compression at a level."""
