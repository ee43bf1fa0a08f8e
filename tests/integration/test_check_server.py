"""``barman-cloud check`` with a connection: what a real server says about its archiver, its WAL and its slots."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.postgres.connection import ConnectionParameters
from barman_cloud.store.open import open_store
from barman_cloud.verify.findings import Finding, Level
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.server_state import look_at_server
from tests.support.commands import program
from tests.support.installations import Installation
from tests.support.ports import free_port, wait_for
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.unit.catalog.builders import backup, fill, segment
from tests.unit.test_documented_commands import SERVER_METRICS


@pytest.fixture(scope="module")
def server(postgres_installation: Installation) -> Iterator[PostgresServer]:
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(directory, postgres_installation, initdb=("--wal-segsize=1",)) as server,
    ):
        server.archive_with("cp %p /dev/null")
        archive_all(server)
        yield server


def archive_all(server: PostgresServer) -> None:
    """Let the archiver have nothing to do, and the statistics know what it did last."""
    name = server.switch_wal()
    server.wait_archived(name)
    wait_for(lambda: server.value("SELECT last_archived_wal FROM pg_stat_archiver") == name, what="the statistics")


def found(server: PostgresServer, limits: Limits | None = None, user: str | None = None) -> dict[str, Finding]:
    conninfo = f"{server.conninfo} user={user}" if user else server.conninfo
    findings = look_at_server(ConnectionParameters(conninfo), limits or Limits())
    return {finding.subject: finding for finding in findings}


def test_a_server_that_archives(server: PostgresServer) -> None:
    archive_all(server)
    said = found(server, Limits(max_ready=0))
    assert {name: finding.level for name, finding in said.items()} == {
        "wal-level": Level.OK, "archiver": Level.OK, "archiver-queue": Level.OK, "archiver-lag": Level.OK,
        "pg-wal": Level.OK,
    }  # fmt: skip
    assert said["wal-level"].message == "wal_level is replica"
    assert "0 segments wait" in said["archiver-queue"].message
    lag = dict(said["archiver-lag"].numbers)
    assert lag["archiver_lag_bytes"] < 1 << 20, "less than a segment: one that is full would have been archived"
    assert 0 <= lag["archiver_lag_seconds"] < 300


@pytest.fixture(scope="class")
def writing(server: PostgresServer) -> Iterator[None]:
    """Something that writes at least some MiB of WAL each second."""
    server.query("CREATE TABLE IF NOT EXISTS written (filler text)")
    job = (
        "DO $$ BEGIN FOR i IN 1..100000 LOOP INSERT INTO written SELECT repeat(md5(n::text), 30)"
        " FROM generate_series(1, 200) n; COMMIT; PERFORM pg_sleep(0.02); END LOOP; END $$"
    )
    process = subprocess.Popen(
        [server.installation.tool("psql"), "-X", "-d", server.conninfo, "-c", job],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=command_environment(),
    )  # fmt: skip
    before = server.query("SELECT pg_current_wal_insert_lsn()")
    wait_for(lambda: server.query("SELECT pg_current_wal_insert_lsn()") != before, what="WAL to be written")
    yield
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$%'")
    process.wait(timeout=200)
    server.query("DROP TABLE written")
    archive_all(server)


class TestRoomOfPgWal:
    """Seconds until it is full, at the rate at which WAL is written while it is looked at."""

    @pytest.mark.usefixtures("writing")
    def test_on_the_machine_of_the_server(self, server: PostgresServer) -> None:
        status = os.statvfs(server.data / "pg_wal")
        said = found(server)["pg-wal"]
        numbers = dict(said.numbers)
        assert numbers["wal_bytes_per_second"] > 10_000
        assert numbers["pg_wal_free_bytes"] == pytest.approx(status.f_bavail * status.f_frsize, rel=0.2)
        assert numbers.keys() <= SERVER_METRICS
        until = numbers["pg_wal_free_bytes"] / numbers["wal_bytes_per_second"]
        assert numbers["pg_wal_seconds_until_full"] == pytest.approx(until)
        assert said.level is Level.OK
        assert said.message.startswith("pg_wal is full in ")

    @pytest.mark.usefixtures("writing")
    def test_a_limit_of_its_size_and_of_the_time(self, server: PostgresServer) -> None:
        used = _used(server)
        room = used + (1 << 30)
        said = found(server, Limits(wal_room=room))["pg-wal"]
        assert dict(said.numbers)["pg_wal_free_bytes"] == pytest.approx(1 << 30, rel=0.5)
        assert said.level is Level.OK
        said = found(server, Limits(wal_room=room, min_wal_time=timedelta(days=3650)))["pg-wal"]
        assert said.level is Level.CRITICAL
        assert "the limit is 3650 d" in said.message
        full = found(server, Limits(wal_room=1))["pg-wal"]
        assert dict(full.numbers)["pg_wal_seconds_until_full"] == 0

    @pytest.mark.usefixtures("writing")
    def test_less_than_a_day_while_archiving_does_not_keep_up(self, server: PostgresServer) -> None:
        server.query("SELECT pg_create_physical_replication_slot('unused', true)")
        try:
            used = _used(server)
            said = found(server, Limits(wal_room=used + (64 << 20)))["pg-wal"]
        finally:
            server.query("SELECT pg_drop_replication_slot('unused')")
        assert said.level is Level.CRITICAL
        assert "archiving doesn't keep up" in said.message
        assert "never delete anything in pg_wal" in (said.hint or "")

    def test_it_is_unknown_where_the_directory_is_that_of_another_server(
        self, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As on another machine whose server has the same path: its lock file has another time."""
        read = Path.read_text

        def other(path: Path) -> str:
            text = read(path)
            lines = text.split("\n")
            return (
                "\n".join([*lines[:2], str(int(lines[2]) - 3600), *lines[3:]])
                if path.name == "postmaster.pid"
                else text
            )

        monkeypatch.setattr(Path, "read_text", other)
        said = found(server)["pg-wal"]
        assert said.level is Level.OK
        assert "unknown: its file system can't be seen from here" in said.message
        assert found(server, Limits(min_wal_time=timedelta(hours=1)))["pg-wal"].level is Level.UNKNOWN


def test_an_archiver_that_fails_and_the_queue_behind_it(server: PostgresServer) -> None:
    archive_all(server)
    server.configure(archive_command="false")
    try:
        for _ in range(3):
            server.query("SELECT pg_create_restore_point('x')")
            server.switch_wal()
        wait_for(lambda: "archiver" in (said := found(server)) and said["archiver"].level is Level.CRITICAL)
        said = found(server, Limits(max_ready=2))
        assert "archiving has failed since the last success" in said["archiver"].message
        assert said["archiver-queue"].level is Level.CRITICAL
        assert "3 segments wait for the archiver, more than 2" in said["archiver-queue"].message
        assert found(server, Limits(max_ready=3))["archiver-queue"].level is Level.OK
    finally:
        server.configure(archive_command="cp %p /dev/null")
    wait_for(lambda: found(server)["archiver"].level is Level.OK, what="the archiver to go on")


def test_a_command_that_stores_nothing(server: PostgresServer) -> None:
    server.configure(archive_command="/bin/true")
    try:
        said = found(server)
    finally:
        server.configure(archive_command="cp %p /dev/null")
    assert said["archiver"].level is Level.CRITICAL
    assert "archives nothing" in said["archiver"].message
    assert said["archiver"].hint


def test_a_slot_that_nobody_uses(server: PostgresServer) -> None:
    server.query("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        said = found(server)
    finally:
        server.query("SELECT pg_drop_replication_slot('forgotten')")
    assert said["slots"].level is Level.WARNING
    assert re.search(r"nobody uses slot forgotten: the server keeps WAL for it \(.* by now\)", said["slots"].message)
    assert "pg_drop_replication_slot('forgotten')" in (said["slots"].hint or "")


def test_a_slot_that_falls_behind_and_loses_its_wal(server: PostgresServer) -> None:
    server.configure(max_slot_wal_keep_size="1MB")
    server.query("SELECT pg_create_physical_replication_slot('slow', true)")
    try:
        for _ in range(4):
            server.switch_wal()
        behind = found(server)["slots"]
        server.query("CHECKPOINT")
        lost = found(server)["slots"]
    finally:
        server.query("SELECT pg_drop_replication_slot('slow')")
        server.configure(max_slot_wal_keep_size="-1")
    assert (behind.level, lost.level) == (Level.CRITICAL, Level.CRITICAL)
    assert "slot slow has fallen behind max_slot_wal_keep_size" in behind.message
    assert "slot slow has lost WAL" in lost.message


def test_a_role_that_may_see_little(server: PostgresServer) -> None:
    server.query("CREATE ROLE curious LOGIN")
    said = found(server, user="curious")
    assert said["archiver-queue"].level is Level.UNKNOWN
    assert "pg_monitor" in (said["archiver-queue"].hint or "")
    assert said["wal-level"].level is Level.OK
    assert "unknown: the role may not see where it is" in said["pg-wal"].message
    assert "may not list pg_wal" in found(server, Limits(wal_room=1 << 30), user="curious")["pg-wal"].message


@pytest.mark.long
def test_a_standby_that_archives_nothing(server: PostgresServer) -> None:
    with temporary_server_directory() as directory:
        standby = server.standby(directory / "standby")
        try:
            said = found(standby)
        finally:
            standby.stop()
    assert said["archiver"].level is Level.CRITICAL
    assert "a standby that doesn't archive" in said["archiver"].message
    assert said["archiver-queue"].level is Level.OK


def test_the_command(server: PostgresServer, tmp_path: Path) -> None:
    """One run with a server that answers, one with none; the report holds both what is listed and what is said."""
    store = open_store(f"file://{tmp_path}")
    fill(Catalog(store, Layout.of(store.url, "main")), [backup("20260101T000000", segment(1))], [segment(1)])
    metrics = tmp_path / "metrics.prom"
    archive_all(server)
    _, there, numbers = _run(tmp_path, "--dbname", server.conninfo, "--prometheus", str(metrics))
    assert {"wal-level", "archiver", "archiver-queue", "archiver-lag", "pg-wal"} <= there.keys()
    assert len(there) > 3, "and what the store says"
    of_server = SERVER_METRICS - {"pg_wal_seconds_until_full"}  # which there is while WAL is written
    assert of_server <= numbers.keys()
    written = metrics.read_text()
    assert all(f'barman_cloud_{name}{{server="main",command="check"}} ' in written for name in of_server)
    nagios = run_umbrella("check", "--nagios", f"file://{tmp_path}", "main", "--dbname", server.conninfo)
    assert all(f"'main_{name}'=" in nagios.stdout for name in of_server)
    code, gone, _ = _run(tmp_path, "--host", "127.0.0.1", "--port", str(free_port()))
    assert code == 1
    assert gone["server"]["level"] == "critical"
    assert "cannot connect to PostgreSQL" in gone["server"]["message"]
    _, without, _ = _run(tmp_path)
    assert not {"wal-level", "archiver", "server"} & without.keys()


def _run(directory: Path, *arguments: str) -> tuple[int, dict[str, Any], dict[str, float]]:
    """Return exit code, findings by subject, and metrics."""
    done = run_umbrella("check", "--format", "json", f"file://{directory}", "main", *arguments)
    assert done.stdout, done.stderr
    (report,) = json.loads(done.stdout)["servers"]
    return done.returncode, {finding["subject"]: finding for finding in report["findings"]}, report["metrics"]


def run_umbrella(*arguments: str) -> subprocess.CompletedProcess[str]:
    umbrella = program("check").replace("barman-cloud-check", "barman-cloud")
    return subprocess.run(
        [umbrella, *arguments],
        capture_output=True, text=True, timeout=200, check=False, env=command_environment(),
    )  # fmt: skip


def _used(server: PostgresServer) -> int:
    ((size,),) = server.query("SELECT sum(size)::int8 FROM pg_ls_waldir()")
    return int(size)
