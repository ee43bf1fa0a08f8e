"""Clusters whose files lie elsewhere, behind symbolic links: the copy is whole, and shares nothing with the server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.privileges import server_account
from tests.support.repository import Repository

NewPostgres = Callable[..., PostgresServer]


def move(path: Path, disk: Path) -> None:
    """Move a file or directory of a stopped server to another disk, and put a link in its place."""
    disk.mkdir(exist_ok=True)
    target = disk / path.name
    shutil.move(path, target)
    path.symlink_to(target)
    server_account().own(disk)


def test_a_copy_of_moved_data_is_whole_and_does_not_touch_the_servers(
    new_postgres: NewPostgres, server_dir: Path
) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres()
    repository.archive_from(server)
    server.create_tablespace("fast")
    server.query("CREATE TABLE moved AS SELECT g AS a FROM generate_series(1, 10000) g")
    server.query("CREATE TABLE outside TABLESPACE fast AS SELECT g AS a FROM generate_series(1, 100) g")
    server.query("CREATE DATABASE other")
    with server.connect("other") as connection:
        connection.execute("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 500) g")
    table = str(server.value("SELECT pg_relation_filepath('moved')"))
    outside = str(server.value("SELECT pg_relation_filepath('outside')"))
    oid = server.value("SELECT oid FROM pg_database WHERE datname = 'other'")
    database = f"base/{oid}"
    server.stop()
    disk = server.directory / "disk"
    for path in (table, database, "pg_xact", "global/pg_filenode.map", "postgresql.conf"):
        move(server.data / path, disk)
    move((server.data / outside).resolve(), disk)
    server_account().own(server.directory)
    server.start()

    done = repository.backup(server)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    files = repository.files()
    assert {table, "pg_xact/0000", "global/pg_filenode.map", "postgresql.conf"} <= files.keys()
    assert any(path.startswith(f"{database}/") for path in files)

    with repository.restored(server_dir, server) as copy:
        assert not [path for path in copy.data.rglob("*") if path.is_symlink() and path.parent.name != "pg_tblspc"]
        assert copy.query("SELECT count(*) FROM moved UNION ALL SELECT count(*) FROM outside") == [(10_000,), (100,)]
        with copy.connect("other") as connection:
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (500,)
            connection.execute("DELETE FROM t")
        copy.query("UPDATE moved SET a = -a")
        copy.query("DELETE FROM outside")
        copy.query("CHECKPOINT")
        copy.amcheck()
    server.crash()
    server.start()
    assert server.query("SELECT min(a), count(*) FROM moved") == [(1, 10_000)]
    assert server.query("SELECT count(*) FROM outside") == [(100,)]
    with server.connect("other") as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (500,)


def test_a_restored_link_to_a_file_that_is_here_is_warned_of(new_postgres: NewPostgres, server_dir: Path) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres()
    key = server.directory / "key"
    key.write_text("secret")
    (server.data / "server.key").symlink_to(key)
    server_account().own(server.directory)
    assert "server.key is a link to" in repository.backup(server).stderr
    done = repository.restore(server_dir / "copy")
    assert done.returncode == 0, done.stderr
    assert f"{server_dir}/copy/server.key is a link to {key}, which is not of this backup" in done.stderr
    key.unlink()
    assert "server.key" not in repository.restore(server_dir / "another").stderr
