"""Backups that are interrupted, lose their server, or lose their store: what is left is always told the truth about."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from barman_cloud.backup import lifecycle
from barman_cloud.backup.archive_backup import BackupOptions, run_backup
from barman_cloud.backup.lifecycle import BackupRequest
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id
from barman_cloud.catalog.heartbeat import Heartbeat
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.errors import ConnectivityError, OperationError
from barman_cloud.postgres.connection import ConnectionParameters
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.faulty_store import Failure, FaultyStore
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment
from tests.support.repository import Repository
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
SLOW = ("--max-bandwidth", "1MB")
SOON = 15.0


@pytest.fixture
def repository(server_dir: Path) -> Repository:
    return Repository(server_dir / "store")


class Running:
    """A backup command in the background."""

    def __init__(
        self, server: PostgresServer, url: str, *arguments: str, environ: dict[str, str] | None = None
    ) -> None:
        self.server = server
        self.process = subprocess.Popen(
            [program("backup"), "-v", *arguments, url, "main"],
            env=command_environment({**server.client_environ, **(environ or {})}),
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_query(self, pattern: str) -> None:
        """Wait until the backup's session runs (or has last run) a query that matches."""
        wait_for(
            lambda: any(re.search(pattern, query) for (query,) in self.sessions()), what=f"the backup to run {pattern}"
        )

    def sessions(self) -> list[tuple[str]]:
        return self.server.query("SELECT query FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the backup do nothing while the block runs, so that it can't be done before that is."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def send(self, number: signal.Signals) -> float:
        """Send a signal and return the time."""
        self.process.send_signal(number)
        return time.monotonic()

    def ended(self) -> tuple[int, str]:
        """Exit code and what was logged."""
        _, logged = self.process.communicate(timeout=120)
        assert "Traceback" not in logged
        return self.process.returncode, logged

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def status_is(repository: Repository, status: str) -> Callable[[], bool]:
    def there() -> bool:
        try:
            return bool(repository.ids) and repository.info().status == status
        except FileNotFoundError:
            return False

    return there


def is_marked_failed(repository: Repository, reason: str) -> None:
    info = repository.info()
    assert (info.status, info.end_time, info.copy_stats) == ("FAILED", None, None)
    assert re.fullmatch(rf"failure uploading data \(.*({reason}).*\)", str(info.error))


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_while_data_is_copied(
        self, postgres: PostgresServer, repository: Repository, number: signal.Signals
    ) -> None:
        with Running(postgres, repository.url, "--immediate-checkpoint", "--name", "n", *SLOW) as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            sent = running.send(number)
            code, logged = running.ended()
        assert time.monotonic() - sent < SOON
        assert code == 1
        assert f"interrupted by {number.name}" in logged
        is_marked_failed(repository, f"interrupted by {number.name}")
        assert repository.info().backup_name == "n"
        assert repository.archives == []
        wait_for(lambda: running.sessions() == [], what="the session to be closed")

    def test_while_the_server_waits_for_its_archiver(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        server.archive_with("false")
        with Running(server, repository.url, "--immediate-checkpoint") as running:
            running.wait_for_query("pg_(backup_stop|stop_backup)")
            time.sleep(0.5)
            sent = running.send(signal.SIGTERM)
            code, _ = running.ended()
        assert (code, time.monotonic() - sent < SOON) == (1, True)
        is_marked_failed(repository, "interrupted by SIGTERM")
        wait_for(lambda: running.sessions() == [], what="the session to be closed")

    def test_while_the_server_spreads_its_checkpoint(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres(settings={"checkpoint_completion_target": "0.9"})
        server.query("CREATE TABLE t AS SELECT generate_series(1, 500000) AS a")
        with Running(server, repository.url) as running:
            running.wait_for_query("pg_(backup_start|start_backup)")
            time.sleep(0.5)
            running.send(signal.SIGINT)
            code, _ = running.ended()
        assert code == 1
        is_marked_failed(repository, "interrupted by SIGINT")
        assert repository.info().begin_wal is None
        wait_for(lambda: running.sessions() == [], what="the session to be closed")

    def test_nothing_is_left_in_the_bucket_but_the_record(self, postgres: PostgresServer, moto: StoreServer) -> None:
        bucket = moto.new_bucket()
        client = boto3.client(
            "s3", endpoint_url=moto.endpoint, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )
        name = bucket.removeprefix("s3://")
        arguments = ["--immediate-checkpoint", *SLOW, *moto.options]
        with Running(postgres, f"{bucket}/prod", *arguments, environ=dict(moto.environ)) as running:
            wait_for(
                lambda: client.list_multipart_uploads(Bucket=name).get("Uploads") or running.process.poll(),
                what="an upload to begin",
            )
            running.send(signal.SIGTERM)
            assert running.ended()[0] == 1
        assert client.list_multipart_uploads(Bucket=name).get("Uploads") is None
        keys = [item["Key"].rpartition("/")[2] for item in client.list_objects_v2(Bucket=name)["Contents"]]
        assert keys == ["backup.info", "system_identifiers"]

    def test_the_second_signal_ends_the_process_at_once(self, postgres: PostgresServer, moto: StoreServer) -> None:
        with fault_proxy(moto.endpoint) as proxy:
            proxy.add(Fault(method="PUT", path=".tar", times=1000, delay=60))
            proxy.add(Fault(method="POST", path=".tar", times=1000, delay=60))
            environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
            url = f"{moto.new_bucket()}/prod"
            arguments = ["--immediate-checkpoint", "-v", "--endpoint-url", proxy.endpoint]
            with Running(postgres, url, *arguments, environ=environ) as running:
                wait_for(lambda: any(".tar" in seen.path for seen in proxy.seen), what="an upload to begin")
                running.send(signal.SIGTERM)
                assert running.process.stderr is not None
                assert any(re.search("backup .* fails", line) for line in running.process.stderr)
                time.sleep(1)  # what comes at the same time is the same wish
                sent = running.send(signal.SIGTERM)
                code, _ = running.ended()
            assert code == 128 + signal.SIGTERM
            assert time.monotonic() - sent < 8, "not only when it has waited for its uploads"

    def test_a_killed_backup_stays_started_and_hinders_nobody(
        self, postgres: PostgresServer, repository: Repository
    ) -> None:
        with Running(postgres, repository.url, "--immediate-checkpoint", *SLOW) as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            running.process.kill()
            running.process.wait()
        assert repository.info().status == "STARTED"
        wait_for(lambda: running.sessions() == [], what="the server to notice")
        assert repository.backup(postgres).returncode == 0
        assert [repository.info(backup_id).status for backup_id in repository.ids] == ["STARTED", "DONE"]


class TestLostServer:
    @pytest.mark.parametrize("interval", ["60", "0"])
    def test_a_lost_session_fails_the_backup_at_once(
        self, postgres: PostgresServer, repository: Repository, interval: str
    ) -> None:
        arguments = ["--immediate-checkpoint", "--keepalive-interval", interval, *SLOW]
        with Running(postgres, repository.url, *arguments) as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            postgres.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'"
            )
            lost = time.monotonic()
            code, _ = running.ended()
        assert (code, time.monotonic() - lost < SOON) == (1, True)
        is_marked_failed(repository, "session of the backup was lost")
        assert repository.archives == []

    def test_the_session_is_used_in_between(self, postgres: PostgresServer, repository: Repository) -> None:
        arguments = ["--immediate-checkpoint", "--keepalive-interval", "1", *SLOW]
        with Running(postgres, repository.url, *arguments) as running:
            running.wait_for_query("^SELECT 1$")
            running.send(signal.SIGINT)
            running.ended()

    def test_a_cancelled_keepalive_is_no_loss(self, postgres: PostgresServer, repository: Repository) -> None:
        with Running(postgres, repository.url, "--immediate-checkpoint", "--max-bandwidth", "4MB") as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            with running.held():
                postgres.query(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'barman_cloud_backup'"
                )
            assert running.ended()[0] == 0

    def test_a_crash_of_the_server(self, new_postgres: NewPostgres, repository: Repository) -> None:
        server = new_postgres()
        with Running(server, repository.url, "--immediate-checkpoint", *SLOW) as running:
            wait_for(status_is(repository, "STARTED"), what="the backup to begin")
            server.stop(mode="immediate")
            code, _ = running.ended()
        assert code == 1
        is_marked_failed(repository, "lost")

    def test_a_promotion_in_the_middle(
        self, new_postgres: NewPostgres, repository: Repository, server_dir: Path
    ) -> None:
        primary = new_postgres()
        standby = primary.standby(server_dir / "standby")
        try:
            with Running(standby, repository.url, "--immediate-checkpoint", "--max-bandwidth", "4MB") as running:
                wait_for(status_is(repository, "STARTED"), what="the backup to begin")
                with running.held():
                    standby.promote()
                code, _ = running.ended()
            assert code == 1
            is_marked_failed(repository, "promoted|timeline")
        finally:
            standby.stop()


@pytest.fixture
def _no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take so long for a backup that it gives some, which are calls of the store as well."""
    monkeypatch.setattr(lifecycle, "Heartbeat", functools.partial(Heartbeat, first=3600.0))


@pytest.mark.usefixtures("_no_signs_of_life")
class TestLostStore:
    @pytest.fixture
    def options(self, postgres: PostgresServer) -> BackupOptions:
        return BackupOptions(
            BackupRequest(ConnectionParameters(postgres.conninfo), backup_name="n", immediate_checkpoint=True),
            compression="lz4",
        )

    def test_whichever_call_fails_the_record_is_true(self, options: BackupOptions) -> None:
        layout = Layout("", "main")
        calls = 0
        outcomes: set[str] = set()
        while True:
            calls += 1
            store = FaultyStore(open_store(f"memory://every-call-{calls}"))
            failure = store.fail_call(calls)
            try:
                info = run_backup(store, layout, options)
            except OperationError as error:
                outcome = self._record(store)
                assert "the store went away" in str(error)
                assert outcome in ("none", "STARTED", "FAILED")
            else:
                outcome = self._record(store)
                assert (outcome, info.status) == ("DONE", "DONE")
            outcomes.add(outcome)
            if failure.times == 1:
                assert outcome == "DONE"
                break
        assert outcomes >= {"FAILED", "DONE"}

    def test_a_cut_upload_fails_the_backup_and_leaves_no_archive(self, options: BackupOptions) -> None:
        store = FaultyStore(open_store("memory://cut-upload"))
        store.fail("put_stream", cut=1 << 20)
        with pytest.raises(OperationError, match="the store went away"):
            run_backup(store, Layout("", "main"), options)
        assert self._record(store) == "FAILED"
        assert [item.key.rpartition("/")[2] for item in store.list("main/base/")] == ["backup.info"]

    def test_transient_errors_of_the_store_are_survived(self, postgres: PostgresServer, moto: StoreServer) -> None:
        with fault_proxy(moto.endpoint) as proxy:
            proxy.add(
                Fault(method="PUT", path="data", times=2, status=503, body=b"<Error><Code>SlowDown</Code></Error>")
            )
            proxy.add(Fault(method="PUT", path="data", times=1, drop=True))
            environ = {**moto.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
            url = f"{moto.new_bucket()}/prod"
            arguments = ["--immediate-checkpoint", "--gzip", "--endpoint-url", proxy.endpoint]
            with Running(postgres, url, *arguments, environ=environ) as running:
                code, logged = running.ended()
            assert code == 0, logged

    @pytest.mark.parametrize("killed", [None, "before", "after"])
    def test_a_deletion_at_any_moment_never_leaves_a_half_backup_that_is_done(
        self, options: BackupOptions, killed: str | None
    ) -> None:
        """The deletion runs as a whole at each call of the backup's end, or until just before or after the archives go.

        What waits there may go on at any later time, and be killed then.
        """
        layout, number = Layout("", "main"), 0
        first = FaultyStore(open_store(f"memory://untroubled-{killed}"))
        run_backup(first, layout, options)
        begin = max(place for place, call in enumerate(first.calls) if call[0] == "put_stream")
        outcomes = set()
        for number in range(begin, len(first.calls)):
            store = FaultyStore(open_store(f"memory://deleted-{number}-{killed}"))
            store.failures.append(
                Failure(skip=number, error=lambda store=store: self._delete(store, layout, killed=killed))
            )
            with contextlib.suppress(OperationError):
                run_backup(store, layout, options)
            outcome = self._record(store)
            assert outcome != "DONE", f"at {first.calls[number]}"
            outcomes.add(outcome)
        assert "FAILED" in outcomes

    def test_another_cluster_is_refused_before_anything_of_it_is_written(self, options: BackupOptions) -> None:
        layout, store = Layout("", "main"), open_store("memory://of-another-cluster")
        store.put(layout.identity, b"42\n")
        with pytest.raises(OperationError, match="system identifier 42, and this server") as caught:
            run_backup(store, layout, options)
        assert [item.key for item in store.list("main/")] == [layout.identity]
        own = int(str(caught.value).rpartition(" ")[2])
        accepting = replace(options, request=replace(options.request, accept_cluster=own))
        assert run_backup(store, layout, accepting).systemid == str(own)
        assert store.get(layout.identity) == f"42\n{own}\n".encode()

    @staticmethod
    def _delete(store: FaultyStore, layout: Layout, *, killed: str | None) -> None:
        """Delete the backup, beside the store's noted calls; ``killed`` before or after its archives are gone."""
        inner = FaultyStore(store.inner)
        if killed:
            inner.fail("delete", key="*.tar*", after=killed == "after")
        catalog = Catalog(inner, layout)
        view = catalog.load()
        with contextlib.suppress(ConnectivityError):
            delete_by_id(catalog, view, max(view.backups), 0, DeletionOptions(), io.StringIO())

    @staticmethod
    def _record(store: FaultyStore) -> str:
        found = [item.key for item in store.inner.list("main/") if item.key.endswith("/backup.info")]
        if not found:
            return "none"
        (key,) = found
        info = backup_info.parse(store.inner.get(key).decode(), key.split("/")[2])
        assert (info.end_time is not None) == (info.status == "DONE")
        return info.status
