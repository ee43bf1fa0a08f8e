"""A restore into a directory of the same cluster: what is right stays, what isn't is written, the rest goes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from crc32c import crc32c

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import OperationError
from barman_cloud.restore import room
from barman_cloud.restore.archive_restore import RestoreReport, restore_backup
from barman_cloud.restore.dry_run import describe_restore
from barman_cloud.restore.recovery_settings import RecoverySettings
from tests.faults.test_restore_kills import killed_at, snapshot
from tests.unit.restore.backups import LABEL, Bucket, directory, member, with_manifest

SYSTEM = 7_575_650_932_180_498_711


def control_file(system: int = SYSTEM, note: int = 0) -> bytes:
    """A control file with a right checksum, of a server that was shut down."""
    data = struct.pack("=QIIi4xqQQ", system, 1800, 202505151, 1, 0, 0, note).ljust(288, b"\0")
    return (data + struct.pack("=I", crc32c(data))).ljust(8192, b"\0")


@pytest.fixture
def bucket() -> Bucket:
    bucket = Bucket()
    bucket.info.systemid = str(SYSTEM)
    bucket.tablespaces({"fast": "/nowhere"})
    members = [
        directory("./"),
        directory("base/5", 0o750),
        directory("pg_wal"),
        directory("pg_wal/archive_status"),
        member("./PG_VERSION", b"18\n"),
        member("base/5/1", b"one" * 5000),
        member("base/5/2", b"two" * 5000),
        member("base/5/3", b"three"),
        member("postgresql.conf", b"port = 1\n"),
        member("global/pg_control", control_file()),
        member("backup_label", LABEL, mode=0o644),
    ]
    spaces = [member("PG_18_1/5/4", b"four"), member("PG_18_1/5/5", b"five")]
    with_manifest(bucket, {DATA: members, "16384": spaces})
    return bucket


@pytest.fixture
def target(bucket: Bucket, tmp_path: Path) -> Path:
    """A restored directory that has lived on: changed, removed, new and untouched files, and no server."""
    target = tmp_path / "data"
    restore(bucket, target)
    live_on(target)
    return target


def live_on(target: Path) -> None:
    (target / "backup_label").rename(target / "backup_label.old")
    (target / "global/pg_control").write_bytes(control_file(note=1))
    (target / "base/5/2").write_bytes(b"TWO" * 5000)
    (target / "base/5/3").unlink()
    (target / "base/77").mkdir()
    (target / "base/77/1").write_bytes(b"new")
    (target / "pg_wal/000000010000000000000009").write_bytes(b"stale")
    space = target.parent / "ts"
    (space / "PG_18_1/5/5").write_bytes(b"5!")
    (space / "PG_18_1/5/6").write_bytes(b"new")
    (target / "postgresql.auto.conf").write_text("work_mem = '1MB'\n")
    (target / "base/5/1").chmod(0o640)


def restore(
    bucket: Bucket, target: Path, *, delta: bool = False, settings: RecoverySettings | None = None, force: bool = False
) -> RestoreReport:
    rules = {"fast": str(target.parent / "ts")}
    return restore_backup(
        bucket.store, bucket.layout, bucket.info, target, rules, 2, settings, delta=delta, force=force
    )


def state(target: Path) -> dict[str, tuple[object, ...]]:
    """What is in a data directory and its tablespace, but for the link to that."""
    found = snapshot(target) | {f"ts/{name}": value for name, value in snapshot(target.parent / "ts").items()}
    assert (target / "pg_tblspc/16384").readlink() == target.parent / "ts"
    del found["pg_tblspc/16384"]
    return found


def test_the_end_is_that_of_a_whole_restore(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    inodes = {name: (target / name).stat().st_ino for name in ("base/5/1", "PG_VERSION", "base/5/2")}
    report = restore(bucket, target, delta=True)
    restore(bucket, tmp_path / "whole" / "data")
    assert state(target) == state(tmp_path / "whole" / "data")
    assert (target / "base/5/1").stat().st_ino == inodes["base/5/1"]
    assert (target / "PG_VERSION").stat().st_ino == inodes["PG_VERSION"]
    assert (target / "base/5/2").read_bytes() == b"two" * 5000
    assert report.comparison is not None
    assert report.comparison.kept_files == 4
    assert report.verified == 9
    assert report.comparison.removed == 5


def test_nothing_can_be_started_while_it_runs(bucket: Bucket, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from barman_cloud.restore import archive_restore

    def stopped(*_arguments: object, **_options: object) -> None:
        assert not (target / "global/pg_control").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(archive_restore, "_extract", stopped)
    with pytest.raises(KeyboardInterrupt):
        restore(bucket, target, delta=True)
    monkeypatch.undo()
    with pytest.raises(OperationError, match="unfinished restore"):
        restore(bucket, target)
    restore(bucket, target, delta=True)
    assert (target / "base/5/3").read_bytes() == b"three"


def test_killed_at_every_step(bucket: Bucket, tmp_path: Path) -> None:
    settings = RecoverySettings("c")
    restore(bucket, tmp_path / "0/data", settings=settings)
    expected = state(tmp_path / "0/data")
    step, count = 0, 0
    while True:
        # Every third step, to keep the test short: the others are those of the whole restore.
        step += 3
        target = tmp_path / str(step) / "data"
        restore(bucket, target)
        live_on(target)

        def work(target: Path = target) -> None:
            restore(bucket, target, delta=True, settings=settings)

        if not killed_at(step, work, before=bool(step % 2)):
            break
        count += 1
        if (target / ".barman-cloud-restore").exists() or not (target / "recovery.signal").exists():
            work()
        assert state(target) == expected, f"step {step}"
    assert count > 20


def test_a_running_server_is_refused(bucket: Bucket, target: Path) -> None:
    (target / "postmaster.pid").write_text("1\n")
    before = snapshot(target)
    with pytest.raises(OperationError, match="running server"):
        restore(bucket, target, delta=True)
    assert snapshot(target) == before


@pytest.mark.parametrize("change", ["another cluster", "no data directory", "no system identifier", "no manifest"])
def test_what_can_not_be_compared_is_refused_and_left(bucket: Bucket, target: Path, change: str) -> None:
    if change == "another cluster":
        bucket.info.systemid = "42"
    elif change == "no data directory":
        (target / "global/pg_control").unlink()
    elif change == "no system identifier":
        bucket.info.systemid = None
    else:
        bucket.info.begin_xlog = "0/9000028"
    before = snapshot(target)
    with pytest.raises(OperationError, match=r"cluster|not a data directory|doesn't tell|has no backup_manifest"):
        restore(bucket, target, delta=True)
    assert snapshot(target) == before


def test_a_tablespace_directory_of_another_server_is_refused(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    (target / "pg_tblspc/16384").unlink()
    with pytest.raises(OperationError, match="tablespace fast, is not empty"):
        restore(bucket, target, delta=True)


def test_an_empty_directory_is_restored_as_always(bucket: Bucket, tmp_path: Path) -> None:
    assert restore(bucket, tmp_path / "new" / "data", delta=True).comparison is None


def test_a_dry_run_tells_and_changes_nothing(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    rules = {"fast": str(tmp_path / "ts")}
    text = "\n".join(describe_restore(bucket.store, bucket.layout, bucket.info, target, rules, 2, delta=True))
    assert "kept              4 files" in text
    assert "written           5 files" in text
    assert "removed           5 files" in text
    assert f"fast into {tmp_path}/ts" in text
    assert snapshot(tmp_path) == before
    new = tmp_path / "new"
    text = "\n".join(describe_restore(bucket.store, bucket.layout, bucket.info, new, {"fast": str(new / "ts")}, 2))
    assert f"{new}: 0.1 MiB needed" in text
    assert not new.exists()
    with pytest.raises(OperationError, match="not empty"):
        describe_restore(bucket.store, bucket.layout, bucket.info, target, rules, 2)


class TestRoom:
    @pytest.fixture
    def full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.statvfs

        def statvfs(path: Path) -> os.statvfs_result:
            found = list(real(path))
            found[3] = found[4] = 10 * 4096 // found[1]
            return os.statvfs_result(found)

        monkeypatch.setattr(room.os, "statvfs", statvfs)

    @pytest.mark.usefixtures("full")
    def test_too_little_is_refused_before_anything_is_made(self, bucket: Bucket, tmp_path: Path) -> None:
        with pytest.raises(
            OperationError, match=r"not enough room in .*data: 0\.1 MiB needed, 0\.0 MiB free"
        ) as caught:
            restore(bucket, tmp_path / "x" / "data")
        assert "--force" in str(caught.value.hint)
        assert not (tmp_path / "x").exists()
        restore(bucket, tmp_path / "x" / "data", force=True)

    @pytest.mark.usefixtures("full")
    def test_what_is_there_already_counts(self, bucket: Bucket, tmp_path: Path) -> None:
        target = tmp_path / "data"
        restore(bucket, target, force=True)
        (target / "base/5/2").write_bytes(b"TWO" * 5000)
        restore(bucket, target, delta=True)

    def test_an_estimate_alone_only_warns(
        self, bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bucket.store.delete([bucket.layout.archives_json(bucket.info.backup_id)])
        bucket.info.begin_xlog = "0/9000028"
        bucket.info.cluster_size = 1 << 60
        restore(bucket, tmp_path / "data")
        assert "there may not be enough room" in caplog.text

    def test_the_manifest_knows_better_than_the_size_of_the_cluster(self, bucket: Bucket, tmp_path: Path) -> None:
        bucket.info.cluster_size = 1 << 60
        restore(bucket, tmp_path / "data")

    def test_exact_sizes(self) -> None:
        sizes = {"a": 1, "base/5/1": 4096, "base/5/2": 4097, "pg_tblspc/7/x": 1, "pg_tblspc/9/y": 0}
        files = [ManifestFile(path, size, "", None, None) for path, size in sizes.items()]
        assert room.exact(files, [DATA, "7"]) == {DATA: 4 * 4096, "7": 4096}
