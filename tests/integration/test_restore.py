"""``barman-cloud-restore`` as a process: what it restores, what it refuses, and how it ends."""

from __future__ import annotations

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.backup_info import FAILED, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.store.open import open_store
from tests.support.commands import program, run_command
from tests.support.restoring import failed, restore, succeeded
from tests.unit.restore.backups import BACKUP_ID, LABEL, Bucket, member, minimal, symlink

Completed = subprocess.CompletedProcess[str]


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A small backup, made by hand, in a directory."""
    (tmp_path / "store").mkdir()
    bucket = Bucket(open_store(f"file://{tmp_path}/store"))
    bucket.put(minimal(member("base/5/1", b"content")), compression="lz4", suffix=".lz4")
    bucket.save()
    return bucket


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


class TestSuccess:
    def test_is_silent(self, bucket: Bucket, target: Path) -> None:
        done = succeeded(restore(bucket, target))
        assert (done.stdout, done.stderr) == ("", "")
        assert (target / "base/5/1").read_bytes() == b"content"

    @pytest.mark.parametrize("backup", ["last", "first", "auto"])
    def test_tells_what_it_chose_and_did(self, bucket: Bucket, target: Path, backup: str) -> None:
        done = succeeded(restore(bucket, target, "-v", backup=backup))
        assert done.stdout == ""
        assert re.search(rf"restored backup {BACKUP_ID} into {target}: 4 files", done.stderr)
        assert "000000010000000000000002" in done.stderr

    @pytest.mark.parametrize("backup", [BACKUP_ID, "last"])
    def test_a_target_means_nothing_to_an_id_and_that_is_said(self, bucket: Bucket, target: Path, backup: str) -> None:
        done = succeeded(restore(bucket, target, "--target-time", "junk", "--target-tli", "current", backup=backup))
        assert re.search(
            r"WARNING.* --target-time and --target-tli without effect.*--write-recovery-settings", done.stderr
        )

    @pytest.mark.parametrize(
        ("options", "aborts"), [([], True), (["--no-abort-recovery-on-error"], False), (["--standby-mode"], False)]
    )
    def test_errors_abort_recovery_unless_told_otherwise(
        self, bucket: Bucket, target: Path, options: list[str], aborts: bool
    ) -> None:
        succeeded(restore(bucket, target, "--write-recovery-settings", *options))
        assert ("--abort-recovery-on-error" in (target / "postgresql.auto.conf").read_text()) == aborts

    def test_a_time_that_can_be_read_in_two_ways_is_told_of(self, bucket: Bucket, target: Path) -> None:
        done = succeeded(restore(bucket, target, "--target-time", "2026-11-22 12:00 UTC+9", backup="auto"))
        assert "9 hours behind UTC" in done.stderr

    def test_an_incomplete_backup_by_its_id(self, bucket: Bucket, target: Path) -> None:
        bucket.info.status = FAILED
        bucket.save()
        done = succeeded(restore(bucket, target))
        assert "WARNING" in done.stderr
        assert (target / "backup_label").read_bytes() == LABEL

    def test_recovery_settings(self, bucket: Bucket, target: Path) -> None:
        done = succeeded(
            restore(
                bucket,
                target,
                "--write-recovery-settings",
                "--target-time",
                "2026-11-22T15:00:00Z",
                "--target-action",
                "promote",
                backup="auto",
            )
        )
        text = (target / "postgresql.auto.conf").read_text()
        command = f"{program('wal-restore')} --abort-recovery-on-error {bucket.store.url.text} main %f %p"
        assert f"restore_command = '{command}'\n" in text
        assert "recovery_target_time = '2026-11-22 15:00:00+00:00'\n" in text
        assert (target / "recovery.signal").exists()
        assert command in done.stdout
        assert "promote" in done.stdout


class TestRefusal:
    def test_no_such_backup(self, bucket: Bucket, target: Path) -> None:
        failed(restore(bucket, target, backup="20200101T000000"), 1, "20200101T000000 .*doesn't exist")
        failed(restore(bucket, target, backup="nightly"), 4, "no backup is named 'nightly'")
        assert not target.exists()

    def test_shortcuts_only_mean_complete_backups(self, bucket: Bucket, target: Path) -> None:
        bucket.info.status = FAILED
        bucket.save()
        failed(restore(bucket, target, backup="last"), 4, "matches nothing")
        failed(restore(bucket, target, backup="last-failed"), 4, "name it by its id")
        failed(restore(bucket, target, backup="auto"), 1, "no complete backup")

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["--target-time", "junk"], 4, "junk"),
            (["--target-lsn", "junk"], 4, "junk"),
            (["--target-tli", "current"], 4, "current timeline"),
            (["--target-tli", "9"], 1, "on timeline 9"),
            (["--target-time", "2026-11-22T12:00:00Z"], 1, "no complete backup"),
            (["--target-name", "here"], 3, "give the id"),
            (["--target-lsn", "0/1", "--target-xid", "7"], 3, "more than one recovery target"),
            (["--target-action", "promote"], 3, "without a recovery target"),
        ],
    )
    def test_auto(self, bucket: Bucket, target: Path, arguments: list[str], code: int, words: str) -> None:
        failed(restore(bucket, target, *arguments, backup="auto"), code, words)
        assert not target.exists()

    @pytest.mark.parametrize("arguments", [["--target-time", "2026-11-22T12:00:00Z"], ["--target-lsn", "0/1"]])
    def test_a_backup_that_ended_after_the_target(self, bucket: Bucket, target: Path, arguments: list[str]) -> None:
        failed(restore(bucket, target, "--write-recovery-settings", *arguments), 1, "after the recovery target")
        assert not target.exists()

    def test_a_wrong_server_name(self, bucket: Bucket, target: Path) -> None:
        url = bucket.store.url.text
        for backup, code, words in [
            ("last", 4, "'last' matches nothing"),
            ("nightly", 4, "no backup is named"),
            ("auto", 1, "no complete backup"),
            (BACKUP_ID, 1, "doesn't exist"),
        ]:
            done = run_command("restore", url, "mian", backup, target)
            failed(done, code, f"{words}.*hint: there is no server 'mian' below .*is it 'main'")
        Path(bucket.store.url.bucket, "elsewhere").mkdir()
        failed(run_command("restore", f"{url}/elsewhere", "main", "last", target), 4, "nor any other")
        failed(
            run_command("restore", "--target-tli", "latest", url, "mian", "auto", target), 4, "is empty.*is it .main"
        )

    def test_a_target_before_the_first_backup_has_the_right_hint(self, bucket: Bucket, target: Path) -> None:
        done = restore(bucket, target, "--target-time", "2026-11-22T12:00:00Z", backup="auto")
        failed(done, 1, "the oldest backup ended at 2026-11-22 12:30:00[+]00:00; the target must be later")
        done = restore(bucket, target, "--target-lsn", "0/1", backup="auto")
        failed(done, 1, "the oldest backup ended at 0/2000100; the target must be later")

    def test_a_directory_with_something_in_it(self, bucket: Bucket, target: Path) -> None:
        target.mkdir()
        (target / "mine").write_text("precious")
        failed(restore(bucket, target), 1, "not empty.*hint")
        assert [path.name for path in target.iterdir()] == ["mine"]

    def test_a_bad_tablespace_rule(self, bucket: Bucket, target: Path) -> None:
        failed(restore(bucket, target, "--tablespace", "no-colon"), 3, "NAME:LOCATION")

    def test_a_missing_archive(self, bucket: Bucket, target: Path) -> None:
        bucket.store.delete([bucket.layout.archive(BACKUP_ID, "data", 0, ".lz4")])
        failed(restore(bucket, target), 1, "has no archive")

    def test_a_damaged_archive(self, bucket: Bucket, target: Path) -> None:
        key = bucket.layout.archive(BACKUP_ID, "data", 0, ".lz4")
        bucket.store.put(key, bucket.store.get(key)[:-9])
        failed(restore(bucket, target), 4, "too early|damaged")
        assert not (target / "global/pg_control").exists()

    def test_a_hostile_archive(self, bucket: Bucket, target: Path) -> None:
        bucket.put(minimal(symlink("out", ".."), member("out/evil", b"x")), compression="lz4", suffix=".lz4")
        failed(restore(bucket, target), 1, "out.*link")
        assert not (target.parent / "evil").exists()

    def test_a_parent_that_is_a_file(self, bucket: Bucket, target: Path) -> None:
        target.write_text("x")
        failed(restore(bucket, target / "below"), 1, "is not a directory")


class TestMissingWal:
    """The backup's own WAL isn't in the archive."""

    @pytest.fixture
    def bucket(self, bucket: Bucket) -> Bucket:
        bucket.store.delete([bucket.layout.wal("000000010000000000000002")])
        return bucket

    @pytest.mark.parametrize("backup", [BACKUP_ID, "last", "auto"])
    def test_is_told_by_a_restore_that_only_extracts(self, bucket: Bucket, target: Path, backup: str) -> None:
        done = succeeded(restore(bucket, target, backup=backup))
        assert re.search("WARNING.*000000010000000000000002, which is not in the archive", done.stderr)

    @pytest.mark.parametrize("backup", [BACKUP_ID, "last", "auto"])
    def test_is_refused_with_recovery_settings(self, bucket: Bucket, target: Path, backup: str) -> None:
        failed(restore(bucket, target, "--write-recovery-settings", backup=backup), 1, "in the archive.*--force")
        assert not target.exists()
        done = succeeded(restore(bucket, target, "--write-recovery-settings", "--force", backup=backup))
        assert re.search("WARNING.*000000010000000000000002, which is not in the archive", done.stderr)

    def test_auto_takes_an_older_backup_that_has_it(self, bucket: Bucket, target: Path) -> None:
        older = BackupInfo(
            "20261121T121102",
            **{
                **_fields(bucket.info),
                "begin_wal": "000000010000000000000001",
                "begin_xlog": "0/1000028",
                "end_xlog": "0/1000100",
            },
        )
        Catalog(bucket.store, bucket.layout).save(older)
        bucket.store.put(bucket.layout.wal("000000010000000000000001.gz"), b"x")
        for archive in bucket.store.list(bucket.layout.backup_dir(BACKUP_ID)):
            if ".tar" in archive.key:
                bucket.store.put(archive.key.replace(BACKUP_ID, older.backup_id), bucket.store.get(archive.key))
        done = succeeded(restore(bucket, target, "-v", backup="auto"))
        assert f"passed over backup {BACKUP_ID}" in done.stderr
        assert f"restored backup {older.backup_id}" in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["--target-tli", "9"], "timeline 9 isn't in the archive"),
            (["--target-time", "2199-01-01 00:00Z"], "can't reach 2199-01-01"),
            (["--target-lsn", "1/0"], "can't reach LSN 1/0"),
        ],
    )
    def test_a_target_that_is_not_in_the_archive(
        self, bucket: Bucket, target: Path, arguments: list[str], words: str
    ) -> None:
        bucket.save()
        for forced in ([], ["--force"]):
            done = restore(bucket, target, "--write-recovery-settings", *arguments, *forced)
            assert (done.returncode, target.exists()) == ((0, True) if forced else (1, False))
            assert words in done.stderr


def _fields(info: BackupInfo) -> dict[str, Any]:
    return {item.name: getattr(info, item.name) for item in fields(info) if item.name != "backup_id"}
