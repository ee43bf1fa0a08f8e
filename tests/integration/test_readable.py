"""Files that the user of a backup can't read are found before the server enters backup mode."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import program
from tests.support.postgres import PostgresServer, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import Repository

NewPostgres = Callable[..., PostgresServer]


def make_file(server: PostgresServer) -> Path:
    path = server.data / "server.key"
    path.touch()
    return path


def make_directory(server: PostgresServer) -> Path:
    path = server.data / "mine"
    path.mkdir()
    return path


def make_linked_data(server: PostgresServer) -> Path:
    (server.directory / "disk").mkdir()
    (server.directory / "disk" / "16384").touch()
    path = server.data / "base" / "16384"
    path.symlink_to(server.directory / "disk" / "16384")
    return path


def make_configuration(server: PostgresServer) -> Path:
    path = server.directory / "pg_hba.conf"
    path.write_text((server.data / "pg_hba.conf").read_text())
    server_account().own(path)
    server.configure(hba_file=str(path))
    server.restart()
    return path


@pytest.mark.parametrize("make", [make_file, make_directory, make_linked_data, make_configuration])
def test_it_is_named_with_its_owner_and_a_hint(
    new_postgres: NewPostgres, server_dir: Path, make: Callable[[PostgresServer], Path]
) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres()
    path = make(server)
    server_account().own(server.directory)
    path.chmod(0)
    done = run_as_server([program("backup"), repository.url, "main"], environ=server.client_environ, check=False)
    assert done.returncode == 1
    assert re.search(
        rf"user \S+ can't read {path} \(owner \S+, mode 0000\) \(hint: run the backup as the user", done.stderr
    ), done.stderr
    info = repository.info()
    assert (info.status, info.begin_wal) == ("FAILED", None)


def test_lost_and_found_is_none_of_the_servers(new_postgres: NewPostgres, server_dir: Path) -> None:
    repository = Repository(server_dir / "store")
    server = new_postgres()
    (server.data / "lost+found").mkdir()
    server_account().own(server.data)
    (server.data / "lost+found").chmod(0)
    done = run_as_server(
        [program("backup"), "--immediate-checkpoint", repository.url, "main"], environ=server.client_environ
    )
    assert "lost+found" not in done.stderr
    assert repository.info().status == "DONE"
