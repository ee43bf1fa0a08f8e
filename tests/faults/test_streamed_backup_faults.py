"""Streamed backups that are interrupted, lose their server or their store: FAILED, and nothing still runs."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import psycopg
import pytest

from barman_cloud.backup.archive_backup import BackupOptions, run_streamed_backup
from barman_cloud.backup.lifecycle import BackupRequest
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import ConnectionParameters
from barman_cloud.store.open import open_store
from tests.faults.test_backup_faults import Running, status_is
from tests.support.commands import program
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.faulty_store import FaultyStore
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment
from tests.support.relay import Relay
from tests.support.repository import Repository
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
STREAM = ("--method", "stream", "--immediate-checkpoint")
SLOW = ("--max-bandwidth", "1MB")
SOON = 15.0


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


@contextlib.contextmanager
def streaming(server: PostgresServer, repository: Repository, *arguments: str) -> Iterator[Running]:
    """A slow streamed backup that has begun to send files."""
    with Running(server, repository.url, *STREAM, *SLOW, *arguments) as running:
        wait_for(status_is(repository, "STARTED"), what="the backup to begin")
        yield running


def is_marked_failed(repository: Repository, reason: str) -> None:
    info = repository.info()
    assert (info.status, info.mode, info.end_time, info.copy_stats, info.size) == ("FAILED", "postgres", *[None] * 3)
    assert re.fullmatch(rf"failure copying files \(.*({reason}).*\)", str(info.error)), info.error
    assert repository.archives == []


def nothing_runs(running: Running) -> None:
    wait_for(lambda: running.sessions() == [], what="the sessions to be closed")
    wait_for(lambda: running.server.query("SELECT 1 FROM pg_replication_slots") == [], what="the slot to be dropped")


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_while_files_are_sent(
        self, postgres: PostgresServer, repository: Repository, number: signal.Signals
    ) -> None:
        with streaming(postgres, repository, "--include-wal") as running:
            sent = running.send(number)
            code, logged = running.ended()
        assert (code, time.monotonic() - sent < SOON) == (1, True)
        assert f"interrupted by {number.name}" in logged
        is_marked_failed(repository, f"interrupted by {number.name}")
        nothing_runs(running)

    def test_while_the_server_spreads_its_checkpoint(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"checkpoint_completion_target": "0.9"})
        server.query("CREATE TABLE t AS SELECT generate_series(1, 500000) AS a")
        with Running(server, repository.url, "--method", "stream") as running:
            running.wait_for_query("BASE_BACKUP")
            time.sleep(0.3)
            running.send(signal.SIGINT)
            code, _ = running.ended()
        assert code == 1
        is_marked_failed(repository, "interrupted by SIGINT")
        assert repository.info().begin_wal is None
        nothing_runs(running)

    def test_while_the_server_waits_for_its_archiver(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        server.archive_with("false")
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'BackupWaitWalArchive'"
        with Running(server, repository.url, *STREAM) as running:
            wait_for(lambda: server.query(waiting), what="the server to wait for its archiver")
            sent = running.send(signal.SIGTERM)
            code, _ = running.ended()
        assert (code, time.monotonic() - sent < SOON) == (1, True)
        info = repository.info()
        assert (info.status, info.error) == ("FAILED", "failure copying files (interrupted by SIGTERM)")
        nothing_runs(running)

    @pytest.mark.long
    def test_nothing_is_left_in_the_bucket_but_the_record(self, postgres: PostgresServer, moto: StoreServer) -> None:
        bucket = moto.new_bucket()
        client = boto3.client(
            "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )
        name = bucket.removeprefix("s3://")
        with Running(postgres, f"{bucket}/prod", *STREAM, *SLOW, *moto.options, environ=dict(moto.environ)) as running:
            wait_for(
                lambda: client.list_multipart_uploads(Bucket=name).get("Uploads") or running.process.poll(),
                what="an upload to begin",
            )
            running.send(signal.SIGTERM)
            assert running.ended()[0] == 1
        assert client.list_multipart_uploads(Bucket=name).get("Uploads") is None
        keys = [item["Key"].rpartition("/")[2] for item in client.list_objects_v2(Bucket=name)["Contents"]]
        assert keys == ["backup.info", "system_identifiers"]

    def test_a_killed_backup_stays_started_and_hinders_nobody(
        self, postgres: PostgresServer, repository: Repository
    ) -> None:
        with streaming(postgres, repository, "--include-wal") as running:
            running.process.kill()
            running.process.wait()
        assert repository.info().status == "STARTED"
        nothing_runs(running)
        assert repository.backup(postgres, *STREAM).returncode == 0
        assert [repository.info(backup_id).status for backup_id in repository.ids] == ["STARTED", "DONE"]

    def test_two_at_once_hinder_each_other_as_little_as_two_of_files(
        self, postgres: PostgresServer, repository: Repository
    ) -> None:
        command = [program("backup"), *STREAM, repository.url, "main"]
        environ = command_environment(postgres.client_environ)
        both = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        outcomes = [(process.communicate(timeout=200)[1], process.returncode) for process in both]
        refused = [text for text, code in outcomes if code]
        done = [backup_id for backup_id in repository.ids if repository.info(backup_id).status == "DONE"]
        assert len(done) == 2 - len(refused) > 0
        assert all("another backup took the id" in text for text in refused)


class TestLostServer:
    def test_a_wal_sender_that_is_terminated(self, postgres: PostgresServer, repository: Repository) -> None:
        with streaming(postgres, repository) as running:
            postgres.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'barman_cloud_backup' AND backend_type = 'walsender'"
            )
            lost = time.monotonic()
            code, _ = running.ended()
        assert (code, time.monotonic() - lost < SOON) == (1, True)
        is_marked_failed(repository, "terminating connection|connection was lost")

    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    def test_a_server_that_is_stopped(self, new_postgres: NewPostgres, repository: Repository, mode: str) -> None:
        server = new_postgres()
        with streaming(server, repository) as running:
            server.stop(mode=mode)
            code, _ = running.ended()
        assert code == 1
        is_marked_failed(repository, "terminating|lost")

    def test_a_connection_that_is_cut(self, postgres: PostgresServer, repository: Repository) -> None:
        with Relay(postgres.port) as relay:
            conninfo = f"host=127.0.0.1 port={relay.port} user=postgres"
            with streaming(postgres, repository, "--streaming-conninfo", conninfo) as running:
                relay.cut()
                code, _ = running.ended()
        assert code == 1
        is_marked_failed(repository, "the replication connection was lost while reading the stream")
        nothing_runs(running)

    def test_the_ordinary_session_is_not_needed_for_the_copy(
        self, postgres: PostgresServer, repository: Repository
    ) -> None:
        with Running(postgres, repository.url, *STREAM, "--max-bandwidth", "4MB") as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            with running.held():
                postgres.query(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'barman_cloud_backup' AND backend_type = 'client backend'"
                )
            code, logged = running.ended()
        assert code == 0, logged
        assert "the time of this machine is taken for the server's" in logged
        assert repository.info().status == "DONE"

    def test_a_promotion_in_the_middle(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        primary = new_postgres()
        standby = primary.standby(server_dir / "standby")
        try:
            with Running(standby, repository.url, *STREAM, "--max-bandwidth", "4MB") as running:
                wait_for(status_is(repository, "STARTED"), what="the backup to begin")
                with running.held():
                    standby.promote()
                code, _ = running.ended()
            assert code == 1
            info = repository.info()
            assert info.status == "FAILED"
            assert re.search("promoted|timeline", str(info.error))
            nothing_runs(running)
        finally:
            standby.stop()

    def test_a_damaged_page_fails_the_backup(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        server.query("CREATE TABLE t AS SELECT generate_series(1, 10000) AS a")
        path = server.data / server.value("SELECT pg_relation_filepath('t')")
        server.restart()
        with path.open("r+b") as file:
            file.seek(8192 + 4000)
            file.write(b"damaged")
        done = repository.backup(server, "--method", "stream")
        assert done.returncode == 1
        assert re.search("WARNING: PostgreSQL: checksum verification failed", done.stderr), done.stderr
        assert re.search(r"checksum verification failure.*\(hint: keep older backups", done.stderr), done.stderr
        assert repository.info().status == "FAILED"
        done = repository.backup(server, "--method", "stream", "--no-verify-checksums")
        assert done.returncode == 0, done.stderr


class TestLostStore:
    @pytest.fixture
    def options(self, postgres: PostgresServer) -> BackupOptions:
        return BackupOptions(
            BackupRequest(ConnectionParameters(postgres.conninfo), backup_name="n", immediate_checkpoint=True),
            compression="lz4",
        )

    def test_whichever_call_fails_the_record_is_true_and_nothing_runs(
        self, options: BackupOptions, postgres: PostgresServer
    ) -> None:
        layout = Layout("", "main")
        calls = 0
        outcomes: set[str] = set()
        before = self._threads()
        while True:
            calls += 1
            store = FaultyStore(open_store(f"memory://every-streamed-call-{calls}"))
            failure = store.fail_call(calls)
            try:
                info = run_streamed_backup(store, layout, options)
            except OperationError as error:
                outcome = self._record(store)
                assert "the store went away" in str(error)
                assert outcome in ("none", "STARTED", "FAILED")
            else:
                outcome = self._record(store)
                assert (outcome, info.status) == ("DONE", "DONE")
            assert self._threads() <= before
            outcomes.add(outcome)
            if failure.times == 1:
                assert outcome == "DONE"
                break
        assert outcomes >= {"FAILED", "DONE"}
        wait_for(lambda: self._sessions(postgres) == [], what="the sessions to be closed")

    def test_a_cut_upload_fails_the_backup_and_leaves_no_archive(self, options: BackupOptions) -> None:
        store = FaultyStore(open_store("memory://cut-streamed-upload"))
        store.fail("put_stream", cut=1 << 20)
        with pytest.raises(OperationError, match="the store went away"):
            run_streamed_backup(store, Layout("", "main"), options)
        assert self._record(store) == "FAILED"
        assert not [item for item in store.list("main/") if ".tar" in item.key]

    def test_a_store_that_is_down_for_a_while_is_waited_for(self, postgres: PostgresServer, moto: StoreServer) -> None:
        with fault_proxy(moto.endpoint) as proxy:
            environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
            arguments = [*STREAM, "--gzip", "--max-bandwidth", "20MB", "--endpoint-url", proxy.endpoint]
            with Running(postgres, f"{moto.new_bucket()}/prod", *arguments, environ=environ) as running:
                wait_for(lambda: any("backup.info" in seen.path for seen in proxy.seen), what="the backup to begin")
                down = proxy.add(Fault(times=10**6, drop=True))
                time.sleep(4)
                down.times = 0
                code, logged = running.ended()
            assert code == 0, logged

    @staticmethod
    def _threads() -> set[int | None]:
        names = ("lane-", "receiver")
        return {thread.native_id for thread in threading.enumerate() if thread.name.startswith(names)}

    @staticmethod
    def _sessions(server: PostgresServer) -> list[tuple[object, ...]]:
        with contextlib.suppress(psycopg.Error):
            return server.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'")
        return []

    @staticmethod
    def _record(store: FaultyStore) -> str:
        found = [item.key for item in store.inner.list("main/") if item.key.endswith("/backup.info")]
        if not found:
            return "none"
        (key,) = found
        info = backup_info.parse(store.inner.get(key).decode(), key.split("/")[2])
        assert (info.end_time is not None) == (info.status == "DONE")
        return info.status
