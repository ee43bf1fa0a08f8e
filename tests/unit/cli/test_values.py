"""Grammar of option values."""

from __future__ import annotations

from argparse import ArgumentTypeError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.cli import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("5B", 5),
        ("1KB", 1024),
        ("1kib", 1000),
        ("100GB", 107374182400),
        ("1.5gb", 1610612736),
        ("2TB", 2 * 1024**4),
    ],
)
def test_size(text: str, expected: int) -> None:
    assert values.size(text) == expected


@pytest.mark.parametrize("text", ["", "B", "10G", "0", "-1", "1.5", "1.5B", "iB", "5iB", "foo", "1e3", "٣"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        values.size(text)


@given(st.integers(1, 10**15), st.sampled_from(["", "B", "KB", "MiB", "gb"]))
def test_size_is_number_times_unit(number: int, unit: str) -> None:
    factors = {"": 1, "B": 1, "KB": 1024, "MiB": 10**6, "gb": 1024**3}
    assert values.size(f"{number}{unit}") == number * factors[unit]


def test_tag_is_split_at_the_first_comma_and_trimmed() -> None:
    with pytest.raises(ArgumentTypeError):
        values.tag("a, b,c")  # a comma isn't a tag character
    assert values.tag(" a , b c ") == ("a", "b c")
    assert values.tag("a,") == ("a", "")


@pytest.mark.parametrize("text", ['"a"\rb', '"a"\nb,c', '"x",\ry', "\udcff,v", "k,\udcff", '"' + "x" * 140_000 + '",v'])
def test_a_tag_that_is_no_record_is_an_error_of_the_command_line(text: str) -> None:
    """The csv module's own errors are none of the kinds that a parser expects."""
    with pytest.raises(ValueError, match=r"tag|form"):
        values.tag_record(text)


def test_tag_record_follows_csv() -> None:
    assert values.tag_record('"a,b",c') == ("a,b", "c")
    assert values.tag_record("é,") == ("é", "")
    with pytest.raises(ValueError, match="key,value"):
        values.tag_record("")


@pytest.mark.parametrize("text", ["", "latest", "20261122T000000", "a\nb", "caf\udce9"])
def test_backup_name_refuses(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        values.backup_name(text)
    assert values.backup_name("café 1") == "café 1"


@pytest.mark.parametrize(("text", "expected"), [("3", "3"), ("0742", "742"), ("4294967299", "4294967299")])
def test_transaction_id(text: str, expected: str) -> None:
    assert values.transaction_id(text) == expected


@pytest.mark.parametrize(
    "text", ["", "abc", "0x10", "-5", "7 ", "1.5", "٣", "0", "2", "4294967296", "18446744073709551616", "1" * 30]
)
def test_transaction_ids_that_the_server_would_refuse(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        values.transaction_id(text)
