from __future__ import annotations

import bz2
import contextlib
import lzma
import random
import shutil
import subprocess
import zlib
from collections.abc import Iterator

import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.archive.buffers import gather
from barman_cloud.archive.compression import (
    DEFAULT_LEVEL,
    SUFFIX,
    compress_bytes,
    compress_stream,
    compression_level,
    compression_of,
    decompress_bytes,
    decompress_stream,
    new_compressor,
    new_decompressor,
)
from barman_cloud.archive.decompressors import STEP
from barman_cloud.archive.libraries import zstd_module
from barman_cloud.errors import ConfigurationError, IntegrityError

every_compression = pytest.mark.parametrize("name", SUFFIX)
every_stream = pytest.mark.parametrize(("name", "level"), [*((name, None) for name in SUFFIX), ("lz4", 6)])
"""The slow levels of lz4 are another algorithm, whose blocks are linked."""


def some_data(size: int, seed: int = 1) -> bytes:
    """Half random and half repeating, in an odd mixture."""
    source = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        data += source.randbytes(source.randrange(500)) + b"0123456789 customer " * source.randrange(40)
    return bytes(data[:size])


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    position = 0
    for size in sizes:
        yield data[position : position + size]
        position += size
    yield data[position:]


@every_stream
@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(0, 300_000),
    seed=st.integers(0, 100),
    cuts=st.lists(st.integers(0, 70_000), max_size=6),
    back=st.lists(st.integers(0, 2_000), max_size=60),
)
def test_what_goes_in_comes_out_however_it_is_cut(
    name: str, level: int | None, size: int, seed: int, cuts: list[int], back: list[int]
) -> None:
    data = some_data(size, seed)
    compressor = new_compressor(name, level)
    packed = bytearray()
    for piece in map(bytearray, cut(data, cuts)):
        packed += compressor.compress(piece)
        piece[:] = bytes(len(piece))  # the memory of a buffer that was passed on is used again
    packed += compressor.flush()
    assert b"".join(decompress_stream(cut(bytes(packed), back), name)) == data


@every_compression
def test_mutable_and_foreign_buffers_are_accepted(name: str) -> None:
    data = some_data(50_000)
    packed = b"".join(compress_stream([bytearray(data), memoryview(data)], name))
    assert b"".join(decompress_stream([memoryview(packed)], name)) == data * 2


def test_no_compression_passes_through() -> None:
    assert b"".join(compress_stream([b"ab", b"", b"c"], None)) == b"abc"
    assert list(decompress_stream([b"ab", b"c"], None)) == [b"ab", b"c"]
    compressor, decompressor = new_compressor(None), new_decompressor(None)
    assert bytes(compressor.compress(b"x")) + bytes(compressor.flush()) == b"x"
    assert list(decompressor.decompress(b"x")) == [b"x"]
    decompressor.finish()


def test_an_archive_is_one_member_frame_or_stream() -> None:
    """Barman's reader stops at the end of the first."""
    data = some_data(1 << 20)
    pieces = [data[start : start + 200_000] for start in range(0, len(data), 200_000)]
    for name, reader in (
        ("gzip", zlib.decompressobj(31)),
        ("bzip2", bz2.BZ2Decompressor()),
        ("xz", lzma.LZMADecompressor()),
        ("lz4", lz4.frame.LZ4FrameDecompressor()),
        ("zstd", zstd_module().ZstdDecompressor()),
    ):
        assert reader.decompress(b"".join(compress_stream(pieces, name))) == data, name
        assert reader.eof, name
        assert not reader.unused_data, name
    assert b"".join(compress_stream(pieces, "snappy")).count(b"\xff\x06\x00\x00sNaPpY") == 1


@every_compression
def test_several_members_in_a_row_are_read(name: str) -> None:
    first, second = some_data(200_000, 1), some_data(100_000, 2)
    packed = compress_bytes(first, name) + compress_bytes(b"", name) + compress_bytes(second, name)
    assert decompress_bytes(packed, name) == first + second
    assert b"".join(decompress_stream((packed[i : i + 1] for i in range(len(packed))), name)) == first + second


@pytest.mark.parametrize("name", sorted(SUFFIX.keys() - {"snappy"}))
def test_zero_padding_after_the_end_is_allowed(name: str) -> None:
    assert decompress_bytes(compress_bytes(b"content", name) + bytes(4096), name) == b"content"


def test_snappy_padding_and_skippable_chunks_are_skipped() -> None:
    packed = compress_bytes(b"content", "snappy")
    extra = b"\xfe\x05\x00\x00hello" + b"\x80\x00\x00\x00"
    assert decompress_bytes(packed + extra + packed + extra, "snappy") == b"contentcontent"


@every_stream
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_stream_that_was_cut_off_is_refused(name: str, level: int | None, data: st.DataObject) -> None:
    packed = compress_bytes(some_data(150_000), name, level)
    end = data.draw(st.integers(0, len(packed) - 1))
    if name == "snappy" and end >= 10 and _is_snappy_boundary(packed, end):
        return
    with pytest.raises(IntegrityError):
        decompress_bytes(packed[:end], name)


def _is_snappy_boundary(packed: bytes, end: int) -> bool:
    position = 0
    while position < end:
        position += 4 + int.from_bytes(packed[position + 1 : position + 4], "little")
    return position == end


@every_compression
@pytest.mark.parametrize("garbage", [b"this is no compressed data at all", bytes(200), b"\xff" * 64], ids=repr)
def test_garbage_is_refused_with_the_name_of_its_source(name: str, garbage: bytes) -> None:
    with pytest.raises(IntegrityError, match="s3://bucket/key"):
        decompress_bytes(garbage, name, "s3://bucket/key")
    with pytest.raises(IntegrityError):
        decompress_bytes(compress_bytes(b"content", name) + b"garbage" + garbage, name)


@every_stream
def test_damage_is_found(name: str, level: int | None) -> None:
    packed = bytearray(compress_bytes(random.Random(3).randbytes(100_000), name, level))
    packed[50_000] ^= 0x10
    with pytest.raises(IntegrityError):
        decompress_bytes(packed, name)


def test_damaged_lz4_frames_without_checksums_never_crash() -> None:
    packed = lz4.frame.compress(some_data(100_000))
    source = random.Random(4)
    for _ in range(50):
        broken = bytearray(packed)
        broken[source.randrange(15, len(broken))] ^= 1 << source.randrange(8)
        with contextlib.suppress(IntegrityError):
            assert len(decompress_bytes(broken, "lz4")) <= 256 << 10


@every_compression
def test_output_is_bounded_whatever_the_input(name: str) -> None:
    size = 64 << 20
    packed = compress_bytes(bytes(size), name)
    total = 0
    for piece in decompress_stream([packed], name):
        assert len(piece) <= STEP
        total += len(piece)
    assert total == size


def test_the_limit_of_a_whole_file_is_kept() -> None:
    packed = compress_bytes(bytes(10_000), "gzip")
    assert len(decompress_bytes(packed, "gzip", limit=10_000)) == 10_000
    with pytest.raises(IntegrityError, match="more than 9999 bytes"):
        decompress_bytes(packed, "gzip", "segment", limit=9_999)


@every_compression
def test_the_same_input_gives_the_same_output(name: str) -> None:
    data = some_data(1 << 20)
    assert compress_bytes(data, name) == compress_bytes(data, name)


@pytest.mark.parametrize(
    ("name", "tool"), [("gzip", "gzip"), ("bzip2", "bzip2"), ("xz", "xz"), ("lz4", "lz4"), ("zstd", "zstd")]
)
@pytest.mark.parametrize("size", [0, 1, 1_000_000])
def test_the_usual_tools_read_it_and_we_read_theirs(name: str, tool: str, size: int) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} isn't installed")
    data = some_data(size)
    for level in (None, 9):
        packed = compress_bytes(data, name, level)
        assert subprocess.run([tool, "-dc"], input=packed, capture_output=True, check=True).stdout == data
    theirs = subprocess.run([tool, "-c"], input=data, capture_output=True, check=True).stdout
    assert decompress_bytes(theirs, name) == data


@pytest.mark.parametrize(
    ("name", "low", "medium", "high", "least", "most", "default"),
    [
        ("gzip", 1, 6, 9, 1, 9, 6),
        ("bzip2", 1, 5, 9, 1, 9, 5),
        ("xz", 1, 3, 5, 1, 9, 1),
        ("zstd", 1, 4, 9, -22, 22, 1),
        ("lz4", 0, 6, 10, 0, 16, 0),
        ("snappy", 0, 0, 0, 0, 0, 0),
    ],
)
def test_compression_levels(name: str, low: int, medium: int, high: int, least: int, most: int, default: int) -> None:
    assert [compression_level(name, word) for word in ("low", "medium", "high", None)] == [low, medium, high, default]
    assert (compression_level(name, -99), compression_level(name, 99)) == (least, most)
    for level in {low, medium, high, least, most}:
        if (name, level) != ("xz", 9):  # a dictionary of 64 MiB
            assert decompress_bytes(compress_bytes(b"content" * 1000, name, level), name) == b"content" * 1000


def test_unknown_names_and_levels_are_refused() -> None:
    for start in (new_compressor, new_decompressor):
        with pytest.raises(ConfigurationError, match="unknown compression: rot13"):
            start("rot13")
    with pytest.raises(ConfigurationError, match="enormous"):
        compression_level("gzip", "enormous")


def test_compression_is_told_by_the_suffix() -> None:
    for name, suffix in SUFFIX.items():
        assert compression_of(f"a/b/000000010000000000000001{suffix}") == name
    assert compression_of("a/b.gz/data.tar") is None
    assert set(DEFAULT_LEVEL) == set(SUFFIX)


def test_gather_joins_small_buffers_and_passes_large_ones() -> None:
    large = bytes(100)
    gathered = list(gather([b"a", b"b" * 9, b"c", large, b"", b"d", large], size=10))
    assert gathered == [b"a" + b"b" * 9, b"c", large, b"d", large]
    assert gathered[2] is large
    assert list(gather([])) == []


def test_memory_of_a_stream_does_not_grow_with_it() -> None:
    """The compressors keep no more than a window: the output follows the input closely."""
    piece = random.Random(5).randbytes(1 << 20)
    for name in ("gzip", "lz4", "zstd", "snappy"):
        compressor = new_compressor(name)
        held = 0
        for _ in range(16):
            held += len(piece) - len(compressor.compress(piece))
            assert held < 4 << 20, name


def test_zstd_by_several_threads_is_one_frame_like_any_other() -> None:
    data = some_data(6 << 20)
    packed = b"".join(compress_stream(cut(data, [1 << 20, 3 << 20]), "zstd", threads=3))
    assert decompress_bytes(packed, "zstd") == data
    assert zstd_module().get_frame_info(packed).decompressed_size in (None, len(data))
    assert zstd_module().get_frame_size(packed) == len(packed)
    assert len(packed) < 1.02 * len(compress_bytes(data, "zstd"))
    assert packed == b"".join(compress_stream([data], "zstd", threads=2)), "the same bytes, whatever the threads"
