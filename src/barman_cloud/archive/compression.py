"""Compressed streams: one way in, one way out, for every compression that Barman knows.

Archives of base backups are written as a single gzip member, bzip2 stream, LZ4 or zstd frame or snappy stream, because
Barman's reader stops at the end of the first one. What is read may consist of several, one after another.

The libraries were chosen by measurement (``docs/reference/archive-format.md`` has the numbers). All of them release
the interpreter's lock while they work on a buffer, so buffers should be large: 256 KiB and more. They are imported when
they are first used, since ``wal-archive`` and ``wal-restore`` pay for every import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from barman_cloud.archive.buffers import Buffer, gather
from barman_cloud.archive.compressors import COMPRESSORS, Compressor, Plain, parallel_zstd
from barman_cloud.archive.decompressors import FRAMES, Decompressor, FrameReader, PlainReader, SnappyReader
from barman_cloud.errors import ConfigurationError, IntegrityError

SUFFIX: Final[dict[str, str]] = {
    "gzip": ".gz",
    "bzip2": ".bz2",
    "xz": ".xz",
    "snappy": ".snappy",
    "zstd": ".zst",
    "lz4": ".lz4",
}
"""The suffix of an object's key by the name of its compression."""

DEFAULT_LEVEL: Final[dict[str, int]] = {"gzip": 1, "bzip2": 9, "xz": 3, "snappy": 0, "zstd": 2, "lz4": 0}
"""The level of base backup archives, where speed counts most."""

_WAL_LEVELS: Final[dict[str, dict[str, int]]] = {
    "gzip": {"low": 1, "medium": 6, "high": 9},
    "bzip2": {"low": 1, "medium": 5, "high": 9},
    "xz": {"low": 1, "medium": 3, "high": 5},
    "zstd": {"low": 1, "medium": 4, "high": 9},
    "lz4": {"low": 0, "medium": 6, "high": 10},
}
_WAL_DEFAULT: Final[dict[str, int]] = {"gzip": 6, "bzip2": 5, "xz": 1, "zstd": 1, "lz4": 0}
"""What suits WAL, by measurement (``python -m benchmarks.wal_levels``, figures in ``docs/explanation/wal.md``)."""
_LEVEL_RANGE: Final[dict[str, tuple[int, int]]] = {
    "gzip": (1, 9),
    "bzip2": (1, 9),
    "xz": (1, 9),
    "zstd": (-22, 22),
    "lz4": (0, 16),
}


def compression_of(key: str) -> str | None:
    """Return the name of the compression that the suffix of a key (or file name) stands for, None if there is none."""
    for name, suffix in SUFFIX.items():
        if key.endswith(suffix):
            return name
    return None


def compression_level(name: str, level: str | int | None) -> int:
    """Translate ``--compression-level`` of ``wal-archive``: ``low``, ``medium``, ``high`` or a number as Barman does,
    and None to the level that suits WAL.

    Numbers outside the library's range are moved to its nearest end. ``ConfigurationError`` for other words.
    """
    if name == "snappy":
        return 0
    if level is None:
        return _WAL_DEFAULT[name]
    if isinstance(level, int):
        low, high = _LEVEL_RANGE[name]
        return min(max(level, low), high)
    words = _WAL_LEVELS[name]
    if level not in words:
        raise ConfigurationError(f"unknown compression level: {level}", hint="use low, medium, high or a number")
    return words[level]


def new_compressor(name: str | None, level: int | None = None, threads: int = 1) -> Compressor:
    """Start one compressed stream. ``level`` is on the scale of the format's usual tool; None is ``DEFAULT_LEVEL``.

    Only zstd makes use of more ``threads`` than one.
    """
    if name is None:
        return Plain()
    factory = COMPRESSORS.get(name)
    if factory is None:
        raise ConfigurationError(f"unknown compression: {name}", hint=f"known are {', '.join(SUFFIX)}")
    level = DEFAULT_LEVEL[name] if level is None else level
    return parallel_zstd(level, threads) if name == "zstd" else factory(level)


def new_decompressor(name: str | None, source: str = "stream") -> Decompressor:
    """Start reading a compressed stream, or several in a row. ``source`` names it in messages."""
    if name is None:
        return PlainReader()
    if name == "snappy":
        return SnappyReader(source)
    factory = FRAMES.get(name)
    if factory is None:
        raise ConfigurationError(f"unknown compression: {name}", hint=f"known are {', '.join(SUFFIX)}")
    return FrameReader(name, source, *factory())


def compress_stream(
    chunks: Iterable[Buffer], name: str | None, level: int | None = None, threads: int = 1
) -> Iterator[Buffer]:
    """Compress a stream of buffers; small ones are gathered first, even when ``name`` is None."""
    if name is None:
        yield from gather(chunks)
        return
    compressor = new_compressor(name, level, threads)
    compress = compressor.compress
    for chunk in gather(chunks):
        if packed := compress(chunk):
            yield packed
    if packed := compressor.flush():
        yield packed


def decompress_stream(chunks: Iterable[Buffer], name: str | None, source: str = "stream") -> Iterator[Buffer]:
    """Decompress a stream of buffers, at most 1 MiB at a time; ``IntegrityError`` if it is damaged or cut off."""
    if name is None:
        yield from chunks
        return
    decompressor = new_decompressor(name, source)
    for chunk in chunks:
        yield from decompressor.decompress(chunk)
    decompressor.finish()


def compress_bytes(data: Buffer, name: str | None, level: int | None = None) -> bytes:
    """Compress a whole file in memory, such as a WAL segment. The same version always gives the same output."""
    return b"".join(compress_stream([data], name, level))


def decompress_bytes(data: Buffer, name: str | None, source: str = "stream", limit: int | None = None) -> bytes:
    """Decompress a whole file in memory; ``IntegrityError`` if damaged, cut off or larger than ``limit`` bytes."""
    pieces: list[Buffer] = []
    total = 0
    for piece in decompress_stream([data], name, source):
        total += len(piece)
        if limit is not None and total > limit:
            raise IntegrityError(f"{source}: more than {limit} bytes when decompressed")
        pieces.append(piece)
    return b"".join(pieces)
