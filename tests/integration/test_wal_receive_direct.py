"""``wal-receive --mode direct`` on real servers: what was acknowledged is in the bucket, and in what is recovered."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.commands import program, run_command
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt, command_environment, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.receivers import Receiver, stored_names, stored_wal
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
ROUNDS = int(os.environ.get("BARMAN_CLOUD_TEST_LOSS_ROUNDS", "2"))
"""How often a server is lost; 20 take some minutes."""
SETTINGS = {"wal_keep_size": "64MB", "wal_sender_timeout": "10s", "synchronous_commit": "on"}
NAME = "barman_cloud_receive"


@pytest.fixture
def server(new_postgres: NewPostgres) -> PostgresServer:
    return new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)


def wait_for_commits_on(server: PostgresServer, receiver: Receiver) -> None:
    """Let commits wait for the receiver from now on."""

    def follows() -> bool:
        assert receiver.process.poll() is None, receiver.said
        query = "SELECT sync_state FROM pg_stat_replication WHERE application_name = %s AND state = 'streaming'"
        return receiver.streams_from(server) and server.query(query, [NAME]) == [("sync",)]

    server.configure(synchronous_standby_names=NAME)
    wait_for(follows, what="the receiver to be the synchronous standby")


def free(server: PostgresServer) -> None:
    wait_for(lambda: server.query("SELECT 1 FROM pg_replication_slots WHERE active") == [], what="the slot to be free")


def run_command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``barman-cloud check --format json`` or another command of the umbrella's."""
    umbrella = Path(program("backup")).with_name("barman-cloud")
    return subprocess.run(
        [umbrella, *arguments, "--format", "json"], capture_output=True, text=True, env=command_environment(None)
    )


def pieces(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("main/wal_pieces/*/*"))


def test_a_commit_waits_for_the_bucket_and_a_killed_receiver_goes_on(server: PostgresServer, tmp_path: Path) -> None:
    server.query("CREATE TABLE t (a text)")
    with Receiver(server, tmp_path, "--slot", "s", "--create-slot", "--lz4", direct=True) as receiver:
        wait_for_commits_on(server, receiver)
        first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        server.query("INSERT INTO t VALUES ('waits for the bucket')")
        stored = b"".join(path.read_bytes() for path in receiver.store_directory.glob("main/wal_pieces/*/*"))
        assert b"waits for the bucket" in stored
        assert not receiver.spool.exists()
        state = receiver.store_directory / "main/maintenance/wal-receive.json"
        wait_for(lambda: state.exists() and json.loads(state.read_text())["connected"], what="the receiver's state")
        report = run_command_line("check", f"file://{receiver.store_directory}", "main", "-d", server.conninfo)
        found = {finding["subject"]: finding for finding in json.loads(report.stdout)["servers"][0]["findings"]}
        assert found["receiver"]["level"] == "ok", found["receiver"]
        assert "(direct)" in found["receiver"]["message"]
        assert "timeline 1 up to" in found["receiver"]["message"]
        assert found["archiver"]["level"] == "ok", found["archiver"]
        assert "archive_mode is off" in found["archiver"]["message"]
        receiver.signal(signal.SIGSTOP)
        with server.connect() as waiting:
            waiting.execute("SET statement_timeout = '500ms'")
            with pytest.raises(psycopg.errors.QueryCanceled):
                waiting.execute("SELECT pg_sleep(1)")  # so long, and longer, a commit would wait
            waiting.execute("SET statement_timeout = 0")
            waiting.execute("BEGIN")
            waiting.execute("INSERT INTO t VALUES ('not yet')")
            committing = threading.Thread(target=waiting.execute, args=("COMMIT",))
            committing.start()
            committing.join(0.5)
            assert committing.is_alive()
            receiver.signal(signal.SIGCONT)
            committing.join(200)
            assert not committing.is_alive()
        receiver.kill()
    free(server)
    before = pieces(receiver.store_directory)
    with Receiver(server, tmp_path, "--slot", "s", "--lz4", direct=True) as receiver:
        wait_for_commits_on(server, receiver)
        server.query("INSERT INTO t VALUES ('a little more')")
        # What was there wasn't stored again. Once the segment is full, all of its pieces go.
        assert set(before) & set(pieces(receiver.store_directory))
        server.query("INSERT INTO t SELECT repeat(md5(i::text), 20) FROM generate_series(1, 3000) AS i")
        last = server.switch_wal()
        wait_for(lambda: last in stored_names(receiver.store_directory), what="the segments to be stored")
        server.query("INSERT INTO t VALUES ('in progress')")
        assert receiver.stop() == 0, receiver.said
    archived = stored_wal(receiver.store_directory)
    names = sorted(name for name in os.listdir(server.data / "pg_wal") if first <= name <= last and len(name) == 24)
    assert len(names) > 1
    for name in names:
        assert archived[name] == (server.data / "pg_wal" / name).read_bytes(), name
    (partial,) = [name for name in archived if name.endswith(".partial")]
    assert b"in progress" in archived[partial]
    target = tmp_path / "RECOVERYXLOG"
    done = run_command("wal-restore", f"file://{receiver.store_directory}", "main", partial[:24], target)
    assert done.returncode == 0, done.stderr
    assert b"in progress" in target.read_bytes()
    server.configure(synchronous_standby_names="")
    free(server)
    with Receiver(server, tmp_path, "--slot", "s", "--lz4", direct=True) as receiver:
        newest = server.switch_wal()
        wait_for(lambda: newest in stored_names(receiver.store_directory), what="the newest segment to be stored")
        wait_for(lambda: partial not in stored_names(receiver.store_directory), what="the partial copy to go")
        assert receiver.stop() == 0, receiver.said


@pytest.mark.long
def test_an_outage_holds_commits_back_and_loses_nothing(
    server: PostgresServer, tmp_path: Path, rclone_s3: StoreServer
) -> None:
    url = rclone_s3.new_bucket()
    server.query("CREATE TABLE t (a text)")
    with fault_proxy(rclone_s3.endpoint) as proxy:
        environ = {**rclone_s3.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
        arguments = ("--slot", "s", "--create-slot", "--timeout=5", "--endpoint-url", proxy.endpoint)
        with Receiver(server, tmp_path, *arguments, url=url, environ=environ, direct=True) as receiver:
            wait_for_commits_on(server, receiver)
            proxy.add(Fault(method="PUT", status=503, times=1_000_000))
            with server.connect() as waiting:
                committing = threading.Thread(target=waiting.execute, args=("INSERT INTO t VALUES ('waited')",))
                committing.start()
                wait_for(lambda: "isn't acknowledged to the server" in receiver.said, what="a WARNING")
                assert committing.is_alive()
                proxy.clear()
                committing.join(200)
                assert not committing.is_alive()
            wait_for(lambda: "the store takes WAL again" in receiver.said, what="the all-clear")
            server.configure(synchronous_standby_names="")
            server.query("INSERT INTO t SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) AS i")
            last = server.switch_wal()
            store = open_store(url, None, StoreOptions(endpoint_url=rclone_s3.endpoint), environ=rclone_s3.environ)
            wait_for(lambda: last in stored_names(store), what="the segments to be stored")
            assert receiver.stop() == 0, receiver.said
    assert stored_wal(store)[last] == (server.data / "pg_wal" / last).read_bytes()


def test_a_spool_is_emptied_before_wal_goes_directly(server: PostgresServer, tmp_path: Path) -> None:
    server.query("CREATE TABLE t (a text)")
    with Receiver(server, tmp_path, "--slot", "s", "--create-slot") as receiver:
        wait_for_commits_on(server, receiver)
        server.query("INSERT INTO t VALUES ('spooled')")
        receiver.kill()
    assert receiver.spooled
    free(server)
    spool = ("--spool-dir", str(receiver.spool))
    with Receiver(server, tmp_path, "--slot", "s", *spool, direct=True) as receiver:
        wait_for_commits_on(server, receiver)
        assert receiver.spooled == []
        server.query("INSERT INTO t VALUES ('direct')")
        (partial,) = [content for name, content in stored_wal(receiver.store_directory).items() if ".partial" in name]
        assert b"spooled" in partial
        assert receiver.stop() == 0, receiver.said


def test_a_copy_that_went_its_own_way_is_refused(server: PostgresServer, tmp_path: Path) -> None:
    server.query("CREATE TABLE t (a text)")
    with Receiver(server, tmp_path, direct=True) as receiver:
        wait_for_commits_on(server, receiver)
        assert receiver.stop() == 0, receiver.said
    server.stop()
    with temporary_server_directory() as directory:
        shutil.copytree(server.data, directory / "data", symlinks=True)
        server.start()
        with Receiver(server, tmp_path, direct=True) as receiver:
            wait_for_commits_on(server, receiver)
            server.query("INSERT INTO t VALUES ('of the one')")
            end = server.value("SELECT pg_current_wal_flush_lsn()")
            receiver.kill()
        copy = adopt(directory / "data", server.installation, synchronous_standby_names="")
        with copy:
            if copy.value("SELECT pg_current_wal_flush_lsn() < %s", [end]):
                with Receiver(copy, tmp_path, direct=True) as receiver:
                    assert receiver.process.wait(200) == 1
                    assert "diverged timeline: the archive holds WAL up to" in receiver.said
            copy.query("INSERT INTO t SELECT 'of the other' FROM generate_series(1, 2000)")
            with Receiver(copy, tmp_path, direct=True) as receiver:
                assert receiver.process.wait(200) == 1
                assert "differs from what was acknowledged before" in receiver.said


class Writers:
    """Connections that commit one row after another, and remember which commits were acknowledged."""

    def __init__(self, server: PostgresServer, number: int) -> None:
        self.acknowledged: set[tuple[int, int]] = set()
        self._threads = [threading.Thread(target=self._write, args=(server, writer)) for writer in range(number)]
        for thread in self._threads:
            thread.start()

    def _write(self, server: PostgresServer, writer: int) -> None:
        row = 0
        try:
            with server.connect() as connection:
                while True:
                    row += 1
                    connection.execute("INSERT INTO t VALUES (%s, %s, repeat('x', 500))", [writer, row])
                    self.acknowledged.add((writer, row))
        except psycopg.OperationalError:
            return  # the server is gone

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()


def kill_all(server: PostgresServer) -> None:
    """Kill every process of a server: the postmaster first, so that nobody ends in good order."""
    postmaster = psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))
    children = postmaster.children(recursive=True)
    for process in (postmaster, *children):
        process.kill()
    psutil.wait_procs([postmaster, *children], timeout=30)


@pytest.fixture
def bucket(rclone_s3: StoreServer) -> Iterator[tuple[str, StoreServer]]:
    yield rclone_s3.new_bucket(), rclone_s3


@pytest.mark.long
@pytest.mark.parametrize("loss", range(ROUNDS))
def test_every_acknowledged_commit_survives_the_loss_of_the_server(
    new_postgres: NewPostgres, tmp_path: Path, bucket: tuple[str, StoreServer], loss: int
) -> None:
    url, store = bucket
    chance = random.Random(loss)
    server = new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)
    server.query("CREATE TABLE t (writer int, number int, filler text, PRIMARY KEY (writer, number))")
    store_options = (*store.options, "--timeout=30")
    environ = {**store.environ, **server.client_environ}
    with Receiver(
        server, tmp_path, "--slot", "s", "--create-slot", *store_options, url=url, environ=store.environ, direct=True
    ) as receiver:
        wait_for_commits_on(server, receiver)
        taken = run_command("backup", "--immediate-checkpoint", *store.options, url, "main", environ=environ)
        assert taken.returncode == 0, taken.stderr
        assert "archive_mode" not in taken.stderr
        writers = Writers(server, 4)
        enough = chance.randrange(50, 3000)
        wait_for(lambda: len(writers.acknowledged) >= enough, what=f"{enough} commits", timeout=120)
        kill_all(server)
        acknowledged = set(writers.acknowledged)
        if loss % 2:
            receiver.kill()
        shutil.rmtree(server.data)
        writers.join()
        acknowledged |= writers.acknowledged
    with temporary_server_directory() as directory:
        target = directory / "restored"
        done = run_command("restore", *store.options, url, "main", "last", target, environ=store.environ)
        assert done.returncode == 0, done.stderr
        server_account().own(target)
        copy = adopt(target, server.installation, synchronous_standby_names="")
        copy.environ.update(store.environ)
        copy.recover_with(f"barman-cloud-wal-restore {' '.join(store.options)} {url} main %f %p")
        with copy:
            copy.wait_recovered()
            found = set(copy.query("SELECT writer, number FROM t"))
            assert acknowledged <= found, sorted(acknowledged - found)
            assert len(found - acknowledged) <= 4  # what was committed, and not yet said so
            copy.amcheck()
