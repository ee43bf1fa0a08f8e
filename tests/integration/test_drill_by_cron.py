"""``drill_schedule``: ``cron`` has a real backup restored and started, and what came of it is told afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import psutil
import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule.history import last_runs
from barman_cloud.store.open import open_store
from tests.support.commands import program
from tests.support.installations import newest_installation
from tests.support.postgres import PostgresServer, run_as_server, server_directory, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.repository import Completed, Repository

pytestmark = pytest.mark.long


def left_of(drills: Path) -> list[str]:
    """What drills have left on disk or running."""
    lines = [" ".join(found.info["cmdline"] or ()) for found in psutil.process_iter(["cmdline"])]
    return [*(line for line in lines if str(drills) in line), *(path.name for path in drills.iterdir())]


def test_a_drill_runs_at_its_time_and_what_it_finds_is_told() -> None:
    with temporary_server_directory() as directory:
        repository = Repository(directory / "store")
        with PostgresServer.create(
            directory / "server", initdb=("--wal-segsize=1",), settings={"archive_mode": "on"}
        ) as server:
            repository.archive_from(server)
            server.query("CREATE TABLE t AS SELECT generate_series(1, 1000) AS a")
            assert repository.backup(server).returncode == 0
            for _ in range(3):
                server.query("INSERT INTO t SELECT max(a) + 1 FROM t")
                last = server.switch_wal()
            server.wait_archived(last)
        home, drills = server_directory(directory / "host"), server_directory(directory / "drills")
        file = home / "barman.conf"
        file.write_text(
            f"[barman]\nbarman_home = {home}\n[main]\nbackup_method = local-to-cloud\n"
            f"basebackups_directory = {repository.url}\nwals_directory = {repository.url}\n"
            f"path_prefix = {newest_installation().bin}\ndrill_directory = {drills}\n"
            "drill_schedule = 0 4 * * *\ncleanup_schedule = 0 0 1 1 *\n"
        )
        for path in (file, repository.directory):
            server_account().own(path)

        def run(now: str, *words: str) -> Completed:
            umbrella = program("backup").removesuffix("-backup")
            return run_as_server([umbrella, "-c", file, *words], environ={"BARMAN_CLOUD_NOW": now}, check=False)

        def results() -> list[int | None]:
            store = open_store(repository.url)
            return [found.exit_code for found in last_runs(store, Layout.of(store.url, "main"), "drill", 10)]

        def checked(now: str) -> list[dict[str, Any]]:
            (found,) = json.loads(run(now, "check", "main", "--format", "json").stdout)["servers"]
            return [finding for finding in found["findings"] if "drill" in finding["subject"]]

        first = run("2026-11-28T12:00:00Z", "cron")
        assert (first.returncode, first.stdout) == (0, ""), first.stderr
        night = run("2026-11-29T04:01:00Z", "cron", "--wait")
        assert night.stdout == "main: drill started (due since 2026-11-29 04:00:00Z)\n", night.stderr
        assert results() == [0], (home / "barman-cloud.log").read_text()
        assert left_of(drills) == []
        assert [finding["level"] for finding in checked("2026-11-29T05:00:00Z")][:1] == ["ok"]
        assert run("2026-11-29T05:00:00Z", "cron", "--wait").stdout == "", "once a night"

        segments = sorted((repository.directory / "main/wals").glob("*/" + "[0-9A-F]" * 24))
        segments[-2].unlink()
        assert "main: drill started" in run("2026-11-30T04:01:00Z", "cron", "--wait").stdout
        assert results() == [1, 0]
        assert left_of(drills) == []
        listed = run("2026-11-30T04:02:00Z", "cron", "--list").stdout
        told = rf"drill +last .* failed \(exit code 1\): \S+: .*{segments[-2].name}.*; next 2026-12-01 04:00:00Z"
        assert re.search(told, listed), listed
        assert "critical" in [finding["level"] for finding in checked("2026-11-30T05:00:00Z")]
