"""History files and backup labels: what PostgreSQL writes passes, what became of it on the way doesn't."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import WalName, parse_wal_name
from barman_cloud.postgres.wal_files import check_backup_label, check_history

FIRST = b"1\t0/3000000\tno recovery target specified\n"
SECOND = FIRST + b"\n2\t0/5012A30\tbefore 2026-11-28 10:00:00+00\n"
LABEL = (
    b"START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"
    b"STOP WAL LOCATION: 0/2000158 (file 000000010000000000000002)\n"
    b"CHECKPOINT LOCATION: 0/2000080\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n"
)


def name(text: str) -> WalName:
    parsed = parse_wal_name(text)
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("00000002.history", FIRST),
        ("00000003.history", SECOND),
        ("00000009.history", SECOND),
        ("00000002.history", b"1\t0/03000000\tof PostgreSQL 19\n"),
        ("00000002.history", b"# written by hand\n  1 A/B\n"),
        ("00000002.history", b'1\t0/3000000\tat restore point "caf\xe9"\n'),
        ("00000002.history", '1\t0/3000000\tat restore point "a\u2028b\x0b\x85"\n'.encode()),
        ("00000002.history", FIRST.replace(b"\n", b"\r\n")),
    ],
)
def test_history_files_that_postgresql_reads(file: str, content: bytes) -> None:
    check_history(content, name(file))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("00000002.history", b""),
        ("00000002.history", b"\n\n# nothing\n"),
        ("00000002.history", FIRST[:-1]),
        ("00000002.history", b"1\t0/3000"),
        ("00000002.history", b"1\t0"),
        ("00000002.history", b"<!DOCTYPE html><html></html>\n"),
        ("00000002.history", bytes(100)),
        ("00000002.history", b"2\t0/3000000\tits own number\n"),
        ("00000003.history", FIRST + FIRST),
        ("00000003.history", b"2\t0/5000000\tx\n1\t0/3000000\tx\n"),
        ("00000002.history", b"1\t0/3000000000\ttoo long\n"),
        ("00000002.history", b"0\t0/3000000\tno timeline\n"),
    ],
)
def test_what_is_no_history_file(file: str, content: bytes) -> None:
    with pytest.raises(IntegrityError, match=file):
        check_history(content, name(file))


@given(cut=st.integers(0, len(SECOND) - 1))
def test_a_history_file_that_was_cut_is_noticed_unless_at_the_end_of_a_line(cut: int) -> None:
    try:
        check_history(SECOND[:cut], name("00000003.history"))
    except IntegrityError:
        return
    assert SECOND[:cut].rstrip(b"\n") == FIRST.rstrip(b"\n")


@given(content=st.binary(max_size=200))
def test_any_content_is_judged_without_a_crash(content: bytes) -> None:
    for check, file in ((check_history, "00000002.history"), (check_backup_label, f"{'0' * 24}.00000028.backup")):
        try:
            check(content, name(file))
        except IntegrityError as error:
            assert "\n" not in str(error)


def test_backup_labels() -> None:
    file = name("000000010000000000000002.00000028.backup")
    check_backup_label(LABEL, file)
    for content in (b"", LABEL[:20], FIRST, b"<html>", bytes(100)):
        with pytest.raises(IntegrityError, match="is not a backup label"):
            check_backup_label(content, file)
