from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from barman_cloud.errors import SpoolError
from barman_cloud.wal import spool
from tests.support.segments import SYSTEM, Cluster

KEY = ("aws-s3", "s3://bucket/prod", "", "", "main")
SEGMENT = "000000010000000000000003"


class TestKey:
    def test_each_part_counts_and_parts_do_not_run_together(self) -> None:
        keys = [spool.key_of(parts, {}) for parts in (("a", "b"), ("ab",), ("a", "", "b"), ("a", "b", ""))]
        assert len(set(keys)) == 4

    def test_variables_that_decide_about_the_store_count(self) -> None:
        elsewhere = spool.key_of(KEY, {"AWS_ENDPOINT_URL": "https://elsewhere"})
        assert spool.key_of(KEY, {}) != elsewhere
        assert spool.key_of(KEY, {"AWS_SESSION_TOKEN": "rotates"}) == spool.key_of(KEY, {})

    def test_no_secret_is_readable_in_it(self) -> None:
        key = spool.key_of(KEY, {"AZURE_STORAGE_CONNECTION_STRING": "AccountKey=secret"})
        assert len(key) == 32
        assert int(key, 16)


class TestPrepare:
    def test_the_directory_is_made_private(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path / "new" / "spool"), "archive", KEY)
        assert os.stat(directory.path).st_mode & 0o777 == 0o700
        assert os.path.samefile(spool.prepare(str(tmp_path / "new" / "spool"), "archive", KEY).path, directory.path)

    def test_stores_and_servers_do_not_share_one(self, tmp_path: Path) -> None:
        other = (*KEY[:-1], "other")
        paths = {
            spool.prepare(str(tmp_path), "restore", KEY).path,
            spool.prepare(str(tmp_path), "restore", other).path,
            spool.prepare(str(tmp_path), "archive", KEY).path,
        }
        assert len(paths) == 3

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SpoolError, match="file") as caught:
            spool.prepare(str(tmp_path / "file"), "archive", KEY)
        assert caught.value.exit_code == 2
        assert caught.value.hint

    def test_a_directory_that_others_may_write_into_is_refused(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path), "archive", KEY)
        os.chmod(directory.path, 0o777)
        with pytest.raises(SpoolError, match="others may write"):
            spool.prepare(str(tmp_path), "archive", KEY)

    def test_a_directory_of_another_user_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spool.prepare(str(tmp_path), "archive", KEY)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(SpoolError, match="another user"):
            spool.prepare(str(tmp_path), "archive", KEY)


class TestCommandLink:
    COMMAND = ("--lz4", "s3://bucket", "main", "")

    def test_a_remembered_command_leads_to_its_directory(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path), "archive", KEY)
        assert spool.directory_of_command(str(tmp_path), self.COMMAND) is None
        spool.remember_command(directory, self.COMMAND)
        found = spool.directory_of_command(str(tmp_path), self.COMMAND)
        assert found is not None
        assert os.path.samefile(found.path, directory.path)
        assert spool.directory_of_command(str(tmp_path), ("--gzip", *self.COMMAND[1:])) is None

    def test_it_follows_a_change(self, tmp_path: Path) -> None:
        first = spool.prepare(str(tmp_path), "archive", KEY)
        second = spool.prepare(str(tmp_path), "archive", (*KEY, "changed"))
        for directory in (first, second, second):
            spool.remember_command(directory, self.COMMAND)
        found = spool.directory_of_command(str(tmp_path), self.COMMAND)
        assert found is not None
        assert os.path.samefile(found.path, second.path)

    def test_a_link_to_a_directory_that_is_not_private_is_not_followed(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path), "archive", KEY)
        spool.remember_command(directory, self.COMMAND)
        os.chmod(directory.path, 0o770)
        assert spool.directory_of_command(str(tmp_path), self.COMMAND) is None

    def test_a_link_of_another_user_is_not_followed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = spool.prepare(str(tmp_path), "archive", KEY)
        spool.remember_command(directory, self.COMMAND)
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert spool.directory_of_command(str(tmp_path), self.COMMAND) is None

    def test_no_room_for_the_link_is_no_error(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path / "spool"), "archive", KEY)
        shutil.rmtree(tmp_path / "spool")
        spool.remember_command(directory, self.COMMAND)


class TestCommandLine:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["s3://b", "s", "/pg_wal/" + SEGMENT], (("s3://b", "s", ""), ("/pg_wal/" + SEGMENT,))),
            (["s3://b", "s", SEGMENT, "-z"], (("s3://b", "s", "", "-z"), (SEGMENT,))),
            (["s3://b", "s", "00000002.history"], (("s3://b", "s", ""), ("00000002.history",))),
            (["s3://b", "s"], None),
            (["s3://b", SEGMENT, SEGMENT], None),
            (["s3://b", "s", "RECOVERYXLOG"], None),
        ],
    )
    def test_of_wal_archive(self, arguments: list[str], expected: object) -> None:
        assert spool.command_of(arguments, variable=1) == expected

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["s3://b", "s", SEGMENT, "pg_wal/RECOVERYXLOG"], (("s3://b", "s", ""), (SEGMENT, "pg_wal/RECOVERYXLOG"))),
            (["u", "s", SEGMENT, f"/x/{SEGMENT}"], (("u", "s", ""), (SEGMENT, f"/x/{SEGMENT}"))),
            (["u", "s", SEGMENT, "-p", "4", "x"], None),
            (["u", "s", SEGMENT], None),
        ],
    )
    def test_of_wal_restore(self, arguments: list[str], expected: object) -> None:
        assert spool.command_of(arguments, variable=2) == expected

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], f"/var/tmp/walarchive-{os.geteuid()}"),
            (["--spool-dir", "/a"], "/a"),
            (["--spool-dir=/a", "--spool-dir", "/b"], "/b"),
            (["--spool-dir"], None),
            (["-v"], None),
            (["--verbose"], None),
            (["--", "--spool-dir=/a"], None),
        ],
    )
    def test_the_spool_directory_on_it(self, arguments: list[str], expected: str | None) -> None:
        assert spool.spool_dir_of(arguments, "archive") == expected


def test_the_system_identifier_is_read_from_pg_control(cluster: Cluster, tmp_path: Path) -> None:
    assert spool.own_system_identifier(str(cluster.wal / SEGMENT)) == SYSTEM
    assert spool.own_system_identifier(str(tmp_path / SEGMENT)) is None
    (cluster.directory / "global" / "pg_control").write_bytes(b"short")
    assert spool.own_system_identifier(str(cluster.wal / SEGMENT)) is None
