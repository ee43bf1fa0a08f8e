"""``barman-cloud wal-receive`` on real servers: what it stores is what the server wrote, whatever dies meanwhile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.commands import run_command
from tests.support.installations import Installation
from tests.support.maintenance import Host
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.receivers import Receiver, stored_wal
from tests.support.relay import Relay

NewPostgres = Callable[..., PostgresServer]
SETTINGS = {"wal_keep_size": "1GB", "wal_sender_timeout": "10s"}


@pytest.fixture(scope="module")
def server(postgres_installation: Installation) -> Iterator[PostgresServer]:
    """A server with small segments, shared by the tests that neither stop nor configure it."""
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(
            directory, postgres_installation, initdb=("--wal-segsize=1",), settings=SETTINGS
        ) as server,
    ):
        server.query("CREATE TABLE t (a text)")
        yield server


@pytest.fixture
def slot(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    name = re.sub(r"\W", "_", request.node.name.lower())[:50]
    yield name
    wait_for(slot_is_free(server, name), what="the slot to be free")
    server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name])


def write(server: PostgresServer, rows: int = 3000) -> str:
    """Write some segments of WAL, finish the last, and return its name."""
    server.query(f"INSERT INTO t SELECT repeat(md5(i::text), 20) FROM generate_series(1, {rows}) AS i")
    return server.switch_wal()


def is_stored(receiver: Receiver, name: str) -> Callable[[], bool]:
    def stored() -> bool:
        assert receiver.process.poll() is None, receiver.said
        return list(receiver.store_directory.glob(f"main/wals/*/{name}*")) != []

    return stored


def streams(server: PostgresServer, receiver: Receiver) -> Callable[[], bool]:
    return lambda: receiver.streams_from(server)


def slot_is_free(server: PostgresServer, slot: str) -> Callable[[], bool]:
    """Whether the server has noticed that a receiver has gone."""
    query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
    return lambda: server.query(query, [slot]) == []


def insert_for_certain(server: PostgresServer, text: str) -> str:
    """Add a row whose WAL is flushed, which these servers don't promise of a commit, and return up to where."""
    with server.connect() as connection:
        connection.execute("SET synchronous_commit = on")
        connection.execute("INSERT INTO t VALUES (%s)", [text])
    return str(server.value("SELECT pg_current_wal_flush_lsn()"))


def refused(receiver: Receiver, words: str, code: int = 1) -> None:
    assert receiver.process.wait(200) == code, receiver.said
    last = receiver.said.splitlines()[-1]
    assert re.search(rf"ERROR: .*{words}.*\(hint: ", last), receiver.said


def told_by_others(server: PostgresServer, receiver: Receiver, words: str) -> None:
    """What ended the receiver is what ``check``, ``status`` and ``cron --list`` say."""
    home = receiver.spool.parent / "home"
    place = f"file://{receiver.store_directory}"
    host = Host(
        home,
        f"[barman]\nbarman_home = HOME\n[main]\nconninfo = {server.conninfo}\nbackup_method = postgres\n"
        f"streaming_archiver = on\nbasebackups_directory = {place}\nwals_directory = {place}\n"
        "backup_schedule = 0 2 * * *\n",
    )
    asked = [
        (("check", "main"), 1),
        (("server", "-c", str(host.file), "check", "main"), 1),
        (("server", "-c", str(host.file), "status", "main"), 0),
        (("cron", "--list"), 0),
    ]
    for command, code in asked:
        done = host.run(*command)
        assert done.returncode == code, done.stderr
        assert re.search(rf"wal-receive \(\w+\) on \S+ ended .*{words}", done.stdout), (command, done.stdout)
    status = host.run("server", "-c", str(host.file), "status", "main").stdout
    assert re.search(r"\tScheduled backup: last - +never run; next \d{4}-", status), status


def equals_pg_wal(server: PostgresServer, stored: dict[str, bytes], first: str, last: str) -> None:
    """All segments from ``first`` to ``last`` are stored, byte for byte as the server has them."""
    names = sorted(name for name in os.listdir(server.data / "pg_wal") if first <= name <= last and len(name) == 24)
    assert names[0] == first
    assert len(names) > 1
    for name in names:
        assert stored[name] == (server.data / "pg_wal" / name).read_bytes(), name


def test_stores_what_the_server_writes_and_the_segment_in_progress_at_the_end(
    server: PostgresServer, tmp_path: Path, slot: str
) -> None:
    with Receiver(server, tmp_path, "--slot", slot, "--create-slot", "--zstd") as receiver:
        wait_for(streams(server, receiver), what="the receiver to stream")
        first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        last = write(server)
        position = insert_for_certain(server, "in progress")
        wait_for(is_stored(receiver, last), what="the segments to be stored")
        query = "SELECT restart_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s"
        wait_for(lambda: server.value(query, [position, slot]), what="the slot to advance")
        assert receiver.stop() == 0, receiver.said
    stored = stored_wal(receiver.store_directory)
    equals_pg_wal(server, stored, first, last)
    (partial,) = [name for name in stored if name.endswith(".partial")]
    written = (server.data / "pg_wal" / partial.removesuffix(".partial")).read_bytes()
    received = stored[partial].rstrip(b"\0")
    assert received
    assert written.startswith(received)
    assert b"in progress" in received


def test_a_killed_receiver_goes_on_without_a_gap(server: PostgresServer, tmp_path: Path, slot: str) -> None:
    first, last = None, ""
    for _ in range(3):
        with Receiver(server, tmp_path, "--slot", slot, "--create-slot", "--partial-interval=1") as receiver:
            wait_for(streams(server, receiver), what="the receiver to stream")
            first = first or server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
            write(server)
            receiver.kill()
        last = write(server)
        wait_for(slot_is_free(server, slot), what="the slot to be free")
    with Receiver(server, tmp_path, "--slot", slot) as receiver:
        wait_for(is_stored(receiver, last), what="the last segment to be stored")
        assert receiver.stop() == 0
    equals_pg_wal(server, stored_wal(receiver.store_directory), str(first), last)


def test_a_lost_connection_is_made_again(server: PostgresServer, tmp_path: Path, slot: str) -> None:
    with Relay(server.port) as relay:
        through = server.conninfo.replace(f"port={server.port}", f"port={relay.port}")
        with Receiver(server, tmp_path, "--slot", slot, "--create-slot", conninfo=through) as receiver:
            wait_for(streams(server, receiver), what="the receiver to stream")
            first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
            server.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_replication "
                "WHERE application_name = 'barman_cloud_receive'"
            )
            last = write(server)
            wait_for(is_stored(receiver, last), what="the segments to be stored")
            assert receiver.stop() == 0
    assert "connecting again in 1 s" in receiver.said
    equals_pg_wal(server, stored_wal(receiver.store_directory), first, last)


def test_wal_that_archive_command_stored_is_the_same_archive(server: PostgresServer, tmp_path: Path, slot: str) -> None:
    with Receiver(server, tmp_path, "--slot", slot, "--create-slot") as receiver:
        wait_for(streams(server, receiver), what="the receiver to stream")
        last = write(server)
        wait_for(is_stored(receiver, last), what="the segments to be stored")
        again = run_command("wal-archive", f"file://{receiver.store_directory}", "main", server.data / "pg_wal" / last)
        assert again.returncode == 0, again.stderr
        server.query("INSERT INTO t VALUES ('more')")
        assert receiver.stop() == 0
    later = write(server)
    ahead = run_command("wal-archive", f"file://{receiver.store_directory}", "main", server.data / "pg_wal" / later)
    assert ahead.returncode == 0, ahead.stderr
    wait_for(slot_is_free(server, slot), what="the slot to be free")
    with Receiver(server, tmp_path, "--slot", slot) as receiver:
        newest = write(server)
        wait_for(is_stored(receiver, newest), what="the newest segment to be stored")
        assert receiver.stop() == 0, receiver.said
    stored = stored_wal(receiver.store_directory)
    equals_pg_wal(server, stored, last, newest)


def test_a_second_receiver_is_refused_until_the_first_has_gone(
    server: PostgresServer, tmp_path: Path, slot: str
) -> None:
    url = f"file://{tmp_path / 'one' / 'store'}"
    with Receiver(server, tmp_path / "one", "--slot", slot, "--create-slot") as one:
        wait_for(streams(server, one), what="the receiver to stream")
        with Receiver(server, tmp_path / "two", url=url) as two:
            refused(two, f"process {one.process.pid} on .* does this")
        one.kill()
        wait_for(slot_is_free(server, slot), what="the slot to be free")
        with Receiver(server, tmp_path / "two", "--slot", slot, url=url) as three:
            wait_for(streams(server, three), what="the receiver to stream")
            assert three.stop() == 0


def test_a_slot_that_cannot_be_used_is_refused(server: PostgresServer, tmp_path: Path, slot: str) -> None:
    with Receiver(server, tmp_path / "a", "--slot", "nobody") as receiver:
        refused(receiver, "no replication slot nobody")
    with Receiver(server, tmp_path / "one", "--slot", slot, "--create-slot") as one:
        wait_for(streams(server, one), what="the receiver to stream")
        with Receiver(server, tmp_path / "b", "--slot", slot) as receiver:
            refused(receiver, f"slot {slot} is in use")
        assert one.stop() == 0


def test_a_logical_slot_is_refused(tmp_path: Path, new_postgres: NewPostgres) -> None:
    server = new_postgres(settings={"wal_level": "logical"})
    server.query("SELECT pg_create_logical_replication_slot('changes', 'pgoutput')")
    for direct in (False, True):
        with Receiver(server, tmp_path, "--slot", "changes", direct=direct) as receiver:
            refused(receiver, "replication slot changes is a logical one")


def test_a_server_that_is_frozen_does_not_hold_up_the_end(tmp_path: Path, new_postgres: NewPostgres) -> None:
    server = new_postgres()
    assert server.process is not None
    family = [psutil.Process(server.process.pid)]
    family += family[0].children(recursive=True)
    for process in family:
        with suppress(psutil.NoSuchProcess):  # workers come and go
            process.suspend()
    try:
        with Receiver(server, tmp_path) as receiver:
            asked = psutil.Process(receiver.process.pid)
            wait_for(
                lambda: [one for one in asked.net_connections() if one.raddr and one.raddr.port == server.port],
                what="the receiver to connect",
            )
            assert receiver.stop() == 0, receiver.said
            assert "stopped while waiting for the server" in receiver.said
    finally:
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def test_a_role_without_the_right_and_another_cluster_are_refused(
    server: PostgresServer, tmp_path: Path, new_postgres: NewPostgres
) -> None:
    server.query("CREATE ROLE reader LOGIN")
    with Receiver(server, tmp_path, conninfo=server.conninfo.replace("user=postgres", "user=reader")) as receiver:
        refused(receiver, "role reader may not stream")
    with Receiver(server, tmp_path) as receiver:
        wait_for(streams(server, receiver), what="the receiver to stream")
        assert receiver.stop() == 0
    other = new_postgres()
    with Receiver(other, tmp_path) as receiver:
        refused(receiver, "is the archive of the cluster with system identifier")
        told_by_others(other, receiver, "is the archive of the cluster with system identifier")


def test_wal_that_the_server_no_longer_has_is_named(tmp_path: Path, new_postgres: NewPostgres) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",), settings={"min_wal_size": "2MB", "max_wal_size": "2MB"})
    server.query("CREATE TABLE t (a text)")
    with Receiver(server, tmp_path) as receiver:
        wait_for(streams(server, receiver), what="the receiver to stream")
        last = write(server)
        wait_for(is_stored(receiver, last), what="the segments to be stored")
        assert receiver.stop() == 0
    write(server, 20000)
    server.query("CHECKPOINT")
    with Receiver(server, tmp_path) as receiver:
        refused(receiver, r"no longer has WAL from \w+/\w+ on \(segment \w{24}\)")
    server.query("SELECT pg_create_physical_replication_slot('late', true)")
    with Receiver(server, tmp_path, "--slot", "late") as receiver:
        lost = r"no longer has WAL from \w+/\w+ to \w+/\w+ \(segments \w{24} to \w{24}\)"
        refused(receiver, lost)
        told_by_others(server, receiver, lost)
    with Receiver(server, tmp_path, "--accept-gap") as receiver:
        wait_for(streams(server, receiver), what="the receiver to stream")
        assert receiver.stop() == 0
    assert "the archive has a gap" in receiver.said


def test_a_slot_that_was_invalidated_is_named(tmp_path: Path, new_postgres: NewPostgres) -> None:
    limits = {"min_wal_size": "2MB", "max_wal_size": "2MB", "max_slot_wal_keep_size": "1MB"}
    server = new_postgres(initdb=("--wal-segsize=1",), settings=limits)
    server.query("CREATE TABLE t (a text)")
    server.query("SELECT pg_create_physical_replication_slot('slow', true)")
    write(server, 20000)
    server.query("CHECKPOINT")
    assert server.value("SELECT wal_status FROM pg_replication_slots") == "lost"
    with Receiver(server, tmp_path, "--slot", "slow") as receiver:
        invalidated = "slot slow was invalidated by max_slot_wal_keep_size.* WAL from"
        refused(receiver, invalidated)
        told_by_others(server, receiver, invalidated)


@pytest.mark.parametrize("direct", [False, pytest.param(True, marks=pytest.mark.long)], ids=["spool", "direct"])
def test_follows_a_promotion_with_history_and_partial(tmp_path: Path, new_postgres: NewPostgres, direct: bool) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",), settings=SETTINGS)
    server.query("CREATE TABLE t (a text)")
    with temporary_server_directory() as directory:
        standby = server.standby(directory)
        try:
            with Receiver(standby, tmp_path, "--slot", "s", "--create-slot", "--gzip", direct=direct) as receiver:
                wait_for(streams(standby, receiver), what="the receiver to stream")
                write(server)
                server.query("INSERT INTO t VALUES ('the last of timeline 1')")
                position = server.value("SELECT pg_current_wal_insert_lsn()")
                server.query("SELECT pg_log_standby_snapshot()" if server.installation.major >= 16 else "CHECKPOINT")
                replayed = "SELECT pg_last_wal_replay_lsn() >= %s"
                wait_for(lambda: standby.value(replayed, [position]), what="the standby to catch up")
                standby.promote()
                last = write(standby)
                wait_for(is_stored(receiver, last), what="the segments of timeline 2 to be stored")
                assert receiver.stop() == 0, receiver.said
            stored = stored_wal(receiver.store_directory)
            assert stored["00000002.history"] == (standby.data / "pg_wal" / "00000002.history").read_bytes()
            first = min(name for name in stored if name.startswith("00000002") and len(name) == 24)
            equals_pg_wal(standby, stored, first, last)
            assert b"the last of timeline 1" in stored[f"00000001{first[8:]}.partial"]
            assert b"the last of timeline 1" in stored[first]
            # The old primary went its own way.
            with Receiver(server, tmp_path, direct=direct) as receiver:
                refused(receiver, "diverged timeline")
                told_by_others(server, receiver, "diverged timeline")
        finally:
            standby.stop(mode="immediate")
