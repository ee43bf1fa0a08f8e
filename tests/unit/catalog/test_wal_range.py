"""What of the WAL is there: runs, gaps and the way over timelines."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.catalog.wal_range import (
    Gap,
    Leg,
    Run,
    Segment,
    follow,
    legs,
    name_of,
    number_of,
    runs,
    segments,
)
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal import is_segment_size

SIZE = 16 << 20
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LAYOUT = Layout("", "main")


def listed(*names: str) -> Iterator[tuple[WalObject, datetime | None]]:
    for number, name in enumerate(names):
        wal = LAYOUT.parse_wal_key(LAYOUT.wal(name))
        assert wal is not None
        yield wal, NOON + timedelta(minutes=number)


def there(*numbers: int, timeline: int = 1) -> list[Segment]:
    return [Segment(timeline, number, False, NOON + timedelta(minutes=number)) for number in numbers]


def span(first: int, last: int, timeline: int = 1) -> Run:
    return Run(timeline, first, last, NOON + timedelta(minutes=first), NOON + timedelta(minutes=last), False)


@pytest.mark.parametrize("size", [1 << 20, SIZE, 64 << 20, 1 << 30])
@given(timeline=st.integers(1, 2**32 - 1), lsn=st.integers(0, 2**64 - 1))
def test_names_and_numbers(size: int, timeline: int, lsn: int) -> None:
    name = name_of(timeline, lsn // size, size)
    assert number_of(name, size) == lsn // size
    assert int(name[:8], 16) == timeline


def test_a_name_that_no_segment_has() -> None:
    assert number_of("0000000100000000000000FF", SIZE) == 255
    assert number_of("000000010000000000000100", SIZE) is None
    assert number_of("000000010000000000000004", 1 << 30) is None


@pytest.mark.parametrize(
    ("size", "possible"),
    [
        (0, False),
        (-SIZE, False),
        (SIZE, True),
        (SIZE + 1, False),
        (1 << 20, True),
        (1 << 19, False),
        (1 << 30, True),
        (1 << 31, False),
        (3 << 20, False),
    ],
)
def test_segment_sizes(size: int, possible: bool) -> None:
    assert is_segment_size(size) == possible


def test_each_segment_once() -> None:
    found = list(
        segments(
            listed(
                "000000010000000000000001.gz",
                "000000010000000000000001.lz4",
                "000000010000000000000002",
                "000000010000000000000002.00000028.backup",
                "000000010000000000000003",
                "000000010000000000000003.partial",
                "000000010000000000000004.partial.gz",
                "000000010000000000000100",
                "00000002.history",
                "000000020000000000000004.zst",
            ),
            SIZE,
        )
    )
    assert [(segment.timeline, segment.number, segment.partial) for segment in found] == [
        (1, 1, False),
        (1, 2, False),
        (1, 3, False),
        (1, 4, True),
        (2, 4, False),
    ]


def test_runs_go_on_over_the_end_of_a_folder() -> None:
    names = [name_of(1, number, SIZE) for number in (254, 255, 256, 257, 300)] + [name_of(2, 301, SIZE)]
    assert [run[:3] for run in runs(segments(listed(*names), SIZE))] == [(1, 254, 257), (1, 300, 300), (2, 301, 301)]


@given(st.sets(st.tuples(st.integers(1, 2), st.integers(0, 30))))
def test_runs_hold_what_is_there_and_gaps_the_rest(wanted: set[tuple[int, int]]) -> None:
    found = list(runs(Segment(*entry, False, None) for entry in sorted(wanted)))
    assert {(run.timeline, number) for run in found for number in range(run.first, run.last + 1)} == wanted
    assert all(
        (before.timeline, before.last + 1) < (after.timeline, after.first)
        for before, after in itertools.pairwise(found)
    )


HISTORY = (Switch(1, 5 * SIZE + 100), Switch(2, 8 * SIZE))


@pytest.mark.parametrize(
    ("timeline", "history", "begin", "way"),
    [
        (1, (), (1, 3), [Leg(1, 3, None)]),
        (3, HISTORY, (1, 3), [Leg(1, 3, 4), Leg(2, 5, 7), Leg(3, 8, None)]),
        (3, HISTORY, (2, 6), [Leg(2, 6, 7), Leg(3, 8, None)]),
        (3, HISTORY, (3, 9), [Leg(3, 9, None)]),
        (3, HISTORY, (1, 5), [Leg(2, 5, 7), Leg(3, 8, None)]),
        (3, (Switch(1, 5 * SIZE), Switch(2, 5 * SIZE)), (1, 3), [Leg(1, 3, 4), Leg(3, 5, None)]),
        (3, (Switch(2, 5 * SIZE),), (1, 3), []),
        (2, (), (1, 3), []),
        (4, (Switch(1, SIZE), Switch(3, 2 * SIZE)), (2, 1), []),
    ],
)
def test_the_way_over_timelines(
    timeline: int, history: tuple[Switch, ...], begin: tuple[int, int], way: list[Leg]
) -> None:
    assert list(legs(history, timeline, begin, SIZE)) == way


@pytest.mark.parametrize(
    ("leg", "numbers", "run", "gap"),
    [
        (Leg(1, 3, 5), [3, 4, 5, 6], span(3, 5), None),
        (Leg(1, 3, 5), [3, 4], span(3, 4), Gap(1, 5, None)),
        (Leg(1, 3, 5), [3, 5], span(3, 3), Gap(1, 4, 5)),
        (Leg(1, 3, 5), [], None, Gap(1, 3, None)),
        (Leg(1, 3, 5), [7], None, Gap(1, 3, None)),
        (Leg(1, 3, None), [3, 4], span(3, 4), None),
        (Leg(1, 3, None), [3, 5], span(3, 3), Gap(1, 4, 5)),
        (Leg(1, 3, None), [4], None, Gap(1, 3, 4)),
        (Leg(1, 3, None), [], None, None),
        (Leg(1, 3, 3), [1, 2, 3], span(3, 3), None),
    ],
)
def test_following_a_leg(leg: Leg, numbers: list[int], run: Run | None, gap: Gap | None) -> None:
    assert follow(leg, there(*numbers)) == (run, gap)


def test_another_timeline_does_not_count() -> None:
    assert follow(Leg(1, 3, None), [*there(3), *there(4, timeline=2)]) == (span(3, 3), None)
    assert follow(Leg(1, 3, 4), [*there(3), *there(4, timeline=2)]) == (span(3, 3), Gap(1, 4, None))


def test_not_more_is_listed_than_needed() -> None:
    def endless() -> Iterator[Segment]:
        number = 3
        while True:
            assert number <= 6
            yield from there(number)
            number += 1

    assert follow(Leg(1, 3, 5), endless()) == (span(3, 5), None)
    assert follow(Leg(1, 3, None), endless(), lambda segment: segment.number == 6) == (span(3, 6), None)


def test_memory_does_not_grow_with_the_archive() -> None:
    def many() -> Iterable[tuple[WalObject, datetime | None]]:
        for number in range(10_000):
            name = name_of(1, number, SIZE)
            yield WalObject(f"main/wals/{name[:16]}/{name}.zst", name, "zstd"), NOON

    tracemalloc.start()
    try:
        run, gap = follow(Leg(1, 0, None), segments(many(), SIZE))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert run is not None
    assert (run.last, gap) == (9_999, None)
    assert peak < 300_000
