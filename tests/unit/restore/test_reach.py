"""What is said of a recovery before anything is restored."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.restore.reach import missing_wal, problems_of_backup, problems_of_target, require
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.store.base import ObjectInfo
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import memory_store, segment

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SIZE = 16 << 20


def info(**fields: Any) -> BackupInfo:
    """A backup in segments 2 and 3, which ended at noon."""
    defaults: dict[str, Any] = {
        "status": "DONE",
        "version": 180000,
        "timeline": 1,
        "begin_wal": segment(2),
        "end_wal": segment(3),
        "begin_xlog": "0/2000028",
        "end_xlog": "0/3000100",
        "end_time": NOON,
    }
    return BackupInfo("20261122T115900", **(defaults | fields))


class Archive(WalArchive):
    """A WAL archive in memory. Segment 3 was stored a minute after the backup's end, 4 a minute later, and so on."""

    def __init__(self, *names: str, histories: dict[int, str] | None = None) -> None:
        self.store = memory_store()
        layout = Layout.of(self.store.url, "main")
        super().__init__(self.store, layout)
        for name in names:
            self.store.put(layout.wal(name), b"x")
        for timeline, text in (histories or {}).items():
            self.store.put(layout.wal(f"{timeline:08X}.history"), text.encode())
        assert isinstance(self.store, MemoryStore)
        real = self.store.list

        def listed(prefix: str, *, start_after: str | None = None) -> Any:
            for item in real(prefix, start_after=start_after):
                wal = layout.parse_wal_key(item.key)
                minutes = int(wal.segment[16:], 16) - 2 if wal and wal.segment else 0
                yield ObjectInfo(item.key, item.size, item.etag, NOON + timedelta(minutes=minutes))

        self.store.list = listed  # type: ignore[method-assign]


def whole(*positions: int, timeline: int = 1) -> list[str]:
    return [segment(position, timeline=timeline) for position in positions]


def asked(archive: Archive, backup: BackupInfo | None = None, **settings: Any) -> str:
    """The first problem of a target, with its hint; empty if there is none."""
    found = problems_of_target(archive, backup or info(), RecoverySettings("c", **settings))
    return f"{found[0].message} ({found[0].hint})" if found else ""


class TestBackup:
    def test_all_is_there(self) -> None:
        assert missing_wal(Archive(*whole(2, 3)), info()) is None
        assert missing_wal(Archive(segment(2) + ".gz", segment(3) + ".partial.lz4"), info()) is None

    @pytest.mark.parametrize(("there", "missing"), [((), 2), ((2,), 3), ((3,), 2), ((1, 4), 2), ((2, 4), 3)])
    def test_something_is_missing(self, there: tuple[int, ...], missing: int) -> None:
        text = missing_wal(Archive(*whole(*there)), info())
        assert text is not None
        assert f"{segment(2)} to {segment(3)}, of which {segment(missing)} is not in the archive" in text

    def test_another_timeline_does_not_help(self) -> None:
        assert missing_wal(Archive(*whole(2, 3, timeline=2)), info())

    def test_what_ends_on_a_boundary_does_not_need_the_next_segment(self) -> None:
        assert missing_wal(Archive(*whole(2)), info(end_xlog="0/3000000")) is None
        assert missing_wal(Archive(*whole(2)), info(end_xlog="0/3000001"))

    def test_one_request_is_enough(self) -> None:
        archive = Archive(*whole(*range(255)))
        archive.store.requests.counts.clear()
        assert missing_wal(archive, info()) is None
        assert archive.store.requests.counts == {"list": 1}

    @pytest.mark.parametrize(
        "fields",
        [
            {"begin_wal": None},
            {"end_xlog": None},
            {"begin_wal": "junk"},
            {"end_xlog": "junk"},
            {"begin_wal": segment(2) + ".partial"},
        ],
    )
    def test_a_backup_that_does_not_tell_is_not_judged(self, fields: dict[str, Any]) -> None:
        assert missing_wal(Archive(), info(**fields)) is None
        assert asked(Archive(), info(**fields)) == ""

    @pytest.mark.parametrize("size", [0, -1, 12345, 1 << 40])
    def test_an_impossible_segment_size(self, size: int) -> None:
        with pytest.raises(IntegrityError, match="can't have"):
            missing_wal(Archive(), info(xlog_segment_size=size))

    def test_segments_of_another_size(self) -> None:
        archive = Archive(segment(1, log=1), segment(2, log=1), segment(3, log=1), segment(0, log=2))
        backup = info(begin_wal=segment(1, log=1), end_xlog="2/1", xlog_segment_size=1 << 30)
        assert missing_wal(archive, backup) is None
        assert missing_wal(archive, info(begin_wal=segment(1, log=1), end_xlog="2/40000001", xlog_segment_size=1 << 30))


class TestTarget:
    def test_before_the_backup(self) -> None:
        assert "after the recovery target" in asked(Archive(*whole(2, 3)), time=NOON - timedelta(seconds=1))
        assert "ended at 0/3000100, after the recovery target" in asked(Archive(*whole(2, 3)), lsn=0x30000FF)
        assert asked(Archive(*whole(2, 3)), lsn=0x3000100) == "", "what the backup itself needs"

    def test_in_the_archive(self) -> None:
        archive = Archive(*whole(2, 3, 4))
        assert asked(archive) == ""
        assert asked(archive, immediate=True) == ""
        assert asked(archive, time=NOON + timedelta(minutes=2)) == ""
        assert asked(archive, lsn=0x4FFFFFF) == ""
        assert asked(archive, name="here") == asked(archive, xid="7") == ""

    def test_after_the_end_of_the_archive(self) -> None:
        archive = Archive(*whole(2, 3, 4))
        text = asked(archive, time=NOON + timedelta(minutes=3))
        assert (
            f"can't reach 2026-11-22 12:03:00+00:00: the archive has WAL to {segment(4)}, which was stored at" in text
        )
        assert "choose an earlier target" in text
        assert f"can't reach LSN 0/5000000: the archive has WAL to {segment(4)}" in asked(archive, lsn=0x5000000)

    def test_behind_a_gap(self) -> None:
        archive = Archive(*whole(2, 3, 4, 6))
        assert asked(archive, time=NOON + timedelta(minutes=2)) == ""
        assert asked(archive, lsn=0x4FFFFFF) == ""
        for target in ({"time": NOON + timedelta(minutes=4)}, {"lsn": 0x6000000}, {"lsn": 0x5000000}):
            assert f"{segment(5)} is missing, although there is {segment(6)}" in asked(archive, **target)

    def test_the_end_of_the_archive_is_behind_a_gap(self, caplog: pytest.LogCaptureFixture) -> None:
        archive = Archive(*whole(2, 3, 4, 6))
        assert f"would end early: the archive has WAL to {segment(4)}" in asked(archive)
        for settings in ({"standby": True}, {"name": "here"}, {"xid": "7"}):
            caplog.clear()
            assert asked(archive, **settings) == ""
            assert f"{segment(5)} is missing" in caplog.text

    def test_what_is_there_is_told(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            asked(Archive(*whole(2, 3, 4)))
        assert f"the archive has WAL to {segment(4)}, which was stored at 2026-11-22 12:02:00+00:00, without a gap" in (
            caplog.text
        )

    def test_a_near_target_does_not_list_the_whole_archive(self) -> None:
        archive = Archive(*whole(*range(2, 250)))
        seen = []
        real = archive.store.list

        def counting(prefix: str, *, start_after: str | None = None) -> Any:
            for item in real(prefix, start_after=start_after):
                if start_after:
                    seen.append(item)
                yield item

        archive.store.list = counting  # type: ignore[method-assign]
        assert asked(archive, time=NOON + timedelta(minutes=5)) == ""
        assert asked(archive, lsn=0x5000000) == ""
        assert len(seen) < 20


class TestTimelines:
    """Timeline 2 left 1 in segment 5, timeline 3 left 1 already in segment 3, before the backup's end."""

    FORK = {2: "1\t0/5000100\tx\n"}
    EARLY = {2: "1\t0/3000080\tx\n"}

    def test_the_latest_is_followed(self) -> None:
        archive = Archive(*whole(2, 3, 4, 5), *whole(5, 6, timeline=2), histories=self.FORK)
        assert asked(archive, lsn=0x6000000) == ""
        assert asked(archive, timeline="current", lsn=0x5000100) == ""
        assert "can't reach LSN 0/6000000" in asked(archive, timeline="current", lsn=0x6000000)

    def test_wal_that_is_missing_before_the_fork(self) -> None:
        archive = Archive(*whole(2, 3), *whole(5, 6, timeline=2), histories=self.FORK)
        assert f"{segment(4)} is missing, although that timeline went on" in asked(archive, lsn=0x6000000)
        assert "would end early" in asked(archive)

    def test_wal_that_is_missing_at_the_fork(self) -> None:
        archive = Archive(*whole(2, 3, 4), *whole(6, timeline=2), histories=self.FORK)
        assert f"{segment(5, timeline=2)} is missing" in asked(archive)

    def test_a_timeline_that_does_not_exist(self) -> None:
        archive = Archive(*whole(2, 3), *whole(5, timeline=2), histories=self.FORK)
        text = asked(archive, timeline=7)
        assert "timeline 7 isn't in the archive" in text
        assert "00000007.history (timelines that it has: 1, 2)" in text
        assert "--target-tli" in text

    @pytest.mark.parametrize("settings", [{}, {"timeline": "latest"}, {"timeline": 2}, {"immediate": True}])
    def test_a_timeline_that_left_before_the_backup_ended(self, settings: dict[str, Any]) -> None:
        archive = Archive(*whole(2, 3, 4), *whole(3, timeline=2), histories=self.EARLY)
        text = asked(archive, **settings)
        assert "timeline 2 left timeline 1 at 0/3000080, before backup 20261122T115900 ended at 0/3000100" in text
        assert "--target-tli current" in text
        assert asked(archive, timeline="current") == asked(archive, timeline=1) == ""

    def test_a_timeline_of_other_ancestors(self) -> None:
        archive = Archive(*whole(2, 3), histories={2: "1\t0/1000100\tx\n", 3: "1\t0/1000100\tx\n"})
        backup = info(timeline=2, begin_wal=segment(2, timeline=2))
        assert "doesn't come from timeline 2" in asked(archive, backup, timeline=3)

    def test_an_older_timeline_can_not_follow(self) -> None:
        backup = info(timeline=3, begin_wal=segment(2, timeline=3))
        assert "timeline 2 can't follow" in asked(Archive(), backup, timeline=2)

    def test_the_latest_is_what_postgresql_takes_for_it(self, caplog: pytest.LogCaptureFixture) -> None:
        archive = Archive(*whole(2, 3), histories={4: "1\t0/5000100\tx\n"})
        assert asked(archive) == ""
        assert "PostgreSQL takes timeline 1 for the latest" in caplog.text

    @pytest.mark.parametrize("text", ["<html>", "", "2\t0/1\n", "x" * (2 << 20)])
    def test_a_history_file_that_is_none(self, text: str) -> None:
        with pytest.raises(IntegrityError, match=r"00000002\.history"):
            asked(Archive(*whole(2, 3), histories={2: text}))


def test_force_turns_problems_into_warnings(caplog: pytest.LogCaptureFixture) -> None:
    problems = problems_of_backup(Archive(), info())
    with pytest.raises(OperationError, match="can't be recovered") as caught:
        require(problems, force=False)
    assert caught.value.exit_code == 1
    assert "--force" in str(caught.value.hint)
    require(problems, force=True)
    assert "going on because of --force" in caplog.text
