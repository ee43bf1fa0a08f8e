"""Clusters that aren't UTF-8, with names of databases, roles and directories that no UTF-8 decoder takes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import run_command
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import Repository

NewPostgres = Callable[..., PostgresServer]


@pytest.mark.parametrize("encoding", ["SQL_ASCII", pytest.param("LATIN1", marks=pytest.mark.long)])
def test_names_come_back_byte_for_byte(new_postgres: NewPostgres, server_dir: Path, encoding: str) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres(initdb=["-E", encoding])
    repository.archive_from(server)
    location = os.fsencode(server.directory) + b"/caf\xe9"
    os.mkdir(location)
    (server.data / os.fsdecode(b"note-\xe9")).write_text("kept")
    (server.data / "note-ü").write_text("kept")
    server_account().own(server.directory)
    with psycopg.connect(f"{server.conninfo} client_encoding=SQL_ASCII", autocommit=True) as connection:
        connection.execute(b'CREATE TABLESPACE "sp\xe9" LOCATION \'' + location + b"'")
        connection.execute(b'CREATE DATABASE "db\xe9" TABLESPACE "sp\xe9"')
        connection.execute(b'CREATE ROLE "r\xf4le" SUPERUSER LOGIN')
        connection.execute(b'CREATE TABLE t TABLESPACE "sp\xe9" AS SELECT generate_series(1, 1000) AS a')

    done = repository.backup(server, "--gzip")
    assert done.returncode == 0, done.stderr
    (tablespace,) = repository.info().tablespaces or ()
    assert tablespace.name == ("spé" if encoding == "LATIN1" else os.fsdecode(b"sp\xe9"))
    assert os.fsencode(tablespace.location) == location
    repository.path("backup.info").read_bytes().decode("utf-8", "strict")
    manifest = repository.files()["backup_manifest"]
    assert b'"Encoded-Path": "%b"' % b"note-\xe9".hex().encode() in manifest
    assert '"Path": "note-ü"'.encode() in manifest
    for terminal in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}):
        for command in (["backup-list"], ["backup-show"]):
            words = [*command, repository.url, "main", *([repository.ids[-1]] if command == ["backup-show"] else [])]
            shown = run_command(*words, environ=terminal)
            assert (shown.returncode, shown.stderr) == (0, "")

    elsewhere = os.fsencode(server_dir) + b"/neu-\xe9"
    target = server_dir / "copy"
    done = repository.restore(target, "--tablespace", f"{tablespace.name}:{os.fsdecode(elsewhere)}")
    assert done.returncode == 0, done.stderr
    server_account().own(server_dir)
    assert {b"note-\xe9", "note-ü".encode()} <= set(os.listdir(os.fsencode(target)))
    assert os.path.isdir(elsewhere)
    if server.installation.has("pg_verifybackup"):
        run_as_server([server.installation.tool("pg_verifybackup"), "-n", target])
    copy = adopt(target, server.installation)
    copy.recover_with(f"barman-cloud-wal-restore {repository.url} main %f %p")
    with copy:
        copy.wait_recovered()
        assert copy.value("SELECT count(*) FROM t") == 1000


def test_a_role_whose_name_is_no_text_is_told_what_it_lacks(new_postgres: NewPostgres, server_dir: Path) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres(initdb=["-E", "SQL_ASCII"])
    with psycopg.connect(f"{server.conninfo} client_encoding=SQL_ASCII", autocommit=True) as connection:
        connection.execute(b'CREATE ROLE "r\xf4le" LOGIN')
    environ = {"PGUSER": os.fsdecode(b"r\xf4le")}
    done = repository.backup(server, **environ)
    assert done.returncode == 1
    assert r"role r\udcf4le lacks membership in pg_monitor" in done.stderr


def test_a_database_whose_name_no_connection_can_name(new_postgres: NewPostgres, server_dir: Path) -> None:
    repository = Repository(server_dir / "store")
    done = repository.backup(new_postgres(), "-d", os.fsdecode(b"db\xe9"))
    assert done.returncode == 4
    assert "connect to another one, such as postgres" in done.stderr


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"}]
)
def test_the_machines_own_encoding_does_not_matter(
    postgres: PostgresServer, server_dir: Path, locale: dict[str, str]
) -> None:
    """The bytes of the names are what counts, not what they mean here."""
    repository = Repository(server_dir / "store")
    names = [b"odd-\xe9", "odd-ü".encode()]
    for name in names:
        path = os.path.join(os.fsencode(postgres.data), name)
        Path(os.fsdecode(path)).write_text("kept")
    server_account().own(postgres.data)
    try:
        done = repository.backup(postgres, **locale)
    finally:
        for name in names:
            os.unlink(os.path.join(os.fsencode(postgres.data), name))
    assert done.returncode == 0, done.stderr
    done = run_command("restore", repository.url, "main", repository.ids[-1], server_dir / "copy", environ=locale)
    assert done.returncode == 0, done.stderr
    assert set(names) <= set(os.listdir(os.fsencode(server_dir / "copy")))
