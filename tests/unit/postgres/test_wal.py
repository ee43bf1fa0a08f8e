import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import IntegrityError, UsageError
from barman_cloud.postgres import wal

SEGMENT_SIZES = st.sampled_from([1 << bits for bits in range(20, 31)])
LSNS = st.integers(0, 2**64 - 1)


def segment(name: str = "000000020000000300000004", size: int = 1 << 20, **changes: int) -> bytearray:
    parsed = wal.parse_wal_name(name)
    assert parsed is not None
    fields = {
        "magic": 0xD118,
        "info": 2,
        "timeline": parsed.timeline,
        "address": parsed.start_lsn(size),
        "rest": 0,
        "system": 7710966728863891090,
        "segment_size": size,
        "block_size": 8192,
    } | changes
    data = bytearray(size)
    struct.pack_into("=HHIQI4xQII", data, 0, *fields.values())
    return data


def check(name: str, data: bytes | bytearray, system: int | None = None) -> wal.PageHeader:
    parsed = wal.parse_wal_name(name)
    assert parsed is not None
    return wal.check_segment(data, parsed, system_identifier=system)


@given(LSNS)
def test_an_lsn_survives_printing(lsn: int) -> None:
    assert wal.parse_lsn(wal.format_lsn(lsn)) == lsn


@given(LSNS)
def test_an_lsn_survives_printing_as_postgresql_19_does_it(lsn: int) -> None:
    text = wal.format_lsn(lsn, 190000)
    assert (wal.parse_lsn(text), len(text.partition("/")[2])) == (lsn, 8)


def test_lsns_are_printed_as_the_server_does() -> None:
    assert [wal.format_lsn(0x2000028, version) for version in (0, 180006, 190000)] == [
        "0/2000028",
        "0/2000028",
        "0/02000028",
    ]


@pytest.mark.parametrize("text", ["", "1", "1/", "/1", "1/2/3", "g/0", "123456789/0", "-1/0"])
def test_what_is_no_lsn_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        wal.parse_lsn(text)


@given(st.integers(1, 2**32 - 1), LSNS, SEGMENT_SIZES)
def test_the_name_of_a_segment_gives_its_address_back(timeline: int, lsn: int, size: int) -> None:
    name = wal.parse_wal_name(wal.segment_name(timeline, lsn, size))
    assert name is not None
    assert name.timeline == timeline
    assert name.start_lsn(size) == lsn - lsn % size


def test_an_lsn_on_a_boundary_belongs_to_the_segment_it_begins() -> None:
    assert wal.segment_name(1, wal.parse_lsn("0/6000000")) == "000000010000000000000006"
    assert wal.segment_name(1, wal.parse_lsn("0/5FFFFFF")) == "000000010000000000000005"


def test_the_segment_after_the_last_of_a_log_file_begins_the_next_one() -> None:
    name = wal.parse_wal_name("0000000100000000000000FF")
    assert name is not None
    names = name.following()
    assert [next(names), next(names)] == ["000000010000000100000000", "000000010000000100000001"]


@pytest.mark.parametrize(
    ("text", "kind", "folder"),
    [
        ("00000002000000030000000a", wal.WalKind.SEGMENT, "0000000200000003"),
        ("00000002000000030000000A.partial", wal.WalKind.PARTIAL, "0000000200000003"),
        ("00000002000000030000000A.00000028.backup", wal.WalKind.BACKUP, "0000000200000003"),
        ("0000000a.history", wal.WalKind.HISTORY, ""),
    ],
)
def test_names_of_all_kinds_are_known(text: str, kind: wal.WalKind, folder: str) -> None:
    name = wal.parse_wal_name(text)
    assert name is not None
    assert (name.kind, name.folder, name.text) == (kind, folder, text)
    assert wal.is_wal_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "archive_status",
        "00000001000000000000000",
        "0000000100000000000000010",
        "000000010000000000000001.gz",
        "000000010000000000000001\n",
        "000000010000000000000001.28.backup",
        "00000001.history.tmp",
        "0000000g.history",
    ],
)
def test_other_names_are_no_wal(text: str) -> None:
    assert wal.parse_wal_name(text) is None
    assert not wal.is_wal_name(text)


def test_a_whole_segment_passes() -> None:
    header = check("000000020000000300000004", segment())
    assert (header.segment_size, header.timeline, header.block_size) == (1 << 20, 2, 8192)


def test_the_first_segment_of_a_timeline_may_begin_with_its_parents_page() -> None:
    assert check("000000020000000300000004", segment(timeline=1)).timeline == 1


def test_a_partial_segment_is_checked_like_a_whole_one() -> None:
    check("000000020000000300000004.partial", segment())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (segment()[:-1], "has 1048575 bytes"),
        (segment(address=0), "holds another segment"),
        (segment(timeline=3), "newer than its name"),
        (segment(magic=0), "no WAL segment header"),
        (segment(info=0), "no WAL segment header"),
        (segment(segment_size=3 << 20), "no WAL segment header"),
        (b"", "too few"),
    ],
)
def test_a_wrong_segment_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(IntegrityError, match=words):
        check("000000020000000300000004", data)


def test_a_segment_of_another_cluster_is_refused() -> None:
    with pytest.raises(IntegrityError, match="another cluster"):
        check("000000020000000300000004", segment(), system=1)


@given(st.binary(max_size=100))
def test_garbage_is_refused_without_a_surprise(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        wal.parse_page_header(data)
