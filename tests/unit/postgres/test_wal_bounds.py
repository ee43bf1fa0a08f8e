"""Fields of page headers that must fit each other, one at a time, on a segment made by hand."""

from __future__ import annotations

import struct

import pytest

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import parse_page_header, parse_wal_name
from barman_cloud.postgres.wal_check import find_damage
from tests.support.segments import PAGE, SIZE, segment, segment_name

_LEFT = 16
"""Where a page header says how much of an earlier record follows."""


@pytest.mark.parametrize("size", [0, 1000, 4097, 1 << 20])
def test_pages_of_a_size_that_none_have(size: int) -> None:
    data = bytearray(segment(1)[:64])
    struct.pack_into("=I", data, 36, size)
    with pytest.raises(IntegrityError, match=f"pages have {size} bytes"):
        parse_page_header(bytes(data))


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize("change", [-8, 8])
def test_a_page_that_says_another_length_of_what_goes_on(records: bool, change: int) -> None:
    data = bytearray(segment(1))
    lengths = [struct.unpack_from("=I", data, start + _LEFT)[0] for start in range(0, SIZE, PAGE)]
    page = next(n for n in range(2, len(lengths)) if lengths[n - 1] > PAGE and lengths[n] > 100)
    struct.pack_into("=I", data, page * PAGE + _LEFT, lengths[page] + change)
    name = parse_wal_name(segment_name(1))
    assert name is not None
    found = list(find_damage([data], name, records=records))
    assert found[0].offset == page * PAGE
    assert f"a record that lacks {lengths[page]}" in found[0].what
