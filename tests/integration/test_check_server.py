"""``barman-cloud check`` with a connection: what a real server says about its archiver, its WAL and its slots."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
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


@pytest.fixture(scope="module")
def server(postgres_installation: Installation) -> Iterator[PostgresServer]:
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(directory, postgres_installation, initdb=("--wal-segsize=1",)) as server,
    ):
        server.archive_with("cp %p /dev/null")
        yield server


def found(server: PostgresServer, limits: Limits | None = None, user: str | None = None) -> dict[str, Finding]:
    conninfo = f"{server.conninfo} user={user}" if user else server.conninfo
    findings = look_at_server(ConnectionParameters(conninfo), limits or Limits())
    return {finding.subject: finding for finding in findings}


def test_a_server_that_archives(server: PostgresServer) -> None:
    server.wait_archived(server.switch_wal())
    said = found(server, Limits(max_ready=0))
    assert {name: finding.level for name, finding in said.items()} == {
        "wal-level": Level.OK, "archiver": Level.OK, "archiver-queue": Level.OK,
    }  # fmt: skip
    assert said["wal-level"].message == "wal_level is replica"
    assert "0 segments wait" in said["archiver-queue"].message


def test_an_archiver_that_fails_and_the_queue_behind_it(server: PostgresServer) -> None:
    server.configure(archive_command="false")
    try:
        for _ in range(3):
            server.query("SELECT pg_create_restore_point('x')")
            server.switch_wal()
        wait_for(lambda: "archiver" in (said := found(server)) and said["archiver"].level is Level.CRITICAL, timeout=60)
        said = found(server, Limits(max_ready=2))
        assert "archiving has failed since the last success" in said["archiver"].message
        assert said["archiver-queue"].level is Level.CRITICAL
        assert "3 segments wait for the archiver, more than 2" in said["archiver-queue"].message
        assert found(server, Limits(max_ready=3))["archiver-queue"].level is Level.OK
    finally:
        server.configure(archive_command="cp %p /dev/null")
    wait_for(lambda: found(server)["archiver"].level is Level.OK, timeout=60, what="the archiver to go on")


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
    assert "nobody uses slot forgotten" in said["slots"].message
    assert "pg_drop_replication_slot('forgotten')" in (said["slots"].hint or "")


def test_a_role_that_may_see_little(server: PostgresServer) -> None:
    server.query("CREATE ROLE curious LOGIN")
    said = found(server, user="curious")
    assert said["archiver-queue"].level is Level.UNKNOWN
    assert "pg_monitor" in (said["archiver-queue"].hint or "")
    assert said["wal-level"].level is Level.OK


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
    _, there = _run(tmp_path, "--dbname", server.conninfo)
    assert {"wal-level", "archiver", "archiver-queue"} <= there.keys()
    assert len(there) > 3, "and what the store says"
    code, gone = _run(tmp_path, "--host", "127.0.0.1", "--port", str(free_port()))
    assert code == 1
    assert gone["server"]["level"] == "critical"
    assert "cannot connect to PostgreSQL" in gone["server"]["message"]
    _, without = _run(tmp_path)
    assert not {"wal-level", "archiver", "server"} & without.keys()


def _run(directory: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    umbrella = program("check").replace("barman-cloud-check", "barman-cloud")
    done = subprocess.run(
        [umbrella, "check", "--format", "json", f"file://{directory}", "main", *arguments],
        capture_output=True, text=True, timeout=60, check=False, env=command_environment(),
    )  # fmt: skip
    assert done.stdout, done.stderr
    (report,) = json.loads(done.stdout)["servers"]
    return done.returncode, {finding["subject"]: finding for finding in report["findings"]}
