from __future__ import annotations

import errno
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


class TestLevels:
    """Every directory on the way is looked at, and nobody can put another one in its place."""

    def test_links_of_ones_own_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "volume").mkdir(mode=0o755)
        (tmp_path / "absolute").symlink_to(tmp_path / "volume")
        (tmp_path / "volume" / "relative").symlink_to("../volume/./")
        directory = spool.prepare(str(tmp_path / "absolute" / "relative" / "spool"), "archive", KEY)
        directory.write("file", "content")
        assert (tmp_path / "volume" / "spool" / os.path.basename(directory.path) / "file").read_text() == "content"

    def test_links_in_circles_are_not(self, tmp_path: Path) -> None:
        (tmp_path / "circle").symlink_to("circle")
        with pytest.raises(SpoolError, match="circle"):
            spool.prepare(str(tmp_path / "circle"), "archive", KEY)

    @pytest.mark.parametrize("mode", [0o777, 0o770])
    def test_links_are_not_followed_where_others_may_write(self, tmp_path: Path, mode: int) -> None:
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared").chmod(mode)
        (tmp_path / "pg_wal").mkdir()
        (tmp_path / "shared" / "spool").symlink_to(tmp_path / "pg_wal")
        with pytest.raises(SpoolError, match="spool: a symbolic link that others may have made"):
            spool.prepare(str(tmp_path / "shared" / "spool"), "archive", KEY)
        assert os.listdir(tmp_path / "pg_wal") == []

    def test_a_directory_where_others_may_write_can_hold_the_spool(self, tmp_path: Path) -> None:
        (tmp_path / "volume").mkdir()
        (tmp_path / "volume").chmod(0o777)
        assert spool.prepare(str(tmp_path / "volume"), "archive", KEY).holds("owner")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    @pytest.mark.parametrize("level", ["a", "a/b"])
    def test_a_level_of_another_user_is_refused(self, tmp_path: Path, level: str) -> None:
        (tmp_path / "a" / "b").mkdir(parents=True)
        os.chown(tmp_path / level, 12345, 12345)
        with pytest.raises(SpoolError, match=f"{level[-1]}: belongs to another user"):
            spool.prepare(str(tmp_path / "a" / "b" / "spool"), "archive", KEY)

    def test_a_directory_that_was_not_made_for_it_is_refused(self, tmp_path: Path) -> None:
        made = spool.prepare(str(tmp_path), "archive", KEY)
        os.rename(made.path, tmp_path / "made")
        place = Path(made.path)
        place.mkdir(mode=0o700)
        (place / SEGMENT).write_bytes(b"a segment")
        with pytest.raises(SpoolError, match="holds files, but no file owner"):
            spool.prepare(str(tmp_path), "archive", KEY)
        (place / "owner").write_bytes(b"\xff\xfe")
        with pytest.raises(SpoolError, match="another directory under this name"):
            spool.prepare(str(tmp_path), "archive", KEY)
        assert (place / SEGMENT).read_bytes() == b"a segment"

    def test_directories_that_changed_places_are_refused(self, tmp_path: Path) -> None:
        one, other = (spool.prepare(str(tmp_path), "archive", (*KEY, text)) for text in ("one", "other"))
        os.rename(one.path, tmp_path / "x")
        os.rename(other.path, one.path)
        os.rename(tmp_path / "x", other.path)
        for text in ("one", "other"):
            with pytest.raises(SpoolError, match="another directory under this name"):
                spool.prepare(str(tmp_path), "archive", (*KEY, text))

    def test_what_takes_its_place_later_is_not_touched(self, tmp_path: Path) -> None:
        directory = spool.prepare(str(tmp_path), "archive", KEY)
        directory.write(SEGMENT, "ours")
        (tmp_path / "pg_wal").mkdir()
        (tmp_path / "pg_wal" / SEGMENT).write_bytes(b"a segment")
        os.rename(directory.path, tmp_path / "moved")
        os.symlink(tmp_path / "pg_wal", directory.path)
        assert directory.read(SEGMENT) == "ours"
        directory.remove(SEGMENT)
        assert (tmp_path / "pg_wal" / SEGMENT).read_bytes() == b"a segment"
        with pytest.raises(SpoolError):
            spool.prepare(str(tmp_path), "archive", KEY)


@pytest.mark.parametrize("kind", ["directory", "link", "fifo", "second name", "another user", "too large"])
def test_only_files_that_it_can_have_made_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    directory = spool.prepare(str(tmp_path / "spool"), "archive", KEY)
    place = Path(directory.path) / SEGMENT
    other = tmp_path / SEGMENT
    other.write_bytes(bytes(100))
    if kind == "directory":
        place.mkdir()
    elif kind == "link":
        place.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "second name":
        os.link(other, place)
    else:
        place.write_bytes(bytes(201 if kind == "too large" else 100))
    with monkeypatch.context() as patch:
        if kind == "another user":
            patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert directory.holds(SEGMENT) == (kind == "too large")
        directory.remove(SEGMENT, larger_than=200)
    assert os.path.lexists(place)
    assert other.read_bytes() == bytes(100)
    if kind == "another user":
        directory.remove(SEGMENT, larger_than=200)
        assert not place.exists()


def test_an_entry_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = spool.prepare(str(tmp_path / "spool"), "archive", KEY)
    directory.write("entry", "the old one")

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            directory.write("entry", "the new one")
    assert directory.read("entry") == "the old one"
    directory.write("entry", "the new one")
    assert directory.read("entry") == "the new one"


def test_links_in_it_are_not_followed(tmp_path: Path) -> None:
    directory = spool.prepare(str(tmp_path / "spool"), "archive", KEY)
    other = tmp_path / "precious"
    other.write_text("secret")
    for name in ("entry", f"entry.{os.getpid()}.tmp"):
        (Path(directory.path) / name).symlink_to(other)
    with pytest.raises(OSError, match="symbolic links"):
        directory.read("entry")
    with pytest.raises(OSError, match="symbolic links"):
        directory.write("entry", "overwritten")
    assert other.read_text() == "secret"


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

    def test_links_that_changed_places_are_not_followed(self, tmp_path: Path) -> None:
        other = ("--gzip", *self.COMMAND[1:])
        for command in (self.COMMAND, other):
            spool.remember_command(spool.prepare(str(tmp_path), "archive", (*KEY, *command)), command)
        one, two = tmp_path.glob("command-*")
        targets = os.readlink(one), os.readlink(two)
        for link, target in zip((two, one), targets, strict=True):
            link.unlink()
            link.symlink_to(target)
        assert spool.directory_of_command(str(tmp_path), self.COMMAND) is None
        assert spool.directory_of_command(str(tmp_path), other) is None

    @pytest.mark.parametrize("target", ["../pg_wal", "/etc", "archive-0/../../pg_wal", "."])
    def test_a_link_to_elsewhere_is_not_followed(self, tmp_path: Path, target: str) -> None:
        directory = spool.prepare(str(tmp_path / "spool"), "archive", KEY)
        (tmp_path / "pg_wal").mkdir()
        spool.remember_command(directory, self.COMMAND)
        (link,) = (tmp_path / "spool").glob("command-*")
        link.unlink()
        link.symlink_to(target)
        assert spool.directory_of_command(str(tmp_path / "spool"), self.COMMAND) is None

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
