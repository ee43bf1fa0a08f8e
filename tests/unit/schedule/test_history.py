"""The history of runs, as objects in the bucket."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule import history
from barman_cloud.schedule.history import JobRun, last_runs, last_start, record
from barman_cloud.schedule.lease import acquire
from barman_cloud.store.base import DeleteFailedError
from barman_cloud.store.open import open_store

LAYOUT = Layout("prod", "main")
START = datetime(2026, 11, 28, 12, 0, 0, 250_000, tzinfo=UTC)


def test_a_run_is_found_while_it_runs_and_after(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    assert last_start(store, LAYOUT, "backup") is None
    record(store, LAYOUT, JobRun("backup", START, None, None))
    assert last_start(store, LAYOUT, "backup") == START
    done = JobRun("backup", START, START + timedelta(minutes=5), 1, "disk full")
    record(store, LAYOUT, done)
    assert last_runs(store, LAYOUT, "backup") == [done]
    assert last_runs(store, LAYOUT, "verify") == []


def test_old_runs_are_forgotten(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    for number in range(history.KEPT + 3):
        record(store, LAYOUT, JobRun("backup", START + timedelta(minutes=number), None, 0))
    history.forget_old(store, LAYOUT, "backup")
    runs = last_runs(store, LAYOUT, "backup", 1000)
    assert len(runs) == history.KEPT
    assert runs[-1].started == START + timedelta(minutes=3)


def test_what_is_no_record_is_told(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    store.put("prod/main/maintenance/runs/backup/20261128T120000.000000Z", b"[" * 100_000)
    store.put("prod/main/maintenance/runs/backup/stranger", b"")
    (run,) = last_runs(store, LAYOUT, "backup", 5)
    assert (run.exit_code, run.message) == (None, "its record can't be read")


def test_a_store_that_keeps_everything_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(f"file://{tmp_path}")

    def refuse(keys: Iterable[str], **_: object) -> None:
        raise DeleteFailedError(dict.fromkeys(keys, "locked"))

    monkeypatch.setattr(store, "delete", refuse)
    record(store, LAYOUT, JobRun("backup", START, None, None))
    done = JobRun("backup", START, START, 0)
    record(store, LAYOUT, done)
    assert last_runs(store, LAYOUT, "backup") == [done]
    lease = acquire(store, LAYOUT, "x", timedelta(minutes=1))
    for number in (2, 3, 4):
        lease.release()
        lease = acquire(store, LAYOUT, "x", timedelta(minutes=1))
        assert lease.number == number
