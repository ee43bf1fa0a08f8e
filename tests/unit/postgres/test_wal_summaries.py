"""Which WAL summaries cover some stretch of WAL, and what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.postgres.wal_summaries import Coverage, Summary, coverage

NEEDED = [Summary(1, 100, 200), Summary(2, 200, 300)]
ALL = [Summary(1, 50, 120), Summary(1, 120, 200), Summary(2, 200, 260), Summary(2, 260, 320)]


def test_they_cover_all_of_it() -> None:
    assert coverage(NEEDED, [Summary(1, 10, 50), *reversed(ALL), Summary(2, 320, 400)]) == Coverage(tuple(ALL), None)


@pytest.mark.parametrize(
    ("without", "missing", "is_lost"),
    [
        (0, Summary(1, 100, 120), True),
        (1, Summary(1, 120, 200), True),
        (2, Summary(2, 200, 260), True),
        (3, Summary(2, 260, 300), False),
    ],
)
def test_the_first_gap_is_named(without: int, missing: Summary, is_lost: bool) -> None:
    found = coverage(NEEDED, [summary for number, summary in enumerate(ALL) if number != without])
    assert (found.missing, found.is_lost) == (missing, is_lost)


def test_without_any_summary_they_may_still_come() -> None:
    assert coverage(NEEDED, []) == Coverage((), NEEDED[0])


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=12), st.integers(0, 30), st.integers(1, 30))
def test_it_is_complete_exactly_if_every_position_is_covered(
    spans: list[tuple[int, int]], start: int, length: int
) -> None:
    summaries = [Summary(1, first, first + size) for first, size in spans]
    found = coverage([Summary(1, start, start + length)], summaries)
    covered = {position for first, size in spans for position in range(first, first + size)}
    holes = [position for position in range(start, start + length) if position not in covered]
    assert (found.missing.start if found.missing else None) == (holes[0] if holes else None)
