"""A server whose configuration is outside its data directory, as Debian has it: its copy is started, not itself."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import program, run_command
from tests.support.installations import Installation
from tests.support.postgres import PostgresServer, adopt, run_as_server
from tests.support.privileges import server_account
from tests.support.repository import Repository


@dataclass
class Original:
    """A running server, its configuration's directory and a backup of it."""

    server: PostgresServer
    etc: Path
    repository: Repository


@pytest.fixture(scope="module")
def original(postgres_installation: Installation) -> Iterator[Original]:
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    server_account().own(directory)
    server = PostgresServer.create(directory / "server", postgres_installation)
    etc = directory / "etc"
    (etc / "conf.d").mkdir(parents=True)
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        shutil.move(server.data / name, etc / name)
    with (etc / "postgresql.conf").open("a") as file:
        file.write(
            f"data_directory = '{server.data}'\nhba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\n"
            f"external_pid_file = '{directory}/server.pid'\ninclude_dir = 'conf.d'\n"
        )
    (etc / "conf.d/more.conf").write_text("work_mem = '7MB'\n")
    server_account().own(directory)
    server.settings["config_file"] = f"{etc}/postgresql.conf"
    repository = Repository(directory / "store")
    with server:
        try:
            repository.archive_from(server)
            server.query("CREATE TABLE t AS SELECT 1")
            done = repository.backup(server)
            assert done.returncode == 0, done.stderr
            server.wait_archived(server.switch_wal())
            yield Original(server, etc, repository)
        finally:
            server.stop(mode="immediate")
            shutil.rmtree(directory, ignore_errors=True)


def test_recovery_settings_let_the_copy_be_itself(original: Original, server_dir: Path) -> None:
    target = server_dir / "copy"
    done = run_command("restore", "--write-recovery-settings", original.repository.url, "main", "last", target)
    assert done.returncode == 0, done.stderr
    assert re.search(r"now comments:\n  postgresql.conf    data_directory = ", done.stdout)
    assert "to undo            sed -i" in done.stdout
    with adopt(target, original.server.installation) as copy:
        copy.wait_recovered()
        assert copy.value("SHOW data_directory") == str(target)
        assert copy.value("SHOW hba_file") == f"{target}/pg_hba.conf"
        assert copy.value("SHOW external_pid_file") == ""
        assert copy.value("SELECT count(*) FROM t") == 1
    assert original.server.value("SHOW data_directory") == str(original.server.data)


def test_without_them_the_command_that_is_named_starts_the_copy(original: Original, server_dir: Path) -> None:
    target = server_dir / "copy"
    done = run_command("restore", original.repository.url, "main", "last", target)
    assert done.returncode == 0, done.stderr
    for name in ("data_directory", "hba_file", "ident_file", "external_pid_file", "include_dir"):
        assert f"{name} = " in done.stderr
    (target / "conf.d").mkdir()
    copy = adopt(target, original.server.installation)
    settings = {
        "restore_command": f"{program('wal-restore')} {original.repository.url} main %f %p",
        "port": str(copy.port),
        "unix_socket_directories": str(server_dir),
        "listen_addresses": "127.0.0.1",
        "archive_mode": "off",
    }
    with (target / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (target / "recovery.signal").touch()
    server_account().own(target)
    command = next(line for line in done.stderr.splitlines() if "pg_ctl" in line).split("started by: ")[1]
    bin_directory = original.server.installation.bin
    environ = {**original.server.installation.environ, "PGCTLTIMEOUT": "200"}
    command = command.replace("pg_ctl -D", f"{bin_directory}/pg_ctl -w -l {server_dir}/copy.log -D")
    run_as_server(["sh", "-c", command], environ=environ)
    try:
        assert copy.value("SHOW data_directory") == str(target)
        assert copy.value("SHOW ident_file") == f"{target}/pg_ident.conf"
        assert copy.value("SELECT count(*) FROM t") == 1
    finally:
        run_as_server([f"{bin_directory}/pg_ctl", "-D", target, "-m", "immediate", "stop"], environ=environ)
    original.server.check_alive()
