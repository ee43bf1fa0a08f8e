"""``barman-cloud wal-receive`` when servers change roles at a bad moment: what was acknowledged is in the archive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.integration.test_wal_receive import SETTINGS, equals_pg_wal, is_stored, streams, write
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.receivers import Receiver, stored_wal
from tests.support.servers import StoreServer

NewPostgres = Callable[..., PostgresServer]
pytestmark = pytest.mark.long


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
                wait_for(lambda: last in stored_wal(store), what="all to be stored", timeout=60)
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
    server = new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)
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
            assert [name for name, content in stored.items() if name.startswith("00000001") and row in content]
        finally:
            standby.stop(mode="immediate")
