"""Reading and writing times."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from barman_cloud.catalog.times import doubt_about, format_time, format_to_the_second, parse_time
from tests.support.postgres import PostgresServer


@pytest.fixture
def rome(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Rome")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22 12:11:02.844512+00:00",
        "2026-11-22T12:11:02.844512Z",
        "2026-11-22 07:11:02.844512-05",
        " 2026-11-22 13:11:02.844512+0100 ",
        "Sun Nov 22 12:11:02.844512 2026 UTC",
    ],
)
def test_many_ways_to_write_one_instant(text: str) -> None:
    assert parse_time(text) == datetime(2026, 11, 22, 12, 11, 2, 844512, UTC)


@pytest.mark.parametrize(
    ("text", "hour", "offset"),
    [
        ("2026-11-22 12:00:00", 12, 1),
        ("Wed Jul  1 12:00:00 2026", 12, 2),
        ("2026-07-01", 0, 2),
    ],
)
def test_without_a_zone_the_local_one_counts(rome: None, text: str, hour: int, offset: int) -> None:
    parsed = parse_time(text)
    assert parsed.hour == hour
    assert parsed.utcoffset() == timedelta(hours=offset)


@pytest.mark.parametrize("text", ["", "junk", "2026-13-45", "12/34/56/78", "9" * 400, f"2026-11-22 12:{'9' * 30}:02.8"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is"):
        parse_time(text)


@pytest.mark.parametrize(("zone", "offset"), [("CET", 1), ("CEST", 2), ("UTC", 0), ("GMT", 0), ("-05:00", -5)])
def test_names_of_the_local_zone_are_known(rome: None, zone: str, offset: int) -> None:
    """In the hour that comes twice, the name tells which one is meant."""
    assert parse_time(f"Oct 25 2026 02:30 {zone}").utcoffset() == timedelta(hours=offset)


def test_the_name_of_another_zone_is_never_taken_for_the_local_one(rome: None) -> None:
    with pytest.raises(ValueError, match=r"time zone 'EST' is not known here; write an offset"):
        parse_time("2026-11-22 12:00:00 EST")


DOUBTFUL = {
    "2026-11-22 12:00 UTC+9": "9 hours behind UTC.*12:00:00-09:00.*write [+]09 without UTC",
    "2026-11-22 12:00:00 GMT+9": "behind",
    "2026-11-22 12:00 UTC-5": "5 hours ahead of UTC.*write -05",
    "2026-11-22 12:00 UTC+09:30": "09:30 hours behind",
    "2026-11-22 12:00UTC+9": "behind",
    "2026-10-25 02:30": "exists twice; taken for 2026-10-25 02:30:00[+]01:00, not for 2026-10-25 02:30:00[+]02:00",
    "Oct 25 2026 02:59:59": "exists twice",
    "2026-03-29 02:30": "doesn't exist; taken for 2026-03-29 03:30:00[+]02:00",
}
PLAIN = [
    "2026-10-25 02:30:00 CET",
    "2026-10-25 02:30:00 CEST",
    "2026-10-25 03:00",
    "2026-10-25 01:59:59",
    "2026-03-29 01:59",
    "2026-11-22 12:00:00+9",
    "2026-11-22 12:00:00-0530",
    "2026-11-22 12:00:00+05:30:15",
    "20261122T121102",
    "Nov 22 2026",
    "11/12/2026",
    "10.11.2026",
]


@pytest.mark.parametrize("text", DOUBTFUL)
def test_a_text_that_can_be_read_in_two_ways_is_told_of(rome: None, text: str) -> None:
    doubt = doubt_about(text)
    assert doubt is not None
    assert re.search(DOUBTFUL[text], doubt), doubt


@pytest.mark.parametrize("text", PLAIN)
def test_any_other_text_is_not(rome: None, text: str) -> None:
    assert doubt_about(text) is None


def test_times_are_those_that_postgresql_reads(rome: None, postgres: PostgresServer) -> None:
    with postgres.connect() as connection:
        connection.execute("SET timezone = 'Europe/Rome'")
        for text in [*DOUBTFUL, *PLAIN]:
            (seconds,) = connection.execute(
                "SELECT extract(epoch FROM %s::timestamptz)::bigint", [text]
            ).fetchone() or (None,)
            assert parse_time(text).timestamp() == seconds, text


def test_forms() -> None:
    moment = datetime(2026, 11, 22, 7, 33, 16, 619702, timezone(timedelta(hours=-5)))
    assert format_time(moment) == "2026-11-22 07:33:16.619702-05:00"
    assert format_time(moment.replace(microsecond=0)) == "2026-11-22 07:33:16-05:00"
    assert format_to_the_second(moment) == "2026-11-22 07:33:16"
