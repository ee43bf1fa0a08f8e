"""Which jobs a server has, what a listing tells of them, and when one is due."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.config.reader import load
from barman_cloud.config.server import Server
from barman_cloud.errors import ConfigurationError
from barman_cloud.schedule import history, local, runner
from barman_cloud.schedule import state as states
from barman_cloud.schedule.history import JobRun
from barman_cloud.schedule.jobs import Job, jobs_of
from barman_cloud.schedule.lease import acquire
from barman_cloud.schedule.plan import LEASE_PREFIX, Due, due, judge, waiting_files
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store

LAYOUT = Layout("", "main")
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
EVERYTHING = ("drill", "cleanup")


def server_of(directory: Path, *lines: str) -> Server:
    path = directory / "barman.conf"
    text = "".join(f"{line}\n" for line in lines)
    path.write_text(
        f"[barman]\nbarman_home = {directory}\n[main]\nconninfo = host=pg\nbackup_method = postgres\n{text}"
    )
    return load(str(path)).server("main")


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    (tmp_path / "store").mkdir()
    return open_store(f"file://{tmp_path}/store")


def nightly(directory: Path, *lines: str) -> tuple[Server, Job]:
    server = server_of(directory, "backup_schedule = 0 2 * * *", *lines)
    return server, jobs_of(server, ())[0]


def test_jobs_are_the_plain_commands(tmp_path: Path) -> None:
    server = server_of(
        tmp_path, "backup_schedule = 0 2 * * 0", "incremental_schedule = 0 2 * * 1-6", "verify_schedule = 0 4 * * *",
        "drill_schedule = 0 5 * * *", "retention_policy = REDUNDANCY 2", "basebackup_retry_times = 2",
        "basebackup_retry_sleep = 5", "schedule_jitter = 60", "schedule_time_zone = Europe/Vienna",
    )  # fmt: skip
    jobs = {job.name: job for job in jobs_of(server, EVERYTHING)}
    assert {name: " ".join(job.words) for name, job in jobs.items()} == {
        "backup": "backup main",
        "incremental": "backup --incremental last --fallback-full main",
        "verify": "verify main",
        "drill": "drill main",
        "retention": "backup-delete main",
        "cleanup": "cleanup main",
        "archive-incoming": "",
    }
    assert jobs["backup"].lease == jobs["incremental"].lease != jobs["verify"].lease
    assert (jobs["backup"].retries, jobs["backup"].pause, jobs["verify"].retries) == (2, 5.0, 0)
    assert (jobs["backup"].schedule.zone, jobs["backup"].schedule.jitter) == ("Europe/Vienna", timedelta(minutes=1))
    assert [job.name for job in jobs_of(server_of(tmp_path), ())] == ["archive-incoming"]


def test_a_schedule_counts_from_when_it_was_first_seen(tmp_path: Path, store: ObjectStore) -> None:
    server, job = nightly(tmp_path)

    def look(now: datetime) -> list[Due]:
        return due(store, LAYOUT, server, [job], states.look(store, LAYOUT), now)

    assert look(NOON) == []
    assert look(NOON + timedelta(hours=13)) == []
    night = NOON + timedelta(hours=14)
    assert look(night) == [Due(job, night)]
    # Another one counts anew, and the first again as before.
    server, job = nightly(tmp_path, "schedule_time_zone = Asia/Tokyo")
    assert look(night) == []
    server, job = nightly(tmp_path)
    assert look(night) == [Due(job, night)]


def test_only_so_many_schedules_are_remembered(tmp_path: Path, store: ObjectStore) -> None:
    for number in range(states.KEPT_ANCHORS + 5):
        moment = NOON + timedelta(minutes=number)
        states.remember_schedule(store, LAYOUT, states.look(store, LAYOUT), "backup", f"{number:08x}", moment)
    anchors = states.look(store, LAYOUT).anchors["backup"]
    assert len(anchors) == states.KEPT_ANCHORS
    assert anchors[-1] == (NOON + timedelta(minutes=states.KEPT_ANCHORS + 4), f"{states.KEPT_ANCHORS + 4:08x}")


def test_a_run_without_an_end_is_repeated_if_nobody_does_it(tmp_path: Path, store: ObjectStore) -> None:
    _, job = nightly(tmp_path)

    def verdict() -> Due | None:
        return judge(store, LAYOUT, job, states.look(store, LAYOUT), NOON, NOON + timedelta(minutes=5))

    history.record(store, LAYOUT, JobRun("backup", NOON, None, None))
    lease = acquire(store, LAYOUT, f"{LEASE_PREFIX}{job.lease}", timedelta(minutes=5))
    assert verdict() is None
    lease.release()
    assert verdict() == Due(job, NOON, again=True)
    history.record(store, LAYOUT, JobRun("backup", NOON, NOON, None))
    assert verdict() == Due(job, NOON, again=True)  # lost
    for minute in (1, 2):
        moment = NOON + timedelta(minutes=minute)
        history.record(store, LAYOUT, JobRun("backup", moment, moment, None))
    assert verdict() is None  # three times
    history.record(store, LAYOUT, JobRun("backup", NOON + timedelta(minutes=3), NOON + timedelta(minutes=4), 1))
    assert verdict() is None  # failed, which isn't repeated


def test_a_listing_leaves_out_what_is_not_ours(store: ObjectStore) -> None:
    history.record(store, LAYOUT, JobRun("backup", NOON, NOON, 3))
    for name in ("runs/backup/stranger", "runs/backup/20261128T120000.000000Z.x", "schedules/backup/x", "other"):
        store.put(f"main/maintenance/{name}", b"")
    state = states.look(store, LAYOUT)
    (run,) = state.runs["backup"]
    assert (run.started, run.ended, run.exit_code, run.lost) == (NOON, True, 3, False)
    assert state.last("verify") is None
    assert state.known_since("backup", "x") is None


def test_an_end_replaces_the_beginning(store: ObjectStore) -> None:
    history.record(store, LAYOUT, JobRun("backup", NOON, None, None))
    assert not states.look(store, LAYOUT).runs["backup"][0].ended
    history.record(store, LAYOUT, JobRun("backup", NOON, NOON, None, "gone"))
    (run,) = states.look(store, LAYOUT).runs["backup"]
    assert run.lost
    found = history.read(store, "backup", run)
    assert found is not None
    assert found.message == "gone"
    store.delete([run.key])
    assert history.read(store, "backup", run) is None


def test_waiting_files_are_wal_and_nothing_else(tmp_path: Path) -> None:
    server = server_of(tmp_path)
    assert waiting_files(server) == []
    incoming = tmp_path / "main" / "incoming"
    incoming.mkdir(parents=True)
    for name in ("000000010000000000000002", "000000010000000000000001", "00000002.history", "x.part"):
        (incoming / name).touch()
    (incoming / "000000010000000000000003").mkdir()
    (incoming / "000000010000000000000004").symlink_to("/dev/null")
    names = [path.name for path in waiting_files(server)]
    assert names == ["000000010000000000000001", "000000010000000000000002", "00000002.history"]


def test_places_of_a_machine_are_taken_once(tmp_path: Path) -> None:
    first = local.free_places(tmp_path, "long", 2)
    assert len(first) == 2
    assert local.free_places(tmp_path, "long", 3)[0].descriptor > 0
    assert len(local.free_places(tmp_path, "short", 2)) == 2
    first[0].close()
    assert len(local.free_places(tmp_path, "long", 2)) == 1


def test_the_log_begins_anew_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(local, "LOG_LIMIT", 10)
    common = load(server_of(tmp_path).places["conninfo"].file).common
    for text in (b"the first lines", b"the second ones", b"third"):
        descriptor = local.open_log(common)
        os.write(descriptor, text)
        os.close(descriptor)
    assert (tmp_path / "barman-cloud.log").read_bytes() == b"third"
    assert (tmp_path / "barman-cloud.log.1").read_bytes() == b"the second ones"


def test_a_home_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    (tmp_path / "file").touch()
    path.write_text(f"[barman]\nbarman_home = {tmp_path}/file\nlog_file = /no/such/log\n")
    common = load(str(path)).common
    with pytest.raises(ConfigurationError, match=r"barman\.conf:2: barman_home .*/file can't be used: File exists"):
        local.lock_directory(common)
    with pytest.raises(ConfigurationError, match=r"barman\.conf:3: the log /no/such/log can't be opened: No such file"):
        local.open_log(common)


@pytest.mark.parametrize(
    ("printed", "told"),
    [
        ("2026-11-28 12:00:00 [7] ERROR: no connection (hint: try)\nbye\n", "no connection (hint: try)"),
        ("drill of main: FAILED\n\n  OK       data      fine\n  FAILED   recovery  B is missing\n    -> look for it\n",
         "recovery: B is missing"),
        ("the last line\n", "the last line"),
    ],
)  # fmt: skip
def test_the_message_of_a_failed_run_is_what_is_wrong(tmp_path: Path, printed: str, told: str) -> None:
    _, job = nightly(tmp_path)
    command = [sys.executable, "-c", f"import sys; print({printed!r}); sys.exit(3)"]
    with (tmp_path / "log").open("w") as output:
        assert runner._work(job, runner.Supervision(command, output), None) == (3, told)
    assert printed.splitlines()[0] in (tmp_path / "log").read_text()
