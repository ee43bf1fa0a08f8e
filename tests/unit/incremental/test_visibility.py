"""Visibility maps of chains whose increments may lack what maps lose."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Final

import pytest

from barman_cloud.incremental.chains import plan_chain
from barman_cloud.incremental.visibility import BLOCKS_PER_PAGE, HEADER, StaleMaps, misses_clearings
from barman_cloud.postgres.page_checksum import bad_pages, checksum

BLOCK: Final = 8192
TABLE = "base/5/16400"
MAP = f"{TABLE}_vm"
PART, PART_OF_MAP = "base/5/INCREMENTAL.16400", "base/5/INCREMENTAL.16400_vm"


def page(fill: int, number: int, *, checked: bool = True) -> bytes:
    new = bytearray(
        struct.pack("=IIHHHHHHI", 0, 7, 0, 0, 24, BLOCK, BLOCK, BLOCK | 4, 0) + bytes([fill]) * (BLOCK - 24)
    )
    if checked:
        struct.pack_into("=H", new, 8, checksum(new, number))
    return bytes(new)


def marked(data: bytes) -> set[int]:
    """Numbers of the blocks whose two bits are both set, with pages that follow one another."""
    found = set()
    for place in range(len(data) // BLOCK):
        for index, byte in enumerate(data[place * BLOCK + HEADER : (place + 1) * BLOCK]):
            found |= {place * BLOCKS_PER_PAGE + index * 4 + bit for bit in range(4) if byte >> bit * 2 & 3 == 3}
    return found


def cleared(
    manifests: Sequence[Sequence[str]],
    content: bytes,
    changes: dict[str, dict[int, list[int]]] | None,
    path: str = MAP,
    versions: Sequence[int | None] | None = None,
) -> bytes:
    """What becomes of a map; ``changes`` has by path and number of the backup the blocks that it holds."""
    maps = StaleMaps(plan_chain(manifests, ["a", "b", "c"]), versions or [170010] * len(manifests))
    assert path in maps

    def found(path: str, since: int) -> list[list[int]] | None:
        if changes is None:
            return None
        return [blocks for number, blocks in changes.get(path, {}).items() if number > since]

    pieces = [content[start : start + 5000] for start in range(0, len(content), 5000)]
    return b"".join(maps.cleared(path, pieces, found))


@pytest.mark.parametrize(
    ("version", "misses"),
    [
        (160014, False),
        (170000, True),
        (170010, True),
        (170011, False),
        (180004, True),
        (180006, False),
        (190000, False),
        (None, True),
    ],
)
def test_which_releases_it_is(version: int | None, misses: bool) -> None:
    assert misses_clearings(version) is misses


def test_a_checksum_is_that_of_postgresql() -> None:
    dice = random.Random(1)
    for number in (0, 1, 131072, 2**31 + 5):
        data = bytearray(dice.randbytes(BLOCK))
        struct.pack_into("=H", data, 8, checksum(data, number))
        assert bad_pages(bytes(data), [range(number, number + 1)]) == []


def test_the_marks_of_changed_blocks_go_and_all_others_stay() -> None:
    manifests = [[TABLE, MAP], [PART, PART_OF_MAP], [PART, PART_OF_MAP]]
    before = page(0xFF, 0) + page(0xFF, 1)
    after = cleared(manifests, before, {TABLE: {1: [0, 6], 2: [7, BLOCKS_PER_PAGE + 1]}})
    assert marked(before) - marked(after) == {0, 6, 7, BLOCKS_PER_PAGE + 1}
    assert bad_pages(after, [range(2)]) == []
    for start in (0, BLOCK):
        assert after[start : start + 8] + after[start + 10 : start + HEADER] == (before[:8] + before[10:HEADER])


def test_what_the_backup_changed_that_the_map_is_of_counts_for_nothing() -> None:
    manifests = [[TABLE], [PART, MAP], [PART, PART_OF_MAP]]
    after = cleared(manifests, page(0xFF, 0), {TABLE: {1: [3], 2: [9]}})
    assert set(range(BLOCKS_PER_PAGE)) - marked(after) == {9}


def test_of_a_table_that_a_later_backup_has_whole_no_mark_stays() -> None:
    manifests = [[TABLE, MAP], [TABLE, PART_OF_MAP], [PART, PART_OF_MAP]]
    after = cleared(manifests, page(0xFF, 0), {TABLE: {2: []}})
    assert marked(after) == set()
    assert bad_pages(after, [range(1)]) == []


def test_where_the_blocks_are_not_known_no_mark_stays() -> None:
    assert marked(cleared([[TABLE, MAP], [PART, PART_OF_MAP]], page(0xFF, 0), None)) == set()


def test_files_of_1_gib_and_pages_of_the_map_end_at_different_blocks() -> None:
    second = f"{TABLE}.1"
    manifests = [[TABLE, second, MAP], [PART, "base/5/INCREMENTAL.16400.1", PART_OF_MAP]]
    before = b"".join(page(0xFF, number) for number in range(6))
    after = cleared(manifests, before, {TABLE: {1: [131071]}, second: {1: [0, 40000]}})
    # What is behind the end of the table has no marks either.
    assert marked(before) - marked(after) == {131071, 131072, 171072} | set(range(262144, 6 * BLOCKS_PER_PAGE))
    gone = cleared([[TABLE, MAP, second], [PART, second, PART_OF_MAP]], before, {TABLE: {1: []}})
    assert marked(gone) == set(range(131072))


def test_pages_without_marks_or_checksums_keep_what_they_have() -> None:
    manifests = [[TABLE, MAP], [PART, PART_OF_MAP]]
    content = bytes(BLOCK) + page(0xFF, 1, checked=False)
    after = cleared(manifests, content, {TABLE: {1: [0, BLOCKS_PER_PAGE]}})
    assert after[:BLOCK] == bytes(BLOCK)
    assert after[BLOCK : BLOCK + HEADER] == content[BLOCK : BLOCK + HEADER]
    assert marked(content) - marked(after) == {BLOCKS_PER_PAGE}
    damaged = bytearray(page(0xFF, 0))
    damaged[4000] ^= 1
    assert bad_pages(cleared(manifests, bytes(damaged), {TABLE: {1: [0]}}), [range(1)]) != []


def test_a_fixed_release_on_top_of_another_is_not_trusted_and_two_fixed_ones_are() -> None:
    plan = plan_chain([[TABLE, MAP], [PART, PART_OF_MAP]], ["a", "b"])
    assert MAP in StaleMaps(plan, [170010, 170011])
    assert list(StaleMaps(plan, [170011, 170011])) == []
    assert list(StaleMaps(plan, [150002, 150002])) == []
    assert list(StaleMaps(plan_chain([[TABLE, MAP], [PART, MAP]], ["a", "b"]), [170010, 170010])) == []
