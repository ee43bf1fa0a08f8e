"""What a pass of ``cron`` is said to have started."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from barman_cloud.cli.cron import lines_as_barman
from barman_cloud.config.reader import load
from barman_cloud.schedule.jobs import jobs_of
from barman_cloud.schedule.maintain import Pass, active_names
from barman_cloud.schedule.plan import Due

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def test_lines_are_barmans_where_barman_has_them(tmp_path: Path) -> None:
    path = tmp_path / "barman.conf"
    path.write_text("[main]\nretention_policy = REDUNDANCY 2\n[off]\nactive = off\n")
    configuration = load(str(path))
    assert active_names(configuration) == ["main"]
    jobs = jobs_of(configuration.server("main"), ())
    done = Pass(receivers=["main"], started=[(Due(job, NOON), True) for job in jobs])
    assert lines_as_barman(done) == [
        "Starting streaming archiver for server main",
        "Starting retention for server main",
        "Starting WAL archiving for server main",
    ]
