"""PostgreSQL's incremental files: what is written is read, and nothing else is."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.file_format import (
    BLOCK,
    MAGIC,
    SEGMENT_BLOCKS,
    Header,
    header_size,
    read_blocks,
    read_header,
)


def block(number: int) -> bytes:
    return struct.pack("<I", number) * (BLOCK // 4)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def written(numbers: list[int], truncation: int) -> bytes:
    header = Header(array("I", numbers), truncation)
    data = header.to_bytes() + b"".join(map(block, numbers))
    assert len(data) == header.file_size
    return data


def test_a_file_without_changes_has_twelve_bytes() -> None:
    assert written([], 7) == struct.pack("<3I", MAGIC, 0, 7)


def test_blocks_begin_at_a_whole_block() -> None:
    data = written([2, 3, 9], 10)
    assert data[:24] == struct.pack("<6I", MAGIC, 3, 10, 2, 3, 9)
    assert data[24:BLOCK] == bytes(BLOCK - 24)
    assert data[BLOCK:] == block(2) + block(3) + block(9)
    assert header_size(2045) == BLOCK
    assert header_size(2046) == 2 * BLOCK


@given(st.sets(st.integers(0, 500), max_size=40), st.integers(0, 600), st.integers(7, 3 * BLOCK))
def test_what_is_written_is_read(numbers: set[int], truncation: int, piece: int) -> None:
    ordered = sorted(numbers)
    data = written(ordered, truncation)
    chunks = cut(data, piece)
    header, first = read_header(chunks, len(data), "x")
    assert (list(header.blocks), header.truncation) == (ordered, truncation)
    assert header.length == max(truncation, max(numbers, default=-1) + 1)
    restored = {}
    for offset, content in read_blocks(header, first, chunks, "x"):
        for index in range(len(content) // BLOCK):
            restored[offset // BLOCK + index] = bytes(content[index * BLOCK : (index + 1) * BLOCK])
    assert restored == {number: block(number) for number in ordered}


DAMAGE = {
    "another magic": b"\0" + written([1], 2)[1:],
    "cut header": written([1], 2)[:10],
    "cut numbers": written([1, 2], 2)[:18],
    "cut block": written([1, 2], 2)[:-1],
    "one block more": written([1, 2], 2) + block(3),
    "descending": struct.pack("<5I", MAGIC, 2, 9, 4, 3).ljust(BLOCK, b"\0") + block(4) + block(3),
    "twice the same": struct.pack("<5I", MAGIC, 2, 9, 4, 4).ljust(BLOCK, b"\0") + block(4) + block(4),
    "behind the segment": struct.pack("<4I", MAGIC, 1, 9, SEGMENT_BLOCKS).ljust(BLOCK, b"\0") + block(4),
    "truncation behind the segment": struct.pack("<3I", MAGIC, 0, SEGMENT_BLOCKS + 1),
    "nothing": b"",
}


@pytest.mark.parametrize("data", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told(data: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^base/1/INCREMENTAL\.2: "):
        read_whole(data)


@given(st.binary(max_size=64))
def test_only_our_own_errors_come_out(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        read_whole(struct.pack("<I", MAGIC) + data + b"!")


def read_whole(data: bytes) -> None:
    chunks = cut(data, 1000)
    header, first = read_header(chunks, len(data), "base/1/INCREMENTAL.2")
    for _ in read_blocks(header, first, chunks, "base/1/INCREMENTAL.2"):
        pass
