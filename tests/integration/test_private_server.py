"""A PostgreSQL server for a drill: reachable by nobody else, and gone with the process that started it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from barman_cloud.errors import DrillError, NotFoundError, OperationError
from barman_cloud.postgres.programs import Programs, find_server
from barman_cloud.verify.private_server import PrivateServer
from tests.support.installations import newest_installation
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer
from tests.support.privileges import PROJECT, server_account


def owner() -> tuple[int, int]:
    """Who the data belongs to, and so whom the server runs as: never root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    user = next(pwd.getpwnam(name) for name in ("postgres", "nobody") if name in {e.pw_name for e in pwd.getpwall()})
    return user.pw_uid, user.pw_gid


@pytest.fixture(scope="module")
def programs() -> Programs:
    installation = newest_installation()
    uid, gid = owner()
    launcher = [sys.executable, "-P", "-m", "barman_cloud.verify.launch", str(os.getpid()), str(uid), str(gid)]
    if subprocess.run([*launcher, installation.tool("postgres"), "--version"], check=False, cwd="/").returncode:
        pytest.skip(f"user {uid} can't run the programs in {installation.bin}")
    return find_server(installation.major, str(installation.bin))


@pytest.fixture(scope="module")
def crashed() -> Iterator[Path]:
    """The data directory of a server that was killed with a row that is only in WAL."""
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    directory.chmod(0o755)
    server_account().own(directory)
    server = PostgresServer.create(directory / "server")
    try:
        server.start()
        server.query("CREATE TABLE kept AS SELECT 42 AS number")
        server.configure(
            max_connections="150",
            synchronous_commit="on",
            archive_mode="on",
            archive_command=f"touch {directory}/server/must-not-archive",
            log_directory="/nowhere",
        )
        server.restart()
        server.query("INSERT INTO kept VALUES (43)")
        server.query("ALTER SYSTEM SET shared_preload_libraries = 'no_such_library'")
        server.crash()
        yield server.data
    finally:
        server.crash()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def data(crashed: Path) -> Iterator[Path]:
    copy = crashed.parent.parent / "copy"
    shutil.copytree(crashed, copy, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, *owner(), follow_symlinks=False)
    (copy / "postmaster.pid").unlink(missing_ok=True)
    yield copy
    shutil.rmtree(copy)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_postgres(process: psutil.Process) -> bool:
    try:
        return process.name() == "postgres"
    except psutil.NoSuchProcess:
        return False


def ports(process: psutil.Process, data: Path) -> list[object]:
    """Where a process listens by TCP, if it is a server on ``data``; it may end meanwhile."""
    try:
        if process.name() != "postgres" or str(data) not in process.cmdline():
            return []
        return [found for found in process.net_connections("tcp") if found.status == psutil.CONN_LISTEN]
    except psutil.NoSuchProcess:
        return []


def test_it_recovers_and_is_reachable_by_its_socket_alone(programs: Programs, data: Path) -> None:
    with PrivateServer(programs, data, {}) as server:
        assert server.wait_for_recovery(200) < 200
        with server.connect("postgres") as connection:
            assert connection.execute("SELECT number FROM kept ORDER BY 1").fetchall() == [(42,), (43,)]
            settings = dict(
                connection.execute(
                    "SELECT name, setting FROM pg_settings WHERE name IN ('listen_addresses', 'archive_mode',"
                    " 'shared_preload_libraries', 'max_connections', 'logging_collector')"
                ).fetchall()
            )
        listening = [found for process in psutil.Process().children(recursive=True) for found in ports(process, data)]
        private = server.log_file.parent
        assert private.stat().st_mode & 0o777 == 0o700
    assert settings == {
        "listen_addresses": "",
        "archive_mode": "off",
        "shared_preload_libraries": "",
        "max_connections": "150",
        "logging_collector": "off",
    }
    assert listening == []
    assert not (data.parent / "server" / "must-not-archive").exists()
    assert not private.exists()
    assert not (data / "postmaster.pid").exists()


def test_what_stops_recovery_is_told_in_the_servers_own_words(programs: Programs, data: Path) -> None:
    (data / "backup_label").write_text("nonsense\n")
    with (
        PrivateServer(programs, data, {}) as server,
        pytest.raises(
            OperationError, match=r'PostgreSQL ended with 1 during recovery: .*invalid data in file "backup_label"'
        ),
    ):
        server.wait_for_recovery(200)


def test_a_role_that_is_not_there_is_told(programs: Programs, data: Path) -> None:
    with (
        PrivateServer(programs, data, {}, user="nobody_here") as server,
        pytest.raises(DrillError, match="the restored cluster has no role nobody_here"),
    ):
        server.wait_for_recovery(200)


def test_it_does_not_outlive_the_process_that_started_it(programs: Programs, data: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from barman_cloud.postgres.programs import Programs\n"
        "from barman_cloud.verify.private_server import PrivateServer\n"
        "programs, data = Programs(sys.argv[1], Path(sys.argv[2])), Path(sys.argv[3])\n"
        "with PrivateServer(programs, data, {}, place=data.parent) as server:\n"
        "    server.wait_for_recovery(200); print('ready', flush=True); time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, programs.version, str(programs.directory), str(data)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    family = descendants(psutil.Process(child.pid))
    assert any(is_postgres(process) for process in family)
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_for(lambda: not psutil.wait_procs(family, timeout=0.2)[1], what="the server to end as well")


def test_a_missing_version_says_where_it_was_looked_for() -> None:
    with pytest.raises(NotFoundError, match=r"no PostgreSQL 9 on this machine \(looked in /nowhere, /usr/lib/postg"):
        find_server(9, "/nowhere")
