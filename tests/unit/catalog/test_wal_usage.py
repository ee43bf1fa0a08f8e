"""Which WAL a backup needs and what has followed it, as Barman counts them: to the end of the next backup."""

from __future__ import annotations

from barman_cloud.catalog import wal_usage
from barman_cloud.catalog.backup_info import BackupInfo
from tests.unit.catalog.builders import memory_catalog

FIRST, SECOND = "20261128T171400", "20261128T171421"


def segment(number: int) -> str:
    return f"{1:08X}{0:08X}{number:08X}"


def backup(backup_id: str, begin: int, end: int, status: str = "DONE") -> BackupInfo:
    return BackupInfo(backup_id, begin_wal=segment(begin), end_wal=segment(end), status=status)


def archive(*names: str) -> wal_usage.WalUsage:
    catalog = memory_catalog("main")
    for name in names:
        plain = name.removesuffix(".gz")
        catalog.store.put(catalog.layout.wal(plain, name.removeprefix(plain)), b"x" * 10)
    return wal_usage.read(catalog.store, catalog.layout)


def test_what_is_counted_ends_with_the_next_backup() -> None:
    usage = archive(*(segment(number) for number in range(0x0C, 0x19)))
    first, second = backup(FIRST, 0x0D, 0x0D), backup(SECOND, 0x12, 0x17)
    assert [file.name for file in usage.needed_by(first)] == [segment(0x0D)]
    assert len(usage.needed_by(second)) == 6
    since = usage.since(first, second)
    assert (since[0].name, since[-1].name, len(since)) == (segment(0x0E), segment(0x17), 10)
    assert wal_usage.total(since) == 100
    assert [file.name for file in usage.since(second, None)] == [segment(0x18)]


def test_only_complete_segments_count() -> None:
    name = segment(3)
    usage = archive(f"{name}.gz", f"{segment(4)}.partial", f"{name}.00000028.backup", "00000002.history")
    assert [file.name for file in usage.segments] == [name]
    assert len(usage.files) == 4
    assert usage.needed_by(BackupInfo(FIRST)) == usage.since(BackupInfo(FIRST), None) == []


def test_neighbours_are_complete_backups() -> None:
    backups = {
        info.backup_id: info
        for info in (backup(FIRST, 1, 1), backup("20261128T171410", 2, 2, "FAILED"), backup(SECOND, 3, 3))
    }
    following, preceding = wal_usage.following(backups, FIRST), wal_usage.preceding(backups, SECOND)
    assert (following, preceding) == (backups[SECOND], backups[FIRST])
    assert wal_usage.following(backups, SECOND) is wal_usage.preceding(backups, FIRST) is None
