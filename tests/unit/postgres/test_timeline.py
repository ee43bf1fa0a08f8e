"""Timeline history files as PostgreSQL reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.timeline import Switch, history_name, parse_history


def test_a_file_of_postgresql() -> None:
    data = b"1\t0/3000148\tno recovery target specified\n\n2\t1/A0000000\tbefore 2026-11-22 12:00:00+00\n"
    assert parse_history(data, 3) == (Switch(1, 0x3000148), Switch(2, 0x1_A000_0000))
    assert history_name(26) == "0000001A.history"


def test_comments_and_blank_lines_are_passed_over() -> None:
    assert parse_history(b"# a comment\n  \n 1 0/3000148\n", 2) == (Switch(1, 0x3000148),)


@pytest.mark.parametrize(
    ("data", "timeline"),
    [
        (b"", 2),
        (b"\n# nothing\n", 2),
        (b"<html>\n", 2),
        (b"1\t0/3000148\n", 1),
        (b"2\t0/3000148\n1\t0/4000000\n", 3),
        (b"1\t0/3000148\n1\t0/4000000\n", 3),
        (b"1\t0/4000000\n2\t0/3000148\n", 3),
        (b"1\t0/30001489\n".replace(b"9", b"999"), 2),
        (b"1\t3000148\n", 2),
        (b"99999999999\t0/1\n", 2),
        (b"\xff\xfe1\t0/1\n", 2),
        (bytes(100), 2),
        (b"1\t0/3000148\n<html>\n", 3),
    ],
)
def test_anything_else_is_refused(data: bytes, timeline: int) -> None:
    with pytest.raises(IntegrityError, match=f"{timeline:08X}.history"):
        parse_history(data, timeline)


@given(st.binary(max_size=200), st.integers(1, 9))
def test_no_content_does_harm(data: bytes, timeline: int) -> None:
    try:
        found = parse_history(data, timeline)
    except IntegrityError:
        return
    assert found == tuple(sorted(found))
