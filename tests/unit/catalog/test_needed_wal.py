"""Which WAL a backup needs, and which of it the archive lacks."""

from __future__ import annotations

import pytest

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.needed_wal import missing_segments, needed_wal
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import parse_lsn, segment_name
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.url import parse_url
from tests.support.memory_store import MemoryStore

LAYOUT = Layout("prod", "main")


def backup(begin: str = "0/2000028", end: str = "0/2000120", timeline: int = 1) -> BackupInfo:
    begin_wal = segment_name(timeline, parse_lsn(begin))
    return BackupInfo("20260101T000000", begin_xlog=begin, begin_wal=begin_wal, end_xlog=end, timeline=timeline)


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return MemoryStore(parse_url(f"memory://{request.node.nodeid}", None))


@pytest.mark.parametrize(
    ("begin", "end", "names"),
    [
        ("0/2000028", "0/2000120", ["000000010000000000000002"]),
        ("0/02000028", "0/03000000", ["000000010000000000000002"]),
        ("0/2000028", "0/3000001", ["000000010000000000000002", "000000010000000000000003"]),
        ("0/FF000028", "1/0", ["0000000100000000000000FF"]),
        ("0/FF000028", "1/28", ["0000000100000000000000FF", "000000010000000100000000"]),
    ],
)
def test_the_wal_that_a_backup_needs(begin: str, end: str, names: list[str]) -> None:
    needed = needed_wal(backup(begin, end))
    assert needed is not None
    assert needed.names() == names


@pytest.mark.parametrize("suffix", ["", ".gz", ".lz4", ".zst"])
def test_what_is_there_is_found_in_any_compression(store: ObjectStore, suffix: str) -> None:
    for name in ("0000000100000000000000FE", "000000010000000100000000"):
        store.put(LAYOUT.wal(name, suffix), b"")
    assert missing_segments(WalArchive(store, LAYOUT), backup("0/FE000028", "1/28")) == ["0000000100000000000000FF"]


@pytest.mark.parametrize(
    "name",
    [
        "000000010000000000000002.partial",
        "000000010000000000000002.00000028.backup",
        "000000020000000000000002",
        "000000010000000000000001",
        "000000010000000000000003",
        "00000002.history",
    ],
)
def test_other_files_are_no_substitute(store: ObjectStore, name: str) -> None:
    store.put(LAYOUT.wal(name), b"")
    assert missing_segments(WalArchive(store, LAYOUT), backup()) == ["000000010000000000000002"]


def test_a_backup_that_does_not_tell_what_it_needs_lacks_nothing(store: ObjectStore) -> None:
    info = backup()
    info.end_xlog = None
    assert needed_wal(info) is None
    assert missing_segments(WalArchive(store, LAYOUT), info) == []


def test_segments_of_an_impossible_size_are_refused() -> None:
    info = backup()
    info.xlog_segment_size = 3
    with pytest.raises(IntegrityError, match="can't have 3 bytes"):
        needed_wal(info)


def test_unfinished_segments_of_an_older_timeline_are_none_of_a_newer_one(store: ObjectStore) -> None:
    """Pieces are listed by themselves, so those of every timeline come by."""
    size = 16 << 20
    store.put(LAYOUT.piece("000000010000000000000009", 0, 8192, 1), bytes(8192))
    store.put(LAYOUT.piece("000000020000000000000008", 0, 8192, 1), bytes(8192))
    store.put(LAYOUT.wal("000000020000000000000007"), b"")
    found = WalArchive(store, LAYOUT).segments_from(2, 7, size, unfinished=True)
    assert [(segment.timeline, segment.number) for segment in found] == [(2, 7), (2, 8)]
