"""Fields of page headers that must fit each other, one at a time, on a segment made by hand."""

from __future__ import annotations

import struct

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal import parse_page_header, parse_wal_name
from barman_cloud.postgres.wal_check import Finding, find_damage
from barman_cloud.postgres.wal_files import check_backup_label
from barman_cloud.postgres.wal_summaries import Summary, coverage
from barman_cloud.wal.receive_plan import Lineage, held
from tests.support.segments import PAGE, SIZE, segment, segment_name
from tests.unit.catalog.builders import memory_store

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


def test_damage_to_the_last_record_shows_at_the_end() -> None:
    data = bytearray(segment(1))
    data[-100] ^= 1
    assert [finding.what for finding in _damage(data)] == ["a record that fails its checksum"]


def test_a_record_that_is_too_short_shows_with_the_next_page() -> None:
    data = bytearray(segment(1))
    begin = 40  # behind the first page's header
    struct.pack_into("=I", data, begin, 5)
    assert _damage(data)[0] == (begin, "a record of 5 bytes, fewer than its header has")


def test_a_page_that_holds_a_label_is_none() -> None:
    label = b"START WAL LOCATION: 0/2000028 (file x)\n"
    name = parse_wal_name(f"{segment_name(1)}.00000028.backup")
    assert name is not None
    check_backup_label(label, name)
    with pytest.raises(IntegrityError, match="not a backup label"):
        check_backup_label(b"<html>" + label, name)


def test_a_summary_of_another_timeline_covers_nothing() -> None:
    found = coverage([Summary(1, 0, 10)], [Summary(2, 0, 10)])
    assert found.summaries == ()
    assert found.missing == (1, 0, 10)


def test_what_was_received_of_another_branch_is_not_held() -> None:
    lineage = Lineage(2, (Switch(1, 5 * SIZE),), SIZE)
    store = memory_store()
    names = [segment_name(3), segment_name(7), segment_name(6, 2)]
    assert held(store, Layout.of(store.url, "main"), lineage, names, None) == {3, 6}


def _damage(data: bytearray) -> list[Finding]:
    name = parse_wal_name(segment_name(1))
    assert name is not None
    return list(find_damage([data], name))
