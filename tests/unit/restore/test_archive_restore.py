"""A whole restore from a store in memory."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import FAILED, STARTED
from barman_cloud.errors import IntegrityError, OperationError, UnexpectedError, UnsafeArchiveError
from barman_cloud.restore import durability, journal
from barman_cloud.restore.recovery_settings import RecoverySettings
from tests.unit.restore.backups import (
    BACKUP_ID,
    LABEL,
    Bucket,
    directory,
    hardlink,
    interrupt_after,
    member,
    minimal,
    restore,
    symlink,
)

COMPRESSIONS = {None: "", "gzip": ".gz", "bzip2": ".bz2", "snappy": ".snappy", "lz4": ".lz4", "zstd": ".zst"}


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "some" / "data"


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
