"""What a drill chooses, refuses and remembers, and what it leaves on disk; all of it without a server."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import Snapshot, SnapshotsInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    DrillError,
    NotFoundError,
    OperationError,
    UsageError,
)
from barman_cloud.postgres.programs import Programs
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.verify import drill as drills
from barman_cloud.verify import drill_record
from barman_cloud.verify.check import check
from barman_cloud.verify.drill import DrillOptions, drill
from barman_cloud.verify.drill_place import LOCK, PREFIX, scratch
from barman_cloud.verify.drill_record import DrillRecord
from barman_cloud.verify.findings import Level
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.private_server import Recovered
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Chosen(Exception):
    """Instead of a drill: the backup that it would be of."""


@pytest.fixture(autouse=True)
def _not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)


def done(day: int, first: int, **fields: Any):  # type: ignore[no-untyped-def]
    defaults = {"end_xlog": f"0/{(first << 24) + 0x100:X}", "version": 180000, "xlog_segment_size": 16 << 20}
    return backup(f"202611{day:02d}T030000", segment(first), **(defaults | fields))


def chosen(catalog: Catalog, text: str | None, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> str:
    def found(info: Any, *_: Any) -> Programs:
        raise Chosen(info.backup_id)

    monkeypatch.setattr(drills, "_programs", found)
    with pytest.raises(Chosen) as caught:
        drill(catalog, text, RecoverySettings("c", **settings), DrillOptions())
    return str(caught.value)


def test_the_newest_backup_that_can_reach_the_target_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    backups = [done(25, 2), done(26, 3, backup_name="nightly"), done(27, 4), done(28, 5, status="STARTED")]
    catalog = fill(memory_catalog(), backups, [segment(n) for n in range(2, 8)])
    assert chosen(catalog, None, monkeypatch) == "20261127T030000"
    assert chosen(catalog, "latest", monkeypatch) == "20261127T030000"
    assert chosen(catalog, "first", monkeypatch) == "20261125T030000"
    assert chosen(catalog, "nightly", monkeypatch) == "20261126T030000"
    assert chosen(catalog, "20261125T030000", monkeypatch, name="point") == "20261125T030000"
    time = datetime(2026, 11, 26, 5, tzinfo=UTC)
    assert chosen(catalog, None, monkeypatch, time=time, action="promote") == "20261126T030000"
    assert chosen(catalog, "auto", monkeypatch, lsn=0x3000100) == "20261126T030000"


@pytest.mark.parametrize(
    ("text", "settings", "kind", "words"),
    [
        ("20261128T030000", {}, OperationError, "is STARTED, not DONE: there is nothing yet that could be restored"),
        ("20261127T030000", {}, OperationError, "is a disk snapshot, which a drill can't restore"),
        ("20200101T000000", {}, NotFoundError, "doesn't exist"),
        ("all", {}, UsageError, "a drill is of one backup"),
        (None, {"name": "point"}, UsageError, "which backups come before a restore point"),
        ("20261126T030000", {}, DrillError, "older than 12"),
        ("20261125T030000", {}, DrillError, "doesn't tell the version"),
    ],
)
def test_what_can_not_be_drilled(text: str | None, settings: dict[str, Any], kind: type[Exception], words: str) -> None:
    disk = SnapshotsInfo("aws", {"account_id": "1", "region": "r"}, (Snapshot("/", "rw", {"snapshot_id": "s"}),))
    backups = [
        done(25, 2, version=None), done(26, 3, version=110000), done(27, 4, snapshots_info=disk, tablespaces=None),
        done(28, 5, status="STARTED"),
    ]  # fmt: skip
    catalog = fill(memory_catalog(), backups, [segment(n) for n in range(2, 8)])
    with pytest.raises(kind, match=words):
        drill(catalog, text, RecoverySettings("c", **settings), DrillOptions())
    assert drill_record.last(catalog.store, catalog.layout) is None, "that says nothing about a backup"


def test_an_unknown_server_and_an_empty_one() -> None:
    catalog = fill(memory_catalog("main"), [done(25, 2)])
    other = Catalog(catalog.store, type(catalog.layout).of(catalog.store.url, "mian"))
    with pytest.raises(NotFoundError, match="there is no server 'mian'"):
        drill(other, None, RecoverySettings("c"), DrillOptions())
    started = fill(memory_catalog(), [done(25, 2, status="STARTED")])
    with pytest.raises(NotFoundError, match="there is no complete backup"):
        drill(started, None, RecoverySettings("c"), DrillOptions())


def test_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(DrillError, match="refuses to run as root"):
        drill(memory_catalog(), None, RecoverySettings("c"), DrillOptions())


def test_missing_wal_ends_the_drill_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drills, "find_server", lambda *_: Programs("18.6", tmp_path))
    catalog = fill(memory_catalog(), [done(25, 2)], [segment(n) for n in (2, 3, 5)])
    shown = drill(catalog, None, RecoverySettings("c"), DrillOptions(directory=tmp_path), now=NOW)
    assert [(finding.subject, finding.level) for finding in shown.report.findings] == [
        ("backup", Level.OK), ("wal", Level.CRITICAL),
    ]  # fmt: skip
    assert f"{segment(4)} is missing" in shown.report.findings[1].message
    assert list(tmp_path.iterdir()) == []
    last = drill_record.last(catalog.store, catalog.layout)
    assert last == DrillRecord(NOW, "20261125T030000", False, (shown.report.findings[1].message,))


class TestPlace:
    @pytest.fixture(autouse=True)
    def _ourselves(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", os.getuid)

    def test_it_is_gone_afterwards_whatever_happens(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt), scratch(tmp_path) as place:
            (place.data / "base").mkdir(parents=True)
            (place.data / "base" / "1").write_text("x")
            (place.root / "link").symlink_to("/etc")
            raise KeyboardInterrupt
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("after", [False, True])
    def test_an_interruption_of_its_removal_does_not_stop_that(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, after: bool
    ) -> None:
        for moment in itertools.count(1):
            calls = 0

            def interrupting(function: Callable[..., None], moment: int = moment) -> Callable[..., None]:
                def call(*arguments: Any, **options: Any) -> None:
                    nonlocal calls
                    calls += 1
                    if after or calls != moment:
                        function(*arguments, **options)
                    if calls == moment:
                        raise KeyboardInterrupt

                return call

            with contextlib.suppress(KeyboardInterrupt), scratch(tmp_path) as place:
                for name in ("base/1", "base/2", "PG_VERSION"):
                    (place.data / name).parent.mkdir(parents=True, exist_ok=True)
                    (place.data / name).write_text("x")
                for name in ("unlink", "rmdir"):
                    monkeypatch.setattr(os, name, interrupting(getattr(os, name)))
            monkeypatch.undo()
            assert list(tmp_path.iterdir()) == [], f"interrupted at removal {moment}"
            if calls < moment:
                break
        assert moment > 6
        assert "can't be removed" not in caplog.text

    def test_it_stays_if_it_is_kept(self, tmp_path: Path) -> None:
        with scratch(tmp_path) as place:
            place.data.mkdir()
            place.keep()
        with scratch(tmp_path):
            pass
        assert list(tmp_path.iterdir()) == [place.root]
        assert list(place.root.iterdir()) == [place.data]

    def test_what_a_killed_drill_has_left_goes_and_nothing_else(self, tmp_path: Path) -> None:
        for name in (f"{PREFIX}killed", f"{PREFIX}running", f"{PREFIX}strange", "other"):
            (tmp_path / name / "data").mkdir(parents=True)
            (tmp_path / name / LOCK).touch()
        (tmp_path / f"{PREFIX}strange" / LOCK).unlink()
        (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "other")
        (tmp_path / f"{PREFIX}file").touch()
        with (tmp_path / f"{PREFIX}running" / LOCK).open("r+") as running:
            fcntl.flock(running, fcntl.LOCK_EX)
            with scratch(tmp_path) as place, scratch(tmp_path) as beside:
                assert place.root.exists()
                assert beside.root.exists()
        left = {path.name.removeprefix(PREFIX) for path in tmp_path.iterdir()}
        assert left == {"running", "strange", "other", "link", "file"}
        assert (tmp_path / "other" / "data").exists()

    @pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of others")
    def test_what_another_user_has_made_stays(self, tmp_path: Path) -> None:
        theirs = tmp_path / f"{PREFIX}theirs"
        theirs.mkdir()
        (theirs / LOCK).touch()
        os.chown(theirs, 12345, 12345)
        with scratch(tmp_path):
            pass
        assert (theirs / LOCK).exists()

    def test_links_that_lead_out_of_it_are_cut(self, tmp_path: Path) -> None:
        (tmp_path / "server" / "16385").mkdir(parents=True)
        (tmp_path / "server" / "16385" / "1").write_text("live")
        (tmp_path / "drills").mkdir()
        with scratch(tmp_path / "drills") as place:
            (place.data / "base").mkdir(parents=True)
            (place.data / "pg_tblspc").mkdir()
            (place.root / "tablespace-1").mkdir()
            (place.data / "pg_tblspc" / "1").symlink_to(place.root / "tablespace-1")
            (place.data / "base" / "inside").symlink_to("../PG_VERSION")
            for name in ("base/16385", "pg_wal", "log"):
                (place.data / name).symlink_to(tmp_path / "server" / "16385")
            (place.root / "tablespace-1" / "2").symlink_to("/nowhere/at/all")
            cut = {str(path.relative_to(place.root)) for path in place.cut_links()}
            assert cut == {"data/base/16385", "data/pg_wal", "data/log", "tablespace-1/2"}
            assert (place.data / "pg_wal").is_dir()
            assert not (place.data / "pg_wal").is_symlink()
            assert (place.data / "pg_tblspc" / "1").is_symlink()
            assert (place.data / "base" / "inside").is_symlink()
            assert place.cut_links() == []
        assert (tmp_path / "server" / "16385" / "1").read_text() == "live"

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(DrillError, match=r"no directory can be made in .*/nowhere"), scratch(tmp_path / "nowhere"):
            pass

    def test_tablespaces_go_into_it_as_well(self, tmp_path: Path) -> None:
        spaces = [Tablespace("fast", 16384, "/srv/fast"), Tablespace("inside", 16385, "pg_tblspc/16385")]
        with scratch(tmp_path) as place:
            assert place.rules(done(25, 2, tablespaces=spaces)) == {"fast": f"{place.root}/tablespace-16384"}


class TestRecord:
    def test_the_newest_come_first_and_what_can_not_be_read_is_passed_over(self, caplog: Any) -> None:
        catalog = memory_catalog()
        store, layout = catalog.store, catalog.layout
        assert drill_record.last(store, layout) is None
        records = [
            DrillRecord(NOW - HOUR, "a", True, (), 1, 2.5, 3.5, 6.0, "0/5", NOW),
            DrillRecord(NOW, "b", False, ("why",)),
        ]
        for record in records:
            drill_record.save(store, layout, record)
        assert drill_record.newest(store, layout, 9) == records[::-1]
        for text in ("", "[]", "{}", '{"version": 2}', '{"version": 1, "succeeded": 1}', "[" * 100_000):
            store.put(f"{drill_record.drills_dir(layout)}9.json", text.encode())
            assert drill_record.last(store, layout) == records[1]

    def test_who_may_only_read_goes_on_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        catalog = memory_catalog()

        def refuse(*_: Any, **__: Any) -> None:
            raise AccessDeniedError("no")

        monkeypatch.setattr(catalog.store, "put", refuse)
        drill_record.save(catalog.store, catalog.layout, DrillRecord(NOW, "a", True))

    @pytest.mark.parametrize(
        ("record", "limit", "level", "words"),
        [
            (None, None, None, ""),
            (None, HOUR, Level.CRITICAL, "no drill was held yet"),
            (DrillRecord(NOW - HOUR, "a", True, rto_seconds=90.0), HOUR, Level.OK, "succeeded: it took 1 min 30 s"),
            (DrillRecord(NOW - 2 * HOUR, "a", True), HOUR, Level.CRITICAL, "is too long ago: the limit is 1 h"),
            (DrillRecord(NOW, "a", False, ("gone", "more")), None, Level.CRITICAL, "failed: gone"),
        ],
    )  # fmt: skip
    def test_check_tells_of_the_last_drill(
        self, record: DrillRecord | None, limit: timedelta | None, level: Level | None, words: str
    ) -> None:
        catalog = fill(memory_catalog(), [done(25, 2)], [segment(2)])
        if record:
            drill_record.save(catalog.store, catalog.layout, record)
        report = check(catalog.store, catalog.layout, Limits(max_drill_age=limit), now=NOW)
        found = [finding for finding in report.findings if finding.subject == "drill"]
        assert [finding.level for finding in found] == ([] if level is None else [level])
        assert words in "".join(finding.message for finding in found)
        assert report.metrics.get("last_drill_succeeded") == (None if record is None else float(record.succeeded))


def test_every_error_of_a_drill_has_a_next_step() -> None:
    assert issubclass(DrillError, BarmanCloudError)
    assert DrillError.exit_code == 4


@pytest.mark.parametrize(("lsn", "seconds", "critical"), [
    (0x5000028, 5.0, []), (0x5000000, 5.0, ["recovery"]), (None, 5.0, ["recovery"]), (0x5000028, 5.1, ["rto"]),
])  # fmt: skip
def test_recovery_has_to_pass_the_newest_wal_in_time(lsn: int | None, seconds: float, critical: list[str]) -> None:
    options = DrillOptions(max_rto=timedelta(seconds=5))
    run = drills._Drill(memory_catalog(), done(25, 2), RecoverySettings("c"), options, Programs("18.6", Path("/")))
    run.end, run.rto_seconds, run.recovery_seconds = (1, 0x5000000), seconds, 1.0
    run._judge(Recovered(1, lsn, NOW))
    assert [finding.subject for finding in run.findings if finding.level is Level.CRITICAL] == critical
