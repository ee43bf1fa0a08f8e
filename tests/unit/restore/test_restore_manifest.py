"""Restoring backups that have a manifest and the list of their archives."""

from __future__ import annotations

import logging
import os
import tarfile
from pathlib import Path

import pytest

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.restore.recovery_settings import RecoverySettings
from tests.unit.restore.backups import (
    BACKUP_ID,
    Bucket,
    interrupt_after,
    member,
    minimal,
    record_archives,
    restore,
    symlink,
)

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some" / "data"


class TestManifest:
    """Backups of our own have a manifest and the list of archives."""

    @pytest.fixture
    def bucket(self) -> Bucket:
        bucket = Bucket()
        files = {"PG_VERSION": b"18\n", "global/pg_control": b"control", "base/5/1": os.urandom(20_000), "empty": b""}
        spool = EntrySpool()
        for path, content in files.items():
            spool.add(path, len(content), 0, crc32c(content))
        _, manifest = manifest_stream([spool], [WalRange(1, 0x2000028, 0x2000100)], 77)
        more = [member("base/5/1", files["base/5/1"]), member("empty")]
        keys = [
            bucket.put(minimal(*more), compression="lz4", suffix=".lz4"),
            bucket.put([member("backup_manifest", b"".join(manifest))], part=1),
        ]
        record_archives(bucket, keys)
        return bucket

    def test_good(self, bucket: Bucket, target: Path) -> None:
        assert restore(bucket, target).verified == 4

    def test_an_archive_that_was_changed_in_the_store(self, bucket: Bucket, target: Path) -> None:
        key = bucket.put(minimal(), compression="lz4", suffix=".lz4")
        with pytest.raises(IntegrityError, match="is not what was stored"):
            restore(bucket, target)
        assert key.endswith("data.tar.lz4")
        assert not (target / "global/pg_control").exists()

    def test_an_archive_that_is_gone(self, bucket: Bucket, target: Path) -> None:
        bucket.store.delete([bucket.layout.archive(BACKUP_ID, "data", 1)])
        with pytest.raises(OperationError, match=r"lacks the archive .*data_0001\.tar"):
            restore(bucket, target)
        assert not target.exists()

    def test_files_that_differ_from_the_manifest(self, bucket: Bucket, target: Path) -> None:
        keys = [
            bucket.put(
                minimal(member("base/5/1", bytes(20_000)), member("empty", b"!")), compression="lz4", suffix=".lz4"
            ),
            bucket.layout.archive(BACKUP_ID, "data", 1),
        ]
        record_archives(bucket, keys)
        for _ in range(2):
            with pytest.raises(IntegrityError, match=r"base/5/1 has the checksum .*; empty has 1 bytes"):
                restore(bucket, target)
            assert not (target / "global/pg_control").exists()

    def test_what_an_earlier_run_wrote_is_read_again(
        self, bucket: Bucket, target: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        interrupt_after(bucket, target, 1)
        with caplog.at_level(logging.INFO):
            assert restore(bucket, target).verified == 4
        assert "1 of 2 archives were extracted before" in caplog.text

    def test_damage_of_what_an_earlier_run_wrote(self, bucket: Bucket, target: Path) -> None:
        interrupt_after(bucket, target, 1)
        (target / "base/5/1").write_bytes(b"damaged")
        with pytest.raises(IntegrityError, match="base/5/1 has 7 bytes"):
            restore(bucket, target)
        assert restore(bucket, target).verified == 4

    def test_without_the_list_of_archives_files_are_still_compared(
        self, bucket: Bucket, target: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bucket.store.delete([bucket.layout.archives_json(BACKUP_ID)])
        assert restore(bucket, target).verified == 4
        assert "lost its archives.json" in caplog.text

    def test_damage_is_found_without_the_list_of_archives(self, bucket: Bucket, target: Path) -> None:
        bucket.store.delete([bucket.layout.archives_json(BACKUP_ID)])
        bucket.put(minimal(member("base/5/1", bytes(20_000)), member("empty")), compression="lz4", suffix=".lz4")
        with pytest.raises(IntegrityError, match=r"base/5/1 has the checksum"):
            restore(bucket, target)
        assert not (target / "global/pg_control").exists()

    @pytest.mark.parametrize("begin", ["0/3000028", None, "junk"])
    def test_the_manifest_of_an_earlier_backup_means_nothing_in_one_of_barman(
        self, bucket: Bucket, target: Path, begin: str | None
    ) -> None:
        bucket.store.delete([bucket.layout.archives_json(BACKUP_ID)])
        bucket.info.begin_xlog = begin
        bucket.put(minimal(member("base/5/1", b"other")), compression="lz4", suffix=".lz4")
        assert restore(bucket, target).verified is None

    def test_what_is_no_manifest_means_nothing_in_a_backup_of_barman(self, bucket: Bucket, target: Path) -> None:
        bucket.store.delete([bucket.layout.archives_json(BACKUP_ID)])
        bucket.put([member("backup_manifest", b"stale")], part=1)
        assert restore(bucket, target).verified is None

    def test_an_archives_json_of_an_implausible_size_is_not_read(self, bucket: Bucket, target: Path) -> None:
        bucket.store.put(bucket.layout.archives_json(BACKUP_ID), b" " * (17 << 20))
        bucket.store.requests.counts.clear()
        with pytest.raises(IntegrityError, match=r"archives\.json has 17825792 bytes"):
            restore(bucket, target)
        assert not target.exists()


class TestHostileManifest:
    """A manifest that is as hostile as its archives."""

    def restore(self, bucket: Bucket, target: Path, manifest: bytes, *more: Member) -> None:
        key = bucket.put([*minimal(*more), member("backup_manifest", manifest)])
        record_archives(bucket, [key])
        restore(bucket, target)

    @staticmethod
    def naming(path: str, size: int = 3) -> bytes:
        spool = EntrySpool()
        spool.add(path, size, 0, 1)
        return b"".join(manifest_stream([spool], [WalRange(1, 0x2000028, 0x2000100)], 77)[1])

    @pytest.mark.parametrize("path", ["/dev/zero", "../../../../../../dev/zero", "/etc/shadow", "base/../../x"])
    def test_a_path_outside(self, bucket: Bucket, target: Path, path: str) -> None:
        with pytest.raises(IntegrityError, match="not a path below the data directory"):
            self.restore(bucket, target, self.naming(path))

    @pytest.mark.parametrize("path", ["zero", "link/zero", "pipe", "pg_tblspc/16384/zero", "global"])
    def test_what_is_not_a_file(self, bucket: Bucket, target: Path, path: str) -> None:
        members = [
            symlink("zero", "/dev/zero"),
            symlink("link", "/dev"),
            member("pipe", kind=tarfile.FIFOTYPE),
            symlink("pg_tblspc/16384", "/dev"),
        ]
        with pytest.raises(IntegrityError, match=f"{path} is not a regular file"):
            self.restore(bucket, target, self.naming(path), *members)

    @pytest.mark.parametrize(
        "entry", [symlink("backup_manifest", "/dev/zero"), member("backup_manifest", kind=tarfile.FIFOTYPE)]
    )
    def test_a_manifest_that_is_not_a_file(self, bucket: Bucket, target: Path, entry: Member) -> None:
        bucket.put([*minimal(), entry])
        assert restore(bucket, target).verified is None

    @pytest.mark.parametrize("name", ["postgresql.auto.conf", "recovery.signal", "standby.signal", "backup_label"])
    @pytest.mark.parametrize("kind", ["link", "fifo"])
    def test_what_is_written_at_the_end_is_not_written_elsewhere(
        self, bucket: Bucket, target: Path, tmp_path: Path, name: str, kind: str
    ) -> None:
        precious = tmp_path / "precious"
        precious.write_text("mine")
        entry = symlink(name, str(precious)) if kind == "link" else member(name, kind=tarfile.FIFOTYPE)
        bucket.put([*minimal()[: -1 if name == "backup_label" else None], entry])
        try:
            restore(bucket, target, settings=RecoverySettings("c"))
        except OperationError:
            assert name in ("postgresql.auto.conf", "backup_label")
            assert not (target / "global/pg_control").exists()
        else:
            assert "signal" in name
        assert precious.read_text() == "mine"
