"""The history of runs, as objects in the bucket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule import history
from barman_cloud.schedule.history import JobRun, last_runs, last_start, record
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
