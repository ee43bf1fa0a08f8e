"""``barman-cloud wal-receive`` when a store goes, or servers change roles: nothing that was acknowledged is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.integration.test_wal_receive import SETTINGS, equals_pg_wal, is_stored, streams, write
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.receivers import LAYOUT, Receiver, stored_wal
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
pytestmark = pytest.mark.long


def lists(store: ObjectStore, name: str) -> bool:
    """Whether the segment is stored; objects may come and go meanwhile."""
    return any(f"/{name}" in item.key and "partial" not in item.key for item in store.list(LAYOUT.wals_dir))


def catch_up(server: PostgresServer, standby: PostgresServer) -> None:
    position = server.value("SELECT pg_current_wal_insert_lsn()")
    server.query("SELECT pg_log_standby_snapshot()" if server.installation.major >= 16 else "CHECKPOINT")
    wait_for(lambda: standby.value("SELECT pg_last_wal_replay_lsn() >= %s", [position]), what="the standby")


def test_a_promotion_while_the_store_is_away_is_stored_whole_afterwards(
    tmp_path: Path, new_postgres: NewPostgres, rclone_s3: StoreServer
) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)
    server.query("CREATE TABLE t (a text)")
    url = rclone_s3.new_bucket()
    store = open_store(url, None, StoreOptions(endpoint_url=rclone_s3.endpoint), environ=rclone_s3.environ)
    with temporary_server_directory() as directory, fault_proxy(rclone_s3.endpoint) as proxy:
        environ = {**rclone_s3.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
        arguments = ("--slot", "s", "--create-slot", "--timeout=5", "--endpoint-url", proxy.endpoint)
        standby = server.standby(directory)
        try:
            with Receiver(standby, tmp_path, *arguments, url=url, environ=environ) as receiver:
                wait_for(streams(standby, receiver), what="the receiver to stream")
                proxy.add(Fault(method="PUT", status=503, times=1_000_000))
                write(server)
                server.query("INSERT INTO t VALUES ('the last of timeline 1')")
                catch_up(server, standby)
                standby.promote()
                last = write(standby)
                wait_for(lambda: last in receiver.spooled, what="timeline 2 to be in the spool")
                assert "00000002.history" in receiver.spooled
                receiver.kill()
            proxy.clear()
            with Receiver(standby, tmp_path, *arguments, url=url, environ=environ) as receiver:
                wait_for(lambda: lists(store, last), what="all to be stored")
                assert receiver.stop() == 0, receiver.said
            stored = stored_wal(store)
            assert stored["00000002.history"] == (standby.data / "pg_wal" / "00000002.history").read_bytes()
            first = min(name for name in stored if name.startswith("00000002") and len(name) == 24)
            equals_pg_wal(standby, stored, first, last)
            assert b"the last of timeline 1" in stored[f"00000001{first[8:]}.partial"]
            assert all(name.endswith(".partial") for name in receiver.spooled)
        finally:
            standby.stop(mode="immediate")


@pytest.mark.parametrize("direct", [False, True], ids=["spool", "direct"])
def test_what_was_acknowledged_stays_when_a_standby_that_was_behind_is_promoted(
    tmp_path: Path, new_postgres: NewPostgres, direct: bool
) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",), settings={**SETTINGS, "synchronous_commit": "on"})
    server.query("CREATE TABLE t (a text)")
    with temporary_server_directory() as directory:
        standby = server.standby(directory)
        try:
            with Receiver(server, tmp_path, "--slot", "s", "--create-slot", direct=direct) as receiver:
                wait_for(streams(server, receiver), what="the receiver to stream")
                write(server)
                catch_up(server, standby)
                standby.stop(mode="immediate")
                beyond = write(server)
                server.query("INSERT INTO t VALUES ('acknowledged and never on the standby')")
                position = server.value("SELECT pg_current_wal_flush_lsn()")
                flushed = "SELECT restart_lsn >= %s FROM pg_replication_slots WHERE slot_name = 's'"
                wait_for(lambda: server.value(flushed, [position]), what="the commit to be acknowledged")
                receiver.kill()
            server.crash()
            standby.start()
            standby.promote()
            with Receiver(standby, tmp_path, "--slot", "s", "--create-slot", direct=direct) as receiver:
                wait_for(streams(standby, receiver), what="the receiver to follow the promoted standby")
                wait_for(is_stored(receiver, write(standby)), what="timeline 2 to be stored")
                assert receiver.stop() == 0, receiver.said
            stored = stored_wal(receiver.store_directory)
            assert any(name.startswith("00000002") for name in stored)
            assert beyond in stored
            row = b"acknowledged and never on the standby"
            holders = [name for name, content in stored.items() if name.startswith("00000001") and row in content]
            assert holders, (sorted(stored), position, receiver.said)
        finally:
            standby.stop(mode="immediate")


def test_an_outage_of_the_store_holds_the_server_back_and_loses_nothing(
    tmp_path: Path, new_postgres: NewPostgres, rclone_s3: StoreServer
) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)
    server.query("CREATE TABLE t (a text)")
    url = rclone_s3.new_bucket()
    with fault_proxy(rclone_s3.endpoint) as proxy:
        environ = {**rclone_s3.environ, "AWS_ENDPOINT_URL": proxy.endpoint}
        arguments = (
            "--slot=s",
            "--create-slot",
            "--spool-max=4MB",
            "--timeout=5",
            "--endpoint-url",
            proxy.endpoint,
        )
        with Receiver(server, tmp_path, *arguments, url=url, environ=environ) as receiver:
            wait_for(streams(server, receiver), what="the receiver to stream")
            first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
            proxy.add(Fault(method="PUT", status=503, times=1_000_000))
            last = write(server, 20000)
            wait_for(lambda: "the spool is almost full" in receiver.said, what="the spool to be full")
            wait_for(lambda: "WAL can't be stored and waits in the spool" in receiver.said, what="a WARNING")
            assert 2 <= len(receiver.spooled) <= 5
            began = time.monotonic()
            assert receiver.stop() == 0, receiver.said
            assert time.monotonic() - began < 40
            assert "stay in the spool" in receiver.said
        proxy.clear()
        with Receiver(server, tmp_path, *arguments, url=url, environ=environ) as receiver:
            store = open_store(url, None, StoreOptions(endpoint_url=rclone_s3.endpoint), environ=rclone_s3.environ)
            wait_for(lambda: lists(store, last), what="all segments to be stored")
            assert receiver.stop() == 0, receiver.said
        assert [name for name in receiver.spooled if not name.endswith(".partial")] == []
        equals_pg_wal(server, stored_wal(store), first, last)
