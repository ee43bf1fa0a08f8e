import logging
import os
import socket
from pathlib import Path

import pytest

from barman_cloud.backup.scan import ScannedBase, scan_data_directory, scan_tablespace


def make(root: Path, *paths: str) -> None:
    """Create files (of as many bytes as their names are long) and, for names that end in a slash, directories."""
    for path in paths:
        place = root / path
        if path.endswith("/"):
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(b"x" * len(place.name))


def files(tree: ScannedBase) -> list[str]:
    return [f"{run.directory}/{name}".lstrip("/") for run in tree.runs for name in run.names]


def test_files_and_sizes_are_found_in_order_and_parents_come_first(tmp_path: Path) -> None:
    make(tmp_path, "PG_VERSION", "base/1/112", "base/1/16384", "base/1/16384.1", "base/2/112", "global/1260", "pg_wal/")
    tree = scan_data_directory(str(tmp_path))
    assert tree.directories == ["", "base", "global", "pg_wal", "base/1", "base/2"]
    assert files(tree) == [
        "PG_VERSION",
        "base/1/112",
        "base/1/16384",
        "base/1/16384.1",
        "base/2/112",
        "global/1260",
    ]
    assert tree.file_count == 6
    assert tree.size == sum(len(Path(path).name) for path in files(tree))


@pytest.mark.parametrize(
    "path",
    [
        "global/pg_control",
        "postmaster.pid",
        "postmaster.opts",
        "postgresql.auto.conf.tmp",
        "current_logfiles.tmp",
        "recovery.conf",
        "standby.signal",
        "base/1/pg_internal.init",
        "base/1/pg_internal.init.123",
        "base/pgsql_tmp/pgsql_tmp1.2",
        "base/1/pgsql_tmp3.4",
        "base/1/t3_16999",
        "base/1/t3_16999_fsm",
        "base/1/t12_16999.1",
        "log/postgresql.log",
        "log/sub/deep/x",
        "pg_wal/000000010000000000000001",
        "pg_wal/archive_status/000000010000000000000001.done",
        "pg_wal/a/b/x",
        "pg_replslot/slot/state",
        "pg_replslot/a/b/x",
        "pg_dynshmem/mmap.1",
        "pg_notify/0000",
        "pg_serial/0000",
        "pg_snapshots/x",
        "pg_stat_tmp/db_1.stat",
        "pg_subtrans/0000",
        "backup_label",
        "tablespace_map",
        "recovery.signal",
        "backup_manifest",
    ],
)
def test_left_out(tmp_path: Path, path: str) -> None:
    make(tmp_path, path)
    assert files(scan_data_directory(str(tmp_path))) == []


@pytest.mark.parametrize(
    "path",
    [
        "PG_VERSION",
        "postgresql.auto.conf",
        "current_logfiles",
        "backup_label.old",
        "base/1/16384_init",
        "base/1/t3",
        "base/t3_16999",
        "pg_stat/pgstat.stat",
        "base/backup_label",
        "base/log/x",
        "global/pg_control.old",
        "pg_logical/snapshots/0-1.snap",
        "pg_tblspc/16500/PG_18_202506291/5/16384",
    ],
)
def test_kept(tmp_path: Path, path: str) -> None:
    make(tmp_path, path)
    assert files(scan_data_directory(str(tmp_path))) == [path]


def test_directories_whose_content_is_left_out_stay_as_empty_ones(tmp_path: Path) -> None:
    make(tmp_path, "pg_wal/archive_status/x", "log/x", "pg_replslot/slot/state", "base/pgsql_tmp/x")
    assert scan_data_directory(str(tmp_path)).directories == ["", "base", "log", "pg_replslot", "pg_wal"]


def warnings(tree: ScannedBase) -> list[str]:
    return [line for level, line in tree.notes if level == logging.WARNING]


def test_a_link_to_the_wal_directory_becomes_an_empty_directory(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/wal/x", "data/")
    (tmp_path / "data/pg_wal").symlink_to(tmp_path / "elsewhere/wal")
    tree = scan_data_directory(str(tmp_path / "data"))
    assert tree.directories == ["", "pg_wal"]
    assert (files(tree), tree.specials, tree.notes) == ([], [], [])


@pytest.mark.parametrize("place", ["mine", "pg_tblspc/99", "base/5/mine", "base/junk", "pg_xact/old"])
def test_a_linked_directory_that_is_not_the_servers_is_left_out_with_a_warning(tmp_path: Path, place: str) -> None:
    make(tmp_path, "elsewhere/x", "data/")
    link = tmp_path / "data" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    tree = scan_data_directory(str(tmp_path / "data"))
    assert (files(tree), tree.specials) == ([], [])
    assert place not in tree.directories
    assert warnings(tree) == [f"{link} is a link to a directory, which is not in the backup"]


class TestLinksToDataFiles:
    """A copy that held the link would share the file with the running server."""

    @pytest.mark.parametrize(
        "place",
        [
            "base/5/16384",
            "base/5/16384_fsm",
            "global/1262",
            "pg_xact/0000",
            "pg_multixact/members/0000",
            "pg_twophase/00000001",
            "pg_logical/replorigin_checkpoint",
            "pg_tblspc/99/PG_18_1/5/16384",
        ],
    )
    @pytest.mark.parametrize("chain", [False, True])
    def test_a_linked_file_is_its_content(self, tmp_path: Path, place: str, chain: bool) -> None:
        make(tmp_path, "elsewhere/16384", "data/")
        link = tmp_path / "data" / place
        link.parent.mkdir(parents=True)
        target = tmp_path / "elsewhere/16384"
        if chain:
            (tmp_path / "second").symlink_to(target)
            target = tmp_path / "second"
        link.symlink_to(target)
        tree = scan_data_directory(str(tmp_path / "data"))
        assert (files(tree), tree.specials, tree.notes) == ([place], [], [])
        assert (tree.size, tree.runs[0].linked) == (5, {link.name})

    def test_in_a_tablespace_as_well(self, tmp_path: Path) -> None:
        make(tmp_path, "elsewhere/1", "elsewhere/db/2", "space/PG_18_1/5/")
        (tmp_path / "space/PG_18_1/5/1").symlink_to(tmp_path / "elsewhere/1")
        (tmp_path / "space/PG_18_1/6").symlink_to(tmp_path / "elsewhere/db")
        tree = scan_tablespace(99, str(tmp_path / "space"), 180000)
        assert files(tree) == ["PG_18_1/5/1", "PG_18_1/6/2"]
        assert tree.directories == ["PG_18_1", "PG_18_1/5", "PG_18_1/6"]

    @pytest.mark.parametrize(
        ("place", "inside"),
        [("base", "5/16384"), ("base/5", "16384"), ("pg_xact", "0000"), ("pg_multixact", "offsets/0000")],
    )
    def test_a_linked_directory_is_its_content(self, tmp_path: Path, place: str, inside: str) -> None:
        make(tmp_path, f"elsewhere/{inside}", "data/")
        link = tmp_path / "data" / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / "elsewhere")
        tree = scan_data_directory(str(tmp_path / "data"))
        assert (files(tree), tree.specials, tree.notes) == ([f"{place}/{inside}"], [], [])
        assert place in tree.directories

    @pytest.mark.parametrize("target", [".", "..", "/", "base"])
    def test_a_directory_in_a_circle_ends(self, tmp_path: Path, target: str) -> None:
        make(tmp_path, "base/5/16384", "base/6/")
        (tmp_path / "base/6").rmdir()
        (tmp_path / "base/6").symlink_to(target if target == "/" else tmp_path / target)
        tree = scan_data_directory(str(tmp_path))
        assert "base/5/16384" in files(tree)
        assert all(path.count("/") < 2 for path in tree.directories)

    def test_behind_a_link_nothing_else_is_taken_along(self, tmp_path: Path) -> None:
        make(tmp_path, "disk/1", "disk/other/huge", "disk/lost+found/x", "data/base/")
        (tmp_path / "data/base/5").symlink_to(tmp_path / "disk")
        tree = scan_data_directory(str(tmp_path / "data"))
        assert files(tree) == ["base/5/1"]
        assert [line.split()[0] for line in warnings(tree)] == [f"{tmp_path}/data/base/5/other"]

    @pytest.mark.parametrize("target", ["/dev/zero", "/nonexistent", "itself", "fifo"])
    def test_a_link_to_no_file_is_left_out_with_a_warning(self, tmp_path: Path, target: str) -> None:
        make(tmp_path, "base/5/")
        os.mkfifo(tmp_path / "fifo")
        link = tmp_path / "base/5/16384"
        link.symlink_to({"itself": link, "fifo": tmp_path / "fifo"}.get(target, Path(target)))
        tree = scan_data_directory(str(tmp_path))
        assert (files(tree), tree.specials) == ([], ["fifo"])
        assert [line.split()[0] for line in warnings(tree)] == [str(link)]


class TestOtherLinks:
    @pytest.mark.parametrize(
        "name", ["postgresql.conf", "postgresql.auto.conf", "conf.d/more.conf", "named-by-the-server"]
    )
    def test_a_linked_configuration_file_is_its_content(self, tmp_path: Path, name: str) -> None:
        make(tmp_path, "etc/x.conf", "data/conf.d/")
        (tmp_path / "data" / name).symlink_to(tmp_path / "etc/x.conf")
        tree = scan_data_directory(
            str(tmp_path / "data"), configuration=[f"{tmp_path}/data/named-by-the-server", "/etc/elsewhere.conf"]
        )
        assert (files(tree), tree.specials, tree.notes) == ([name], [], [])

    @pytest.mark.parametrize(
        ("name", "target", "warned"),
        [
            ("server.crt", "{}/etc/x", True),
            ("server.crt", "../etc/x", True),
            ("dangling", "/nonexistent", True),
            ("inside", "PG_VERSION", False),
            ("absolute", "{}/data/PG_VERSION", True),
            ("dangling-inside", "nothing", False),
        ],
    )
    def test_one_that_leaves_pgdata_is_warned_of(self, tmp_path: Path, name: str, target: str, warned: bool) -> None:
        make(tmp_path, "etc/x", "data/PG_VERSION")
        target = target.format(tmp_path)
        (tmp_path / "data" / name).symlink_to(target)
        tree = scan_data_directory(str(tmp_path / "data"))
        assert (files(tree), tree.specials) == (["PG_VERSION"], [name])
        what = f"is a link to {target}: the link is in the backup, what it leads to is not"
        assert warnings(tree) == ([f"{tmp_path}/data/{name} {what}"] if warned else [])


def test_what_the_file_system_keeps_at_its_root_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "lost+found/x", "PG_VERSION", "base/lost+found/y")
    assert files(scan_data_directory(str(tmp_path))) == ["PG_VERSION", "base/lost+found/y"]


def test_links_to_files_and_pipes_are_special_and_sockets_are_nothing(tmp_path: Path) -> None:
    make(tmp_path, "file")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("/nonexistent")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        tree = scan_data_directory(str(tmp_path))
    assert files(tree) == ["file"]
    assert sorted(tree.specials) == ["dangling", "fifo", "link"]


def test_tablespaces_are_not_walked_twice(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/PG_18_1/5/1", "data/base/1/112", "data/inside/PG_18_1/5/1", "data/pg_tblspc/")
    (tmp_path / "data/pg_tblspc/16384").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/pg_tblspc/16385").symlink_to(tmp_path / "data/inside")
    tablespaces = [(16384, str(tmp_path / "elsewhere")), (16385, str(tmp_path / "data/inside"))]
    tree = scan_data_directory(str(tmp_path / "data"), tablespaces)
    assert files(tree) == ["base/1/112"]
    assert tree.directories == ["", "base", "pg_tblspc", "base/1"]
    assert tree.specials == []


def test_a_directory_beside_pgdata_is_not_inside_it(tmp_path: Path) -> None:
    make(tmp_path, "data/base/x", "data2/PG_18_1/x")
    assert files(scan_data_directory(str(tmp_path / "data"), [(16384, str(tmp_path / "data2"))])) == ["base/x"]


def test_pgdata_itself_may_be_a_link(tmp_path: Path) -> None:
    make(tmp_path, "real/PG_VERSION")
    (tmp_path / "data").symlink_to("real")
    assert files(scan_data_directory(str(tmp_path / "data"))) == ["PG_VERSION"]


def test_files_that_come_from_elsewhere_are_left_out_at_the_root_only(tmp_path: Path) -> None:
    make(tmp_path, "pg_hba.conf", "conf/pg_hba.conf")
    assert files(scan_data_directory(str(tmp_path), replaced=["pg_hba.conf"])) == ["conf/pg_hba.conf"]


def test_only_the_servers_own_version_of_a_tablespace_is_walked(tmp_path: Path) -> None:
    make(tmp_path, "PG_17_1/5/111", "PG_18_2/5/16390", "PG_18_2/5/t1_2", "PG_18_2/pgsql_tmp/x", "other", "PG_1/x")
    tree = scan_tablespace(16384, str(tmp_path), 180006)
    assert (tree.base, tree.directories) == ("16384", ["PG_18_2", "PG_18_2/5"])
    assert files(tree) == ["PG_18_2/5/16390"]


def test_leftovers_that_would_mislead_recovery_are_named(tmp_path: Path) -> None:
    make(tmp_path, "backup_label", "tablespace_map", "recovery.signal", "backup_manifest")
    tree = scan_data_directory(str(tmp_path))
    assert sorted(Path(line.split()[0]).name for line in warnings(tree)) == [
        "backup_label",
        "recovery.signal",
        "tablespace_map",
    ]


def test_a_copy_that_is_a_backup_keeps_its_label_and_manifest(tmp_path: Path) -> None:
    make(tmp_path, "backup_label", "tablespace_map", "recovery.signal", "backup_manifest")
    assert files(scan_data_directory(str(tmp_path), own_backup=True)) == ["backup_label", "backup_manifest"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan_data_directory(str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError):
        scan_tablespace(1, str(tmp_path / "nothing"), 180000)


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"odd-\xff")
    (tmp_path / name).write_bytes(b"")
    assert files(scan_data_directory(str(tmp_path))) == [name]
