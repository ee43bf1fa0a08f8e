"""Backups of a server that is at work while others are too: a full disk, a store that is away, a busy archiver."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.faults.harness.disk import mounted
from tests.faults.test_backup_faults import Running, status_is
from tests.support.background_processes import ended_background_processes
from tests.support.commands import program
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.repository import SERVER_NAME, Repository
from tests.support.servers import StoreServer

pytestmark = pytest.mark.long

NewPostgres = Callable[..., PostgresServer]
METHODS = {"files": ("--immediate-checkpoint",), "stream": ("--immediate-checkpoint", "--method", "stream")}
SLOW = ("--max-bandwidth", "1MB")
UMBRELLA = program("backup").removesuffix("-backup")


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


@pytest.mark.parametrize("method", METHODS)
def test_the_disk_of_the_server_fills_up(method: str, repository: Repository) -> None:
    """The server stops for want of room for WAL: FAILED, nothing is left, and the next backup is as any."""
    with temporary_server_directory() as directory, mounted(directory) as disk:
        if disk is None:
            pytest.skip("no file system can be mounted here")
        server_account().own(directory)
        server = PostgresServer.create(directory, settings={"wal_level": "replica", "restart_after_crash": "off"})
        server.start()
        try:
            with Running(server, repository.url, *METHODS[method], *SLOW) as running:
                wait_for(status_is(repository, "STARTED"), what="the backup to begin")
                disk.leave(0)
                with contextlib.suppress(psycopg.Error):
                    for _ in range(200):  # nothing but WAL, for which there has to be room
                        server.query("SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
                wait_for(lambda: server.process is None or server.process.poll() is not None, what="the server to stop")
                code, _ = running.ended()
            assert code == 1
            info = repository.info()
            assert (info.status, info.end_time) == ("FAILED", None)
            assert repository.archives == []
        finally:
            disk.reset()
            server.stop(mode="immediate")
        with server:
            done = repository.backup(server, *METHODS[method][1:])
            assert done.returncode == 0, done.stderr
            assert repository.info().status == "DONE"


def test_a_store_that_is_down_for_a_minute(postgres: PostgresServer, moto: StoreServer) -> None:
    with fault_proxy(moto.endpoint) as proxy:
        environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
        url = f"{moto.new_bucket()}/prod"
        arguments = [*METHODS["stream"], "--gzip", "--max-bandwidth", "20MB", "--endpoint-url", proxy.endpoint]
        with Running(postgres, url, *arguments, environ=environ) as running:
            wait_for(lambda: any("backup.info" in seen.path for seen in proxy.seen), what="the backup to begin")
            down = proxy.add(Fault(times=10**6, drop=True))
            time.sleep(60)
            down.times = 0
            _, logged = running.process.communicate(timeout=120)
            assert running.process.returncode == 0, logged
        verified = subprocess.run(
            [UMBRELLA, "verify", "--format", "json", *moto.options, url, "main"],
            env=command_environment(moto.environ), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        findings = json.loads(verified.stdout)["servers"][0]["findings"]
        assert {f["level"] for f in findings if f["subject"] in ("archives", "manifest")} == {"ok"}


@contextlib.contextmanager
def written_to(server: PostgresServer) -> Iterator[None]:
    """Write all the time, in small transactions, and finish segments."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with server.connect() as connection:
                connection.autocommit = True
                while not ended.is_set():
                    connection.execute("INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 500) g")
                    connection.execute("UPDATE t SET b = b || 'y' WHERE a = 7")
                    connection.execute("SELECT pg_switch_wal()")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
    assert not failures, failures


def there_are(repository: Repository, count: int) -> Callable[[], bool]:
    return lambda: len(repository.ids) == count


def test_two_backups_at_once_beside_a_parallel_archiver(
    new_postgres: NewPostgres, repository: Repository, server_dir: Path
) -> None:
    """One of files, one streamed, while WAL is archived ahead: each of them is recovered to the newest moment."""
    server = new_postgres(settings={"wal_level": "replica"})
    spool = server.directory / "spool"
    with ended_background_processes(spool):
        server.query("CREATE TABLE t (a int, b text)")
        server.archive_with(
            f"barman-cloud-wal-archive --parallel 4 --spool-dir {spool} --lz4 {repository.url} {SERVER_NAME} %p"
        )
        with written_to(server), contextlib.ExitStack() as stack:
            both = []
            for number, method in enumerate(METHODS):
                started = Running(server, repository.url, *METHODS[method], "--max-bandwidth", "20MB")
                both.append(stack.enter_context(started))
                wait_for(there_are(repository, number + 1), what="the backup to begin")
            outcomes = [running.ended() for running in both]
        assert [code for code, _ in outcomes] == [0, 0], outcomes
        server.wait_archived(server.switch_wal(), timeout=120)
        rows = server.query("SELECT count(*), sum(a), sum(length(b)) FROM t")
        assert {repository.info(backup_id).status for backup_id in repository.ids} == {"DONE"}
        newest, older = repository.ids[-1], repository.ids[0]
        for backup_id in (newest, older):
            place = server_dir / backup_id
            place.mkdir()
            with repository.restored(place, server, as_server=True) as copy:
                assert copy.query("SELECT count(*), sum(a), sum(length(b)) FROM t") == rows
                copy.amcheck()
            if backup_id == newest:
                done = subprocess.run(
                    [program("backup-delete"), "-b", newest, repository.url, SERVER_NAME],
                    env=command_environment(), capture_output=True, text=True, check=False, timeout=60,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
