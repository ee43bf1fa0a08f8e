"""A whole restore from a store in memory."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import tarfile
from pathlib import Path

import pytest

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.catalog.backup_info import FAILED, STARTED
from barman_cloud.errors import IntegrityError, OperationError, UnexpectedError, UnsafeArchiveError
from barman_cloud.restore import archive_restore, durability, journal
from barman_cloud.restore.archive_restore import RestoreReport, restore_backup
from barman_cloud.restore.recovery_settings import RecoverySettings
from tests.unit.restore.backups import (
    BACKUP_ID,
    LABEL,
    Bucket,
    directory,
    hardlink,
    member,
    minimal,
    record_archives,
    symlink,
)

Member = tuple[tarfile.TarInfo, bytes]
COMPRESSIONS = {None: "", "gzip": ".gz", "bzip2": ".bz2", "snappy": ".snappy", "lz4": ".lz4", "zstd": ".zst"}


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some" / "data"


def restore(
    bucket: Bucket, target: Path, jobs: int = 2, settings: RecoverySettings | None = None, **rules: str
) -> RestoreReport:
    return restore_backup(bucket.store, bucket.layout, bucket.info, target, rules, jobs, settings)


def names(target: Path) -> set[str]:
    return {str(path.relative_to(target)) for path in target.rglob("*")}


@pytest.mark.parametrize(("compression", "suffix"), COMPRESSIONS.items())
def test_every_compression(bucket: Bucket, target: Path, compression: str | None, suffix: str) -> None:
    content = os.urandom(100_000) + bytes(3_000_000)
    bucket.put(minimal(member("base/5/16384", content)), compression=compression, suffix=suffix)
    report = restore(bucket, target)
    assert (target / "base/5/16384").read_bytes() == content
    assert (report.files, report.verified) == (4, None)
    assert report.size == len(content) + len(b"18\n" + b"control" + LABEL)


def test_what_is_there_in_the_end(bucket: Bucket, target: Path) -> None:
    bucket.put(minimal(member("tablespace_map", b"16384 /old/place\n")))
    restore(bucket, target)
    assert names(target) == {
        "PG_VERSION",
        "backup_label",
        "global",
        "global/pg_control",
        "pg_tblspc",
        "pg_wal",
        "tablespace_map.old",
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert stat.S_IMODE((target / "pg_wal").stat().st_mode) == 0o700


@pytest.mark.parametrize(("archived", "restored"), [(0o700, 0o700), (0o750, 0o750), (0o755, 0o700), (0o500, 0o700)])
def test_pgdata_gets_a_mode_that_postgresql_accepts(bucket: Bucket, target: Path, archived: int, restored: int) -> None:
    bucket.put([directory("./", archived), *minimal()[1:]])
    target.mkdir(parents=True, mode=0o755)
    restore(bucket, target)
    assert stat.S_IMODE(target.stat().st_mode) == restored


def test_parts_and_tablespaces(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    bucket.tablespaces({"fast": str(old), "slow": "/nowhere"})
    bucket.put(minimal()[:4])
    bucket.put([member("base/1/2", b"two")], part=1)
    bucket.put(minimal()[4:], part=2)
    bucket.put([member("PG_18_1/5/1", b"fast")], base="16384", compression="lz4", suffix=".lz4")
    bucket.put([member("PG_18_1/5/2", b"fast too")], base="16384", part=1)
    bucket.put([member("PG_18_1/5/3", b"slow")], base="16385")
    restore(bucket, target, slow=str(new))
    assert (target / "base/1/2").read_bytes() == b"two"
    assert (target / "pg_tblspc/16384").readlink() == old
    assert (target / "pg_tblspc/16385").readlink() == new
    assert (target / "pg_tblspc/16384/PG_18_1/5/2").read_bytes() == b"fast too"
    assert (new / "PG_18_1/5/3").read_bytes() == b"slow"
    assert stat.S_IMODE(new.stat().st_mode) == 0o700


def test_a_tablespace_inside_the_recovery_directory(bucket: Bucket, target: Path) -> None:
    bucket.tablespaces({"inside": "/old"})
    bucket.put(minimal())
    bucket.put([member("PG_18_1/5/1", b"x")], base="16384")
    restore(bucket, target, inside=str(target / "ts_in"))
    assert (target / "pg_tblspc/16384/PG_18_1/5/1").read_bytes() == b"x"


def test_an_in_place_tablespace(bucket: Bucket, target: Path) -> None:
    bucket.tablespaces({"inplace": "pg_tblspc/16384"})
    bucket.put(minimal())
    bucket.put([member("PG_18_1/5/1", b"x")], base="16384")
    restore(bucket, target)
    assert not (target / "pg_tblspc/16384").is_symlink()
    assert (target / "pg_tblspc/16384/PG_18_1/5/1").read_bytes() == b"x"


def test_rules_for_unknown_tablespaces_are_told_of(
    bucket: Bucket, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put(minimal())
    with caplog.at_level(logging.WARNING):
        restore(bucket, target, nonsense="/x")
    assert "no tablespace nonsense" in caplog.text


def test_two_tablespaces_in_one_place(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    bucket.tablespaces({"a": str(tmp_path / "a"), "b": str(tmp_path / "b")})
    with pytest.raises(OperationError, match="tablespace b would go to"):
        restore(bucket, target, b=str(tmp_path / "a"))
    with pytest.raises(OperationError, match="the recovery directory"):
        restore(bucket, target, a=str(target))


def test_nothing_is_written_when_a_directory_is_not_empty(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    place = tmp_path / "ts"
    bucket.tablespaces({"a": str(place)})
    bucket.put(minimal())
    bucket.put([], base="16384")
    place.mkdir()
    (place / "lost+found").mkdir()
    with pytest.raises(OperationError, match="tablespace a, is not empty") as caught:
        restore(bucket, target)
    assert "give --tablespace a:LOCATION" in str(caught.value.hint)
    assert not target.exists()
    target.mkdir(parents=True)
    (target / "x").touch()
    with pytest.raises(OperationError, match="recovery directory, is not empty"):
        restore(bucket, target, a=str(tmp_path / "other"))
    assert names(target) == {"x"}
    with pytest.raises(OperationError, match="not a directory"):
        restore(bucket, target / "x")
    assert bucket.store.requests.counts.get("get", 0) <= 1


@pytest.mark.parametrize("missing", ["data", "part", "tablespace"])
def test_missing_archives(bucket: Bucket, target: Path, tmp_path: Path, missing: str) -> None:
    bucket.tablespaces({"a": str(tmp_path / "a")})
    keys = {"data": bucket.put(minimal()), "part": bucket.put([], part=1), "tablespace": bucket.put([], base="16384")}
    bucket.put([], part=2)
    bucket.store.delete([keys[missing]])
    with pytest.raises(OperationError, match=r"(has no|lacks the) archive"):
        restore(bucket, target)
    assert not target.exists()


@pytest.mark.parametrize("status", [STARTED, FAILED])
def test_a_backup_that_is_not_done(bucket: Bucket, target: Path, status: str) -> None:
    bucket.info.status = status
    bucket.put([entry for entry in minimal() if entry[0].name != "backup_label"])
    with pytest.raises(OperationError, match="holds no backup_label"):
        restore(bucket, target)
    assert not target.exists()
    bucket.put([member("./backup_label", LABEL)], part=1)
    restore(bucket, target)
    assert (target / "backup_label").exists()


def test_without_a_label_the_cluster_cannot_be_started(bucket: Bucket, target: Path) -> None:
    bucket.put([entry for entry in minimal() if entry[0].name != "backup_label"])
    with pytest.raises(OperationError, match="holds no backup_label"):
        restore(bucket, target)
    assert not (target / "global/pg_control").exists()


def test_without_a_control_file(bucket: Bucket, target: Path) -> None:
    bucket.put([entry for entry in minimal() if entry[0].name != "global/pg_control"])
    with pytest.raises(IntegrityError, match="pg_control"):
        restore(bucket, target)


def test_hostile(bucket: Bucket, target: Path) -> None:
    bucket.put(minimal(symlink("out", ".."), member("out/evil", b"x")))
    with pytest.raises(UnsafeArchiveError):
        restore(bucket, target)
    assert {path.name for path in target.parent.iterdir()} == {"data"}
    assert not (target / "global/pg_control").exists()


def test_links(bucket: Bucket, target: Path) -> None:
    bucket.put(minimal(symlink("./conf", "/etc/pg.conf"), hardlink("VERSION", "./PG_VERSION")))
    restore(bucket, target)
    assert (target / "conf").readlink() == Path("/etc/pg.conf")
    assert (target / "VERSION").read_bytes() == b"18\n"


def test_the_disk_says_no(bucket: Bucket, target: Path) -> None:
    bucket.put(minimal(member("x" * 300, b"")))
    with pytest.raises(UnexpectedError, match="too long") as caught:
        restore(bucket, target)
    assert "goes on from here" in str(caught.value.hint)


def test_the_disk_says_no_in_the_end(bucket: Bucket, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_roots: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))

    monkeypatch.setattr(durability, "sync_trees", fails)
    bucket.put(minimal())
    with pytest.raises(UnexpectedError, match="Input/output error"):
        restore(bucket, target)
    assert not (target / "global/pg_control").exists()


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lz4", "bzip2"])
@pytest.mark.parametrize("cut", [1, 600, 3000])
def test_a_truncated_archive(bucket: Bucket, target: Path, compression: str, cut: int) -> None:
    key = bucket.put(minimal(member("f", os.urandom(5000))), compression=compression, suffix=COMPRESSIONS[compression])
    bucket.store.put(key, bucket.store.get(key)[:-cut])
    with pytest.raises(IntegrityError):
        restore(bucket, target)
    assert not (target / "global/pg_control").exists()


def test_recovery_settings(bucket: Bucket, target: Path) -> None:
    bucket.put(minimal())
    restore(bucket, target, settings=RecoverySettings("fetch %f %p", immediate=True))
    assert "recovery_target = 'immediate'" in (target / "postgresql.auto.conf").read_text()
    assert (target / "recovery.signal").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_as_root_all_belongs_to_the_owner_of_pgdata(bucket: Bucket, target: Path, tmp_path: Path) -> None:
    place = tmp_path / "ts"
    bucket.tablespaces({"a": str(place)})
    owner = {"uid": 1234, "gid": 4321}
    bucket.put(
        [
            directory("./", **owner),
            directory("global", **owner),
            member("base/1/2", b"x", **owner),
            member("global/pg_control", b"c", **owner),
            member("backup_label", LABEL, uid=0, gid=4321),
        ]
    )
    bucket.put([member("PG_18_1/1", b"x", **owner)], base="16384")
    restore(bucket, target, settings=RecoverySettings("c"))
    for path in (target, *target.rglob("*"), place, *place.rglob("*")):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 4321), path


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


def interrupt_after(bucket: Bucket, target: Path, archives: int) -> None:
    """Run a restore that is killed once so many archives (the largest first) are extracted."""
    real = archive_restore.extract_archive
    left = [archives]

    def extract(*args: object, **options: object) -> object:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(*args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(archive_restore, "extract_archive", extract)
        restore(bucket, target, jobs=1)


class TestResume:
    @pytest.fixture
    def bucket(self) -> Bucket:
        bucket = Bucket()
        bucket.put(minimal(directory("base", 0o750), symlink("conf", "/etc/x"), member("base/1", bytes(50_000))))
        bucket.put([member("base/2", b"2"), member("pg_hba.conf", b"later")], part=1)
        return bucket

    def test_goes_on_where_it_stopped(self, bucket: Bucket, target: Path) -> None:
        interrupt_after(bucket, target, 1)
        assert (target / journal.NAME).exists()
        assert not (target / "global/pg_control").exists()
        inode = (target / "base/1").stat().st_ino
        report = restore(bucket, target)
        assert (target / "base/1").stat().st_ino == inode
        assert (target / "base/2").read_bytes() == b"2"
        assert (target / "conf").is_symlink()
        assert stat.S_IMODE((target / "base").stat().st_mode) == 0o750
        assert not (target / journal.NAME).exists()
        assert report.files == 6

    def test_half_an_archive_is_extracted_again(self, bucket: Bucket, target: Path) -> None:
        interrupt_after(bucket, target, 0)
        (target / "base").mkdir()
        (target / "base/1").write_bytes(b"half")
        restore(bucket, target)
        assert (target / "base/1").read_bytes() == bytes(50_000)

    def test_another_backup_is_refused(self, bucket: Bucket, target: Path) -> None:
        interrupt_after(bucket, target, 0)
        bucket.info.backup_id = "20270101T000000"
        with pytest.raises(OperationError, match=f"unfinished restore of backup {BACKUP_ID}"):
            restore(bucket, target)

    def test_a_finished_restore_is_not_repeated(self, bucket: Bucket, target: Path) -> None:
        restore(bucket, target)
        with pytest.raises(OperationError, match="not empty"):
            restore(bucket, target)

    def test_killed_in_the_very_last_moment(
        self, bucket: Bucket, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def dies(_self: journal.Journal) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(journal.Journal, "remove", dies)
            restore(bucket, target, settings=RecoverySettings("c"))
        restore(bucket, target, settings=RecoverySettings("c"))
        assert (target / "postgresql.auto.conf").read_text().count("restore_command") == 1
        assert not (target / journal.NAME).exists()

    def test_the_journal_is_readable(self, bucket: Bucket, target: Path) -> None:
        interrupt_after(bucket, target, 1)
        header, boot, entry = map(json.loads, (target / journal.NAME).read_text().splitlines())
        assert (header["backup_id"], header["server"], header["tablespaces"]) == (BACKUP_ID, "prod/main/", {})
        assert list(boot) == ["boot"]
        assert entry["archive"].endswith("/data.tar")

    def test_an_archived_journal_does_no_harm(self, bucket: Bucket, target: Path) -> None:
        bucket.put([member(journal.NAME, b"not json\n")], part=2)
        interrupt_after(bucket, target, 2)
        restore(bucket, target)
        assert (target / f"{journal.NAME}.old").read_bytes() == b"not json\n"
