"""The figures of page checksums; ``tests/integration/test_page_checksums.py`` asks real clusters."""

import os
import struct

import pytest

from barman_cloud.postgres.page_checksum import BadPage, bad_pages, segment_of

pytest.importorskip("numpy")

PRIME = 16777619
START = (
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
)  # fmt: skip


def checksum(page: bytes, block: int) -> int:
    """The checksum of one page, one word after the other."""
    sums = list(START)
    words = struct.unpack(f"={len(page) // 4}I", page[:8] + b"\0\0" + page[10:])
    for number, word in enumerate((*words, *([0] * 64))):
        mixed = sums[number % 32] ^ word
        sums[number % 32] = (mixed * PRIME & 0xFFFFFFFF) ^ (mixed >> 17)
    result = 0
    for value in sums:
        result ^= value
    return (result ^ block) % 65535 + 1


def page(block: int, size: int = 8192, lsn: int = 0x1_0000_2000) -> bytes:
    body = (
        struct.pack("=II", lsn >> 32, lsn & 0xFFFFFFFF) + b"\0\0" + os.urandom(4) + b"\x01\x02" + os.urandom(size - 16)
    )
    return body[:8] + struct.pack("=H", checksum(body, block)) + body[10:]


@pytest.mark.parametrize("size", [1024, 8192, 32768])
def test_pages_that_are_right(size: int) -> None:
    blocks = [range(7, 10), range(131072, 131073), range(0xFFFFFFF0, 0xFFFFFFF1)]
    data = b"".join(page(number, size) for run in blocks for number in run)
    assert bad_pages(data, blocks, size) == []


@pytest.mark.parametrize("place", [0, 5, 9, 11, 17, 4096, 8191])
def test_one_bit_is_noticed_wherever_it_is(place: int) -> None:
    pages = [bytearray(page(number)) for number in range(5)]
    pages[3][place] ^= 0x10
    found = bad_pages(b"".join(pages), [range(5)])
    assert [bad.place for bad in found] == [3]


def test_a_page_in_another_place_is_noticed_with_its_lsn() -> None:
    data = page(0) + page(2, lsn=0xA_0000_0028)
    assert bad_pages(data, [range(2)]) == [BadPage(1, 0xA_0000_0028)]


def test_a_page_that_was_never_used_is_right_only_if_it_is_empty() -> None:
    empty, torn = bytes(8192), bytearray(8192)
    torn[5000] = 1
    assert bad_pages(empty + bytes(torn), [range(2)]) == [BadPage(1, 0)]


def test_no_pages() -> None:
    assert bad_pages(b"", []) == []


@pytest.mark.parametrize(
    ("path", "segment"),
    [
        ("base/5/16384", 0),
        ("base/5/16384.12", 12),
        ("base/5/16384_fsm", 0),
        ("base/5/16384_vm.1", 1),
        ("base/5/16384_init", 0),
        ("global/1262", 0),
        ("PG_18_202506291/5/16384", 0),
        ("pg_tblspc/99/PG_18_202506291/5/16384.1", 1),
        ("global/pg_control", None),
        ("global/pg_filenode.map", None),
        ("base/5/pg_filenode.map", None),
        ("base/5/PG_VERSION", None),
        ("./PG_VERSION", None),
        ("pg_xact/0000", None),
        ("base/5/t3_16384", None),
    ],
)
def test_which_files_have_checksums(path: str, segment: int | None) -> None:
    assert segment_of(path) == segment
