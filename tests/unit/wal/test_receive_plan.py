"""Where a receiver begins, from what the archive and the spool hold."""

from __future__ import annotations

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConflictError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.store.open import open_store
from barman_cloud.wal.receive_plan import Lineage, held, missing_range, starts

SIZE = 16 << 20
ONE = Lineage(1, (), SIZE)
TWO = Lineage(2, (Switch(1, 5 * SIZE + 100),), SIZE)
LAYOUT = Layout("", "main")


@pytest.mark.parametrize(
    ("present", "restart", "expected"),
    [
        (set(), None, [9]),
        (set(), 7, [7]),
        ({3, 4, 5}, None, [6]),
        ({3, 4, 5}, 6, [6]),
        ({3, 4, 5}, 4, [6]),
        ({3, 4, 5}, 8, [6]),
        ({3, 5}, 6, [4, 6]),
        ({7, 8}, 5, [5, 9]),
    ],
)
def test_begins_at_the_first_segment_that_is_missing(
    present: set[int], restart: int | None, expected: list[int]
) -> None:
    assert starts(present, restart, 9) == expected


def test_a_segment_in_which_the_timeline_changes_is_of_the_newer_one() -> None:
    assert [TWO.timeline_of(number) for number in (4, 5, 6)] == [1, 2, 2]
    assert TWO.name(4) == "000000010000000000000004"
    assert (TWO.end_of(1), TWO.end_of(2), TWO.has(1), TWO.has(3)) == (5 * SIZE + 100, None, True, False)


def test_the_end_of_the_archive_is_found_in_the_bucket_and_the_spool(tmp_path: object) -> None:
    store = open_store(f"file://{tmp_path}")
    for number in (2, 3, 254, 255, 256, 257, 512, 513):
        store.put(LAYOUT.wal(ONE.name(number), ".gz"), b"x")
    store.put(LAYOUT.wal(f"{ONE.name(515)}.partial"), b"x")
    store.put(LAYOUT.wal(TWO.name(700)[:0] + "00000001.history"), b"x")
    assert held(store, LAYOUT, ONE, [ONE.name(514), f"{ONE.name(516)}.partial"], None) == {256, 257, 512, 513, 514}
    assert held(store, LAYOUT, ONE, [], 3) == {2, 3, 254, 255, 256, 257, 512, 513}


def test_wal_of_a_newer_timeline_is_refused(tmp_path: object) -> None:
    store = open_store(f"file://{tmp_path}")
    store.put(LAYOUT.wal(TWO.name(6)), b"x")
    with pytest.raises(ConflictError, match=r"diverged timeline: .* WAL of timeline 2, .* is on timeline 1"):
        held(store, LAYOUT, ONE, [], None)


def test_what_is_missing_is_named() -> None:
    assert missing_range(ONE, 2, 4) == (
        "WAL from 0/2000000 to 0/4000000 (segments 000000010000000000000002 to 000000010000000000000003)"
    )
    assert missing_range(ONE, 2, None) == "WAL from 0/2000000 on (segment 000000010000000000000002)"


def test_an_archive_that_has_only_a_part_of_a_segment_is_gone_on_with_there() -> None:
    assert starts(set(), None, 9, [5, 7]) == [5]
    assert starts(set(), 3, 9, [5]) == [3]
    assert starts(set(), None, 9) == [9]
    assert starts({4}, None, 9, [5]) == [5]
