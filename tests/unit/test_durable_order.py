"""In which order files are written, made durable and named. A loss of power can't be tested; the order can."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.errors import BarmanCloudError
from barman_cloud.restore import delta, durability, journal, recovery_settings
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.restore.finish import reopen
from barman_cloud.restore.journal import Identity
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.restore.tree import Tree
from barman_cloud.store.open import open_store
from barman_cloud.wal import delivery
from barman_cloud.wal.receive_spool import ReceiveSpool
from tests.support.file_operations import FileOperations, descriptors_left_by, recorded
from tests.support.segments import SIZE, segment, segment_name
from tests.support.spools import opened
from tests.unit.restore.backups import Bucket, member, minimal, restore

SETTINGS = RecoverySettings("cmd %f %p", standby=True)


@pytest.fixture(params=["whole file systems", "each file"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The two ways to make a restored directory durable."""
    monkeypatch.setattr(durability, "_syncfs_reports_errors", lambda: request.param == "whole file systems")
    return str(request.param)


class TestTheRecorder:
    """It must be able to see what it is there for."""

    def test_names_before_content_and_names_that_are_lost(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            file = os.open(tmp_path / "x.tmp", os.O_CREAT | os.O_WRONLY)
            os.write(file, b"x")
            os.rename(tmp_path / "x.tmp", tmp_path / "x")
            os.mkdir(tmp_path / "d")
            os.close(file)
        assert found.problems == ["x: has its name before its content is on disk"]
        assert found.lost_with_the_power()[1:] == ["./: mkdir of d, and the directory isn't on disk"]

    def test_content_that_is_still_in_a_buffer_of_ours(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            fd = os.open(tmp_path / "x.tmp", os.O_CREAT | os.O_WRONLY)
            with os.fdopen(fd, "wb") as file:
                file.write(b"x")
                os.fsync(fd)
            os.rename(tmp_path / "x.tmp", tmp_path / "x")
        assert found.problems == ["x: has its name before its content is on disk"]

    def test_the_right_order(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            durability.replace_file(tmp_path / "x", b"x", 0o600)
        assert [op.what for op in found.done] == ["create", "fsync", "rename", "fsync"]
        assert found.lost_with_the_power() == []


class TestLocalStore:
    @pytest.mark.parametrize(
        "store_it",
        [
            lambda store, key: store.put(key, b"content"),
            lambda store, key: store.put(key, b"content", if_absent=True),
            lambda store, key: store.put_stream(key, [b"con", b"tent"]),
        ],
        ids=["put", "create", "stream"],
    )
    def test_an_object_is_durable_with_all_its_folders(
        self, tmp_path: Path, store_it: Callable[[object, str], None]
    ) -> None:
        store = open_store(f"file://{tmp_path}")
        with recorded(tmp_path) as found:
            store_it(store, "a/b/c")
        assert (tmp_path / "a/b/c").read_bytes() == b"content"
        assert found.lost_with_the_power() == []
        for above, below in ((".", "a"), ("a", "a/b")):
            assert found.place("mkdir", below) < found.place("fsync", above)
        name = "link" if found.has("link") else "rename"
        assert found.place("fsync", "a", last=True) < found.place(name, "a/b/c"), "the folders come first"

    def test_an_object_that_replaces_another(self, tmp_path: Path) -> None:
        store = open_store(f"file://{tmp_path}")
        store.put("k", b"before")
        with recorded(tmp_path) as found:
            store.put("k", b"after")
        assert found.lost_with_the_power() == []
        assert not found.has("unlink", "k"), "there is never no object"


class TestDelivery:
    def test_a_segment_is_on_disk_before_it_has_its_name(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            delivery.deliver([b"con", b"tent"], str(tmp_path / "RECOVERYXLOG"))
            delivery.deliver([b"content"], "in-spool", opened(tmp_path).descriptor)
        assert found.problems == []
        assert [op.what for op in found.done] == [
            "create",
            "write",
            "write",
            "fsync",
            "rename",
            "create",
            "write",
            "fsync",
            "rename",
        ]

    def test_a_short_write_is_gone_on_with(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: plain(fd, data[:3]))
        delivery.deliver([b"content"], str(tmp_path / "RECOVERYXLOG"))
        monkeypatch.undo()
        assert (tmp_path / "RECOVERYXLOG").read_bytes() == b"content"

    def test_only_another_file_system_leads_to_a_copy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "spooled").write_bytes(b"content")

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "replace", refuse)
        with pytest.raises(PermissionError):
            delivery.move("spooled", str(tmp_path / "there"), opened(tmp_path).descriptor)
        monkeypatch.undo()
        assert os.listdir(tmp_path) == ["spooled"]


class TestReceiveSpool:
    def test_everything_that_is_acknowledged_is_on_disk(self, tmp_path: Path) -> None:
        name, data = segment_name(1), segment(1)
        with recorded(tmp_path) as found:
            spool = ReceiveSpool(opened(tmp_path))
            spool.write("00000002.history", b"1\t0/3000000\tx\n")
            file = spool.segment(name, SIZE)
            assert found.lost_with_the_power() == []
            assert found.unsynced == []
            file.write(memoryview(data)[:4096], 0)
            file.sync()
            assert found.unsynced == []
            file.write(memoryview(data)[4096:], 4096)
            file.finish()
        spool.close()
        assert found.lost_with_the_power() == []
        assert found.place("fsync", f"{name}.partial", last=True) < found.place("rename", name)
        created = found.place("create", f"{name}.partial")
        assert found.place("fsync", f"{name}.partial") > created
        assert "fsync" in [op.what for op in found.done[created:] if op.path == "."][:1], "so has the folder"

    def test_a_segment_that_is_left_is_on_disk_and_is_set_aside_durably(self, tmp_path: Path) -> None:
        name = segment_name(1)
        with recorded(tmp_path) as found:
            spool = ReceiveSpool(opened(tmp_path))
            file = spool.segment(name, SIZE)
            file.write(memoryview(segment(1))[:4096], 0)
            file.close()
            assert found.unsynced == []
            (left,) = spool.left_over()
            spool.close()
        assert Path(left).read_bytes()[:4096] == segment(1)[:4096]
        assert found.lost_with_the_power() == []
        folder = os.path.relpath(os.path.dirname(left), tmp_path)
        renamed = found.place("rename", f"{name}.partial")
        assert found.place("fsync", "copies") < renamed, (
            "the new folder must be there before the only copy goes into it"
        )
        assert found.place("fsync", folder, last=True) < found.place("fsync", ".", last=True), (
            "there before it is gone here"
        )

    def test_a_second_receiver_is_refused(self, tmp_path: Path) -> None:
        """Locks of one process don't exclude each other, so another one has to ask."""
        spool = ReceiveSpool(opened(tmp_path))
        child = os.fork()
        if child == 0:
            try:
                ReceiveSpool(opened(tmp_path))
            except BarmanCloudError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        spool.close()


class TestRestore:
    def test_pg_control_gets_its_name_when_all_is_on_disk(self, tmp_path: Path, both_ways: str) -> None:
        bucket, target, place = Bucket(), tmp_path / "data", tmp_path / "ts"
        bucket.tablespaces({"fast": "/nowhere"})
        bucket.put(minimal(member("base/1/2", b"x" * 10_000)))
        bucket.put([member("PG_18_1/5/1", b"fast")], base="16384")
        with recorded(tmp_path) as found:
            restore_backup(bucket.store, bucket.layout, bucket.info, target, {"fast": str(place)}, 1, SETTINGS)
        aside, control = "data/global/pg_control.restoring", "data/global/pg_control"
        released = found.place("rename", control)
        assert found.done[released].path == aside
        notes = f"data/{journal.NAME}"
        assert found.place("fsync", notes) < found.place("mkdir", "data/global")
        assert found.place("fsync", "data") < found.place("mkdir", "data/global"), "the journal first"
        if both_ways == "each file":
            for path in ("data/base/1/2", "data/base/1", "data/base", "ts/PG_18_1/5/1", aside, "data/backup_label"):
                assert found.place("fsync", path, last=True) < released
        else:
            assert found.place("syncfs") < released
        before = [n for n, op in enumerate(found.done) if op.what == "fsync" and op.path == "." and n < released]
        assert before, "the directories themselves"
        for written in ("data/postgresql.auto.conf", "data/standby.signal"):
            assert found.place("rename", written) < released
        removed = found.place("unlink", notes)
        assert (
            released
            < found.place("fsync", "data/global", last=True)
            < removed
            < found.place("fsync", "data", last=True)
        )
        assert found.lost_with_the_power() == []

    def test_every_file_system_is_flushed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        flushed: list[Path] = []
        other = Path("/dev/shm")
        if other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("one file system here")
        monkeypatch.setattr(durability, "_syncfs_reports_errors", lambda: True)
        monkeypatch.setattr(durability, "_syncfs", flushed.append)
        (tmp_path / "a").mkdir()
        durability.sync_trees([tmp_path, other, tmp_path / "a"])
        assert len(flushed) == 2
        assert other in flushed

    def test_a_disk_that_fails_is_an_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durability, "_libc_function", lambda _name: lambda _fd: -1)
        with pytest.raises(OSError):
            durability._syncfs(tmp_path)

    def test_recovery_settings(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            recovery_settings.write(tmp_path, SETTINGS, "20261122T121102")
        assert found.lost_with_the_power() == []
        for name in ("postgresql.auto.conf", "standby.signal"):
            temporary = f".{name}.barman-cloud"
            assert found.place("fsync", temporary) < found.place("rename", name)
            assert any(op.what == "fsync" and op.path == "." for op in found.done[found.place("rename", name) :])
        assert (tmp_path / "postgresql.auto.conf").stat().st_mode & 0o777 == 0o600

    def test_a_setting_keeps_its_mode(self, tmp_path: Path) -> None:
        durability.replace_file(tmp_path / "x", b"x", 0o640)
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640

    def test_a_finished_restore_that_is_repeated_loses_its_control_file_first(self, tmp_path: Path) -> None:
        (tmp_path / "global").mkdir()
        (tmp_path / "global/pg_control").write_bytes(b"x")
        (tmp_path / "backup_label").write_bytes(b"x")
        with recorded(tmp_path) as found:
            reopen(tmp_path)
        assert [(op.what, op.path) for op in found.done] == [("rename", "global/pg_control"), ("fsync", "global")]

    def test_a_journal_is_on_disk_before_anything_else(self, tmp_path: Path) -> None:
        with recorded(tmp_path) as found:
            journal.start(tmp_path, Identity("url", "main", "1", {})).close()
        assert [op.what for op in found.done][:2] == ["create", "write"]
        assert found.unsynced == []
        assert found.done[-1] == ("fsync", ".", "")

    def test_two_restores_at_once_are_refused(self, tmp_path: Path) -> None:
        first = journal.start(tmp_path, Identity("url", "main", "1", {}))
        with pytest.raises(BarmanCloudError, match="another process is restoring"):
            journal.resume(tmp_path, Identity("url", "main", "1", {}))
        first.close()

    def test_a_delta_restore_takes_the_control_file_first(self, tmp_path: Path) -> None:
        bucket = Bucket()
        bucket.put(minimal())
        target = tmp_path / "data"
        restore(bucket, target)
        (target / "stranger").touch()
        plan = type("Plan", (), {"target": target})()
        tree = Tree(target)
        listed = [ManifestFile("PG_VERSION", 3, "", None, None)]
        comparison = delta.Comparison(listed=delta.Paths(hash(entry.path) for entry in listed))
        with recorded(target) as found:
            delta.prepare(plan, {"data": tree}, comparison)
        tree.close()
        gone, durable = found.place("unlink", "global/pg_control"), found.place("fsync", "global")
        assert gone < durable < found.place("unlink", "stranger")


class TestDescriptors:
    """What is opened is closed, also in a process that lives for weeks."""

    def test_a_store(self, tmp_path: Path) -> None:
        store = open_store(f"file://{tmp_path}")

        def work(number: int) -> None:
            store.put(f"{number}/k", b"x")
            store.put_stream(f"{number}/s", [b"x"])
            assert store.get(f"{number}/k") == b"x"
            assert list(store.read(f"{number}/s")) == [b"x"]
            next(store.read(f"{number}/s"))
            next(iter(store.list("")))
            store.delete([f"{number}/k"])

        assert descriptors_left_by(work) == 0

    def test_delivery_and_spools(self, tmp_path: Path) -> None:
        spools = tmp_path / "spool"
        spools.mkdir()

        def work(number: int) -> None:
            delivery.deliver([b"x"], str(tmp_path / "x"))
            spool = ReceiveSpool(opened(spools))
            file = spool.segment(segment_name(number), SIZE)
            file.finish()
            spool.write("00000002.history", b"x")
            spool.left_over()
            spool.close()

        opened(spools)
        assert descriptors_left_by(work) == 0

    def test_a_restore(self, tmp_path: Path) -> None:
        bucket = Bucket()
        deep = [member("/".join(["d"] * depth) + f"/{depth}", b"x") for depth in range(1, 80)]
        bucket.put(minimal(*deep))
        Catalog(bucket.store, bucket.layout).save(BackupInfo("20261122T121103"))
        assert descriptors_left_by(lambda number: restore(bucket, tmp_path / str(number), settings=SETTINGS), 5) == 0


def test_operations_are_named_by_what_they_do(tmp_path: Path) -> None:
    found = FileOperations(tmp_path)
    found.mark("stored", "x")
    assert found.place("stored") == 0
