"""The zone of the machine changes nothing but how times without a zone are read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.retention import RecoveryWindow, judge
from barman_cloud.catalog.selection import select_auto
from barman_cloud.catalog.times import parse_time
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.schedule import history
from barman_cloud.store.open import open_store
from tests.unit.catalog.builders import backup, memory_catalog, segment

ZONES = ["UTC", "Asia/Kolkata", "America/New_York", "Pacific/Kiritimati"]
NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)


@pytest.fixture(params=ZONES, autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield str(request.param)
    monkeypatch.undo()
    time.tzset()


def test_an_object_of_the_local_store_was_written_now(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    store.put("k", b"x")
    os.utime(tmp_path / "k", (1_768_910_400, 1_768_910_400))
    (listed,) = store.list("")
    assert listed.last_modified == store.head("k").last_modified == NOW


def test_verdicts_of_a_policy() -> None:
    times = ["2026-01-10 11:59:59+00:00", "2026-01-10 17:29:59+05:30", "2026-01-10 07:00:00-05:00"]
    backups = {}
    for number, text in enumerate(times, 1):
        info = backup(f"2026011{number}T000000", segment(number), end_time=parse_time(text))
        backups[info.backup_id] = backup_info.parse(backup_info.dump(info), info.backup_id)
    verdicts = [verdict.status.value for verdict in judge(backups, {}, RecoveryWindow(10), 0, NOW).values()]
    assert verdicts == ["OBSOLETE", "VALID", "VALID"]


def test_the_backup_for_a_target() -> None:
    catalog = memory_catalog()
    for day in (1, 2, 3):
        catalog.save(backup(f"2026010{day}T120000", segment(day)))
    target = parse_time("2026-01-02 17:30:00+05:30")
    assert select_auto(catalog.load(), target).backup_id == "20260102T120000"
    assert select_auto(catalog.load(), target - timedelta(seconds=1)).backup_id == "20260101T120000"
    settings = RecoverySettings("c", time=target)
    assert settings.targets() == {"recovery_target_time": "2026-01-02 17:30:00+05:30"}


def test_a_time_without_a_zone_is_local(zone: str) -> None:
    hours = {"UTC": 0.0, "Asia/Kolkata": 5.5, "America/New_York": -5.0, "Pacific/Kiritimati": 14.0}[zone]
    assert parse_time("2026-01-20 12:00:00") == NOW - timedelta(hours=hours)


def test_runs_of_jobs_keep_their_order_and_their_times() -> None:
    catalog = memory_catalog()
    for hour in (1, 2):
        start = NOW + timedelta(hours=hour)
        history.record(catalog.store, catalog.layout, history.JobRun("backup", start, start, 0))
    runs = history.last_runs(catalog.store, catalog.layout, "backup", 2)
    assert [run.started for run in runs] == [NOW + timedelta(hours=2), NOW + timedelta(hours=1)]
    assert history.last_start(catalog.store, catalog.layout, "backup") == NOW + timedelta(hours=2)
