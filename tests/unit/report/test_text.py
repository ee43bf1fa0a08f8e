"""Tables, pages, sizes and durations."""

from __future__ import annotations

import pytest

from barman_cloud.report.json_text import document
from barman_cloud.report.text import Section, counted, duration, page, size, table


def test_columns_keep_their_width_and_long_values_push() -> None:
    assert table((4, 3), [("a", "b"), ("abcdef", "")]) == "a   b  \nabcdef   \n"


def test_a_page_leaves_out_what_is_empty() -> None:
    sections = [
        Section(None, [[("Name", "x")]]),
        Section("Empty", [[]]),
        Section("Two blocks", [[("a", 1)], [("b", None)]]),
    ]
    assert page("Thing", sections) == (
        "Thing:\n"
        "  Name                   : x\n"
        "\n"
        "  Two blocks:\n"
        "    a                    : 1\n"
        "\n"
        "    b                    : None\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (26766433, "25.5 MiB"),
        (5 << 30, "5.0 GiB"),
        (3 << 90, "3072.0 YiB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.99, "less than one second"),
        (1, "1 second"),
        (2.9, "2 seconds"),
        (60, "1 minute"),
        (3661, "1 hour, 1 minute, 1 second"),
        (172800, "2 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_document_is_one_line_of_ascii() -> None:
    assert document({"a": "ä\n", "b": [1, None]}) == '{"a": "\\u00e4\\n", "b": [1, null]}\n'


def test_things_are_counted_in_words() -> None:
    assert [counted(number, "archive") for number in (0, 1, 2)] == ["0 archives", "1 archive", "2 archives"]
