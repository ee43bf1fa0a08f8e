"""A chain of incremental backups that Barman's server took, restored and deleted by our commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.barman_server import BarmanServer
from tests.support.incrementals import SUMMARIZED
from tests.support.installations import Installation
from tests.support.peers import Commands
from tests.support.postgres import PostgresServer, adopt, run_as_server, server_directory
from tests.support.privileges import server_account
from tests.support.servers import StoreServer

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.xdist_group("interop")]
SUM = "SELECT count(*), sum(abalance), sum(aid) FROM pgbench_accounts"


def test_a_chain_of_barmans_server(
    postgres_installation: Installation,
    new_postgres: Callable[..., PostgresServer],
    rclone_s3: StoreServer,
    ours: Commands,
    barman_peer: Commands,
    directories: Callable[[], Path],
) -> None:
    if postgres_installation.major < 17:
        pytest.skip("PostgreSQL has incremental backups from 17 on")
    url = rclone_s3.new_bucket()
    server = new_postgres(settings={**SUMMARIZED, "archive_mode": "on", "archive_command": "/bin/true"})
    server.pgbench("-i", "-s", "1")
    server.create_tablespace("fast")
    server.query("CREATE TABLE f TABLESPACE fast AS SELECT generate_series(1, 5000) AS id")
    barman = BarmanServer.create(barman_peer, directories(), server, "main", url, rclone_s3.environ)
    barman.archive_a_segment()
    barman.run("backup", "main", "--immediate-checkpoint", "--name", "full")
    for name in ("one", "two"):
        server.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 10 = 0")
        server.query("DELETE FROM f WHERE id % 2 = 1")
        server.query("VACUUM f")
        barman.run("backup", "main", "--immediate-checkpoint", "--incremental", "latest", "--name", name)

    place = (*rclone_s3.options, url, "main")
    shown = json.loads(
        ours.run("barman-cloud", "backup-list", "--format", "json", *place, environ=rclone_s3.environ).stdout
    )["backups_list"]
    ids = [entry["backup_id"] for entry in shown]
    assert [entry["backup_type"] for entry in shown] == ["full", "incremental", "incremental"]
    assert shown[2]["chain_backup_ids"] == ids
    assert shown[2]["chain_size"] > shown[0]["stored_size"]

    directory = server_directory(directories())
    target = directory / "data"
    rules = ("--tablespace", f"fast:{directory / 'fast'}")
    ours.run("barman-cloud-restore", *rules, *place, "two", target, environ=rclone_s3.environ)
    server_account().own(directory)
    assert not list(target.rglob("INCREMENTAL.*"))
    verify = server.installation.tool("pg_verifybackup")
    run_as_server([verify, "-n", target], environ=server.installation.environ)
    shutil.copytree(server.data / "pg_wal", target / "pg_wal", dirs_exist_ok=True)
    with adopt(target, server.installation) as copy:
        copy.wait_recovered()
        assert copy.query(SUM) == server.query(SUM)
        assert copy.value("SELECT count(*) FROM f") == server.value("SELECT count(*) FROM f")
        copy.amcheck()

    delete = ("barman-cloud-backup-delete", *rclone_s3.options, "--backup-id", "full")
    with pytest.raises(RuntimeError, match=f"incremental backups build on it: {ids[1]}, {ids[2]}"):
        ours.run(*delete, url, "main", environ=rclone_s3.environ)
    ours.run(
        "barman-cloud-backup-delete", *rclone_s3.options, "--backup-id", ids[2], url, "main", environ=rclone_s3.environ
    )
    ours.run(*delete, "--with-children", url, "main", environ=rclone_s3.environ)
    left = ours.run("barman-cloud-backup-list", "--format", "json", *place, environ=rclone_s3.environ).stdout
    assert json.loads(left)["backups_list"] == []
