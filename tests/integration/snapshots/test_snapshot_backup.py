"""Snapshot backups of a running PostgreSQL: what is stored, and what is left when something fails."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.backup import lifecycle
from barman_cloud.backup import snapshot as snapshot_backup
from barman_cloud.backup.lifecycle import BackupRequest
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import DONE, FAILED, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.cleanup import CleanupOptions, clean_up
from barman_cloud.catalog.deletion import delete_by_id
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.leftovers import Age, Kind
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.errors import AccessDeniedError, ConfigurationError, IntegrityError, OperationError, SnapshotError
from barman_cloud.postgres.connection import ConnectionParameters
from barman_cloud.snapshots.base import SnapshotOptions, StartedSnapshot
from barman_cloud.snapshots.begun import Begun
from barman_cloud.snapshots.deletion import with_snapshots
from barman_cloud.snapshots.mounts import Host
from barman_cloud.store.url import parse_url
from tests.support.faulty_store import FaultyStore
from tests.support.machine import recorded_host
from tests.support.memory_store import MemoryStore
from tests.support.postgres import PostgresServer
from tests.support.snapshot_clouds import DISKS, AwsCloud, Cloud

SERVER = "main"
MOUNTS = {DISKS[0]: ("/srv/pg/data", "rw,noatime"), DISKS[1]: ("/srv/pg/ts 1", "rw,relatime")}
STORE_OF = {"aws": "aws-s3", "azure": "azure-blob-storage", "gcp": "google-cloud-storage"}


class Bench:
    """A cluster, a cloud, a machine and a store that belong together."""

    def __init__(self, cloud: Cloud, postgres: PostgresServer, root: Path) -> None:
        self.cloud = cloud
        self.postgres = postgres
        self.root = root
        url = parse_url("memory://metadata/prod", None)._replace(provider=STORE_OF[cloud.kind])
        self.store = FaultyStore(MemoryStore(url))
        self.layout = Layout.of(url, SERVER)
        self.catalog = Catalog(self.store, self.layout)
        self.host = recorded_host(root, cloud, MOUNTS)
        self.on_wait: Callable[[], object] = bool
        """Called once, when the snapshots are begun and the backup waits for them."""

    def backup(self, *disks: str, instance: str | None = None, **options: Any) -> BackupInfo:
        request = BackupRequest(
            ConnectionParameters(self.postgres.conninfo), backup_name="nightly", immediate_checkpoint=True
        )
        fields = {name: getattr(self.cloud.options, name) for name in SnapshotOptions.__slots__}
        return snapshot_backup.run_snapshot_backup(
            self.store,
            self.layout,
            request,
            instance or self.cloud.instance,
            disks or DISKS,
            SnapshotOptions(**{**fields, **options}),
            self.host,
        )

    def deletion(self) -> DeletionOptions:
        """How to delete backups with their snapshots; the credentials are the tests' own."""
        fields = {name: getattr(self.cloud.options, name) for name in SnapshotOptions.__slots__}
        return with_snapshots(DeletionOptions(), SnapshotOptions(**fields))

    def keys(self) -> list[str]:
        """All objects but the one that says whose the archive is, which stays when all else is deleted."""
        identity = self.catalog.layout.identity
        return [item.key for item in self.store.list("") if item.key != identity]

    def only_backup(self) -> BackupInfo:
        (found,) = self.catalog.load().backups.values()
        return found

    def expect_failed(self, reason: str) -> None:
        """Check that the catalog says FAILED for this reason and that no snapshot is left."""
        found = self.only_backup()
        assert found.status == FAILED
        assert reason in str(found.error)
        assert str(found.error).startswith("failure uploading data (")
        assert found.end_time is None
        assert found.snapshots_info is None
        assert self.cloud.snapshot_names() == []


@pytest.fixture
def bench(cloud: Cloud, postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    # Barman's pauses between questions are made for snapshots that take minutes.
    original = snapshot_backup.open_provider

    def impatient(kind: str, options: SnapshotOptions) -> Any:
        provider = original(kind, options)
        provider.poll_seconds = 0.05
        progress = provider.progress

        def watched(snapshots: Sequence[StartedSnapshot]) -> list[int]:
            on_wait, result.on_wait = result.on_wait, bool
            on_wait()
            return progress(snapshots)

        monkeypatch.setattr(provider, "progress", watched)
        return provider

    result = Bench(cloud, postgres, tmp_path)
    monkeypatch.setattr(snapshot_backup, "open_provider", impatient)
    return result


def test_a_backup_is_its_snapshots_its_label_and_its_metadata(bench: Bench) -> None:
    info = bench.backup()
    folder = f"prod/{SERVER}/base/{info.backup_id}"
    assert bench.keys() == [f"{folder}/backup.info", f"{folder}/backup_label"]

    text = bench.store.get(f"{folder}/backup.info").decode()
    stored = backup_info.parse(text, info.backup_id)
    assert stored == info
    assert stored.status == DONE
    assert stored.server_name == SERVER
    assert stored.backup_name == "nightly"
    label = bench.store.get(f"{folder}/backup_label").decode()
    assert stored.backup_label == label
    assert f"LABEL: Barman backup {SERVER} {info.backup_id}\n" in label
    assert stored.copy_stats is not None
    assert list(stored.copy_stats) == ["copy_time", "total_time"]

    snapshots = stored.snapshots_info
    assert snapshots is not None
    assert snapshots.provider == bench.cloud.kind
    assert [(entry.mount_point, entry.mount_options) for entry in snapshots.snapshots] == list(MOUNTS.values())
    names = [f"{disk}-{info.backup_id.lower()}" for disk in DISKS]
    assert [entry["snapshot_name"] for entry in snapshots.snapshots] == names
    assert bench.cloud.snapshot_names() == names


def test_the_server_is_in_backup_mode_while_the_snapshots_are_made(bench: Bench) -> None:
    before: list[str] = []
    bench.cloud.slow_down(3)
    bench.on_wait = lambda: before.append(bench.postgres.value("SELECT pg_current_wal_insert_lsn()::text"))
    info = bench.backup()
    asked = "SELECT %s::pg_lsn < %s::pg_lsn AND %s::pg_lsn < %s::pg_lsn"
    assert bench.postgres.query(asked, (info.begin_xlog, before[0], before[0], info.end_xlog)) == [(True,)]


@pytest.mark.parametrize(
    ("disks", "instance", "unmounted", "reason"),
    [
        ((), "no-such-host", (), "no-such-host"),
        (("elsewhere",), None, (), "disk elsewhere is not attached"),
        ((DISKS[0], DISKS[0]), None, (), "given twice"),
        ((), None, (DISKS[1],), f"disk {DISKS[1]} .* is not mounted"),
        (("<root>",), None, (), "boot disk"),
    ],
)
def test_what_is_wrong_beforehand_makes_nothing(
    bench: Bench, disks: tuple[str, ...], instance: str | None, unmounted: tuple[str, ...], reason: str
) -> None:
    bench.host = recorded_host(bench.root, bench.cloud, MOUNTS, unmounted=unmounted)
    chosen = tuple(bench.cloud.root_disk() if disk == "<root>" else disk for disk in disks)
    with pytest.raises(SnapshotError, match=reason) as caught:
        bench.backup(*chosen, instance=instance)
    assert caught.value.exit_code == 4
    assert bench.keys() == []
    assert bench.cloud.snapshot_names() == []


def test_a_disk_that_is_not_on_this_machine(bench: Bench, tmp_path: Path) -> None:
    bench.host = Host(tmp_path / "empty")
    with pytest.raises(SnapshotError, match="no block device of this machine"):
        bench.backup()
    assert bench.keys() == []


def test_a_failed_snapshot(bench: Bench) -> None:
    bench.cloud.fail()
    with pytest.raises(OperationError, match="damaged") as caught:
        bench.backup()
    assert caught.value.exit_code == 1
    bench.expect_failed("damaged")


def test_a_lost_database_connection_ends_the_wait(bench: Bench) -> None:
    bench.cloud.slow_down(1000 if bench.cloud.kind == "aws" else 12)
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'"
    bench.on_wait = lambda: bench.postgres.query(ended)
    with pytest.raises(OperationError, match=r"session .*was lost"):
        bench.backup()
    bench.expect_failed("was lost")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption(bench: Bench, number: signal.Signals) -> None:
    bench.cloud.slow_down(1000 if bench.cloud.kind == "aws" else 12)
    bench.on_wait = lambda: os.kill(os.getpid(), number)
    with pytest.raises(OperationError, match=f"interrupted by {number.name}"):
        bench.backup()
    bench.expect_failed(f"interrupted by {number.name}")


def test_a_label_that_cannot_be_stored(bench: Bench) -> None:
    bench.store.fail("put", key="*/backup_label")
    with pytest.raises(OperationError):
        bench.backup()
    bench.expect_failed("the store went away")


def test_a_last_state_that_the_store_refuses(bench: Bench) -> None:
    bench.store.fail("put", key="*/backup.info", skip=1, error=lambda: AccessDeniedError("refused"))
    with pytest.raises(OperationError, match="could not be stored"):
        bench.backup()
    assert bench.only_backup().status == backup_info.STARTED
    assert bench.cloud.snapshot_names() == []


def test_a_last_state_that_did_arrive_keeps_its_snapshots(bench: Bench) -> None:
    bench.store.fail("put", key="*/backup.info", skip=1, after=True)
    with pytest.raises(OperationError, match="could not be stored"):
        bench.backup()
    assert bench.only_backup().status == DONE
    assert len(bench.cloud.snapshot_names()) == len(DISKS)


def test_when_nobody_can_tell_the_snapshots_stay_and_are_named(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.store.fail("put", key="*/backup.info", skip=1, after=True)
    bench.store.fail("get", key="*/backup.info", skip=1, times=9)  # the one before DONE succeeds
    with pytest.raises(OperationError, match="could not be stored"):
        bench.backup()
    names = bench.cloud.snapshot_names()
    assert len(names) == len(DISKS)
    assert "its snapshots stay: " in caplog.text


def test_a_backup_that_was_deleted_meanwhile_fails_and_leaves_no_snapshots(bench: Bench) -> None:
    def delete() -> None:
        catalog = Catalog(bench.store.inner, bench.layout)
        view = catalog.load()
        delete_by_id(catalog, view, next(iter(view.backups)), 0, bench.deletion(), io.StringIO())

    bench.store.fail("put", key="*/backup_label", error=delete)
    with pytest.raises(OperationError, match="was deleted or replaced while the backup was made"):
        bench.backup()
    bench.expect_failed("was deleted")


class KilledError(BaseException):
    """The process is gone: nothing that would run afterwards does."""


def test_snapshots_of_a_killed_backup_are_not_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        raise KilledError

    with monkeypatch.context() as dying:
        dying.setattr(snapshot_backup.SnapshotMethod, "abort", lambda _: None)
        dying.setattr(lifecycle, "save_in_time", lambda _: None)
        bench.on_wait = die
        with pytest.raises(OperationError):
            bench.backup()
    info = bench.only_backup()
    assert (info.status, info.snapshots_info) == (backup_info.STARTED, None)
    names = [f"{disk}-{info.backup_id.lower()}" for disk in DISKS]
    assert bench.cloud.snapshot_names() == names
    # What can't delete them leaves what tells of them.
    long_ago = CleanupOptions(age=Age(timedelta(0), timedelta(0)))
    (outcome,) = clean_up(bench.catalog, long_ago, datetime.now().astimezone() + timedelta(days=9)).outcomes
    assert (outcome.result, outcome.leftover.kind) == ("stays", Kind.ABANDONED)
    assert f"it may have disk snapshots: barman-cloud backup-delete -b {info.backup_id}" in str(outcome.problem)
    with pytest.raises(OperationError, match="it has disk snapshots, which would be forgotten"):
        delete_by_id(bench.catalog, bench.catalog.load(), info.backup_id, 0, DeletionOptions(), io.StringIO())
    assert bench.only_backup() == info
    # The deletion of the backup deletes them, and nobody else's.
    other = bench.backup()
    delete_by_id(bench.catalog, bench.catalog.load(), info.backup_id, 0, bench.deletion(), io.StringIO())
    assert bench.cloud.snapshot_names() == [f"{disk}-{other.backup_id.lower()}" for disk in DISKS]
    assert bench.only_backup().backup_id == other.backup_id
    left = "\n".join(bench.keys())
    assert info.backup_id not in left
    assert "snapshots.json" not in left


def test_a_forged_record_of_begun_snapshots_deletes_nothing() -> None:
    wanted = {"version": 1, "provider": "gcp", "provider_info": {"project": "p"}}
    for disks in ([{"id": "d", "name": "d", "snapshot": "somebody-elses"}], [{"id": "d"}], "text"):
        with pytest.raises(IntegrityError, match="isn't understood"):
            Begun.parse(json.dumps({**wanted, "disks": disks}).encode(), "20261128T120000")
    with pytest.raises(IntegrityError, match="another version"):
        Begun.parse(json.dumps({**wanted, "version": 2, "disks": []}).encode(), "20261128T120000")


def test_disks_that_lack_the_cluster_are_warned_of(
    bench: Bench, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = Path("/dev/shm")
    if not elsewhere.is_dir() or elsewhere.stat().st_dev == bench.postgres.data.stat().st_dev:
        pytest.skip("needs a second file system")
    bench.host = recorded_host(tmp_path, bench.cloud, {disk: (str(elsewhere), "rw,noatime") for disk in DISKS})
    bench.backup()
    assert f"{bench.postgres.data} is on none of the disks" in caplog.text


def test_options_that_exclude_each_other(aws: AwsCloud, postgres: PostgresServer, tmp_path: Path) -> None:
    bench = Bench(aws, postgres, tmp_path)
    for options in (
        {"aws_snapshot_lock_mode": "compliance"},
        {
            "aws_snapshot_lock_mode": "governance",
            "aws_snapshot_lock_duration": 1,
            "aws_snapshot_lock_cool_off_period": 1,
        },
        {"tags": {"Name": "x"}},
    ):
        with pytest.raises(ConfigurationError) as caught:
            bench.backup(**options)
        assert caught.value.exit_code == 4
    assert bench.keys() == []
    assert aws.snapshot_names() == []


def test_locked_snapshots_are_recorded_and_deletion_stops(
    aws: AwsCloud, postgres: PostgresServer, tmp_path: Path
) -> None:
    bench = Bench(aws, postgres, tmp_path)
    info = bench.backup(aws_snapshot_lock_mode="compliance", aws_snapshot_lock_duration=30)
    assert info.snapshots_info is not None
    assert {entry["snapshot_lock_mode"] for entry in info.snapshots_info.snapshots} == {"compliance"}
    actions = aws.server.actions()
    assert actions.index("LockSnapshot") > max(i for i, name in enumerate(actions) if name == "CreateSnapshot")
