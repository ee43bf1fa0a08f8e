"""Reports for people and programs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.report.files import write_atomically
from barman_cloud.verify import render
from barman_cloud.verify.findings import Level, Report, TimeRange, critical, ok, unknown, warning
from barman_cloud.verify.picture import draw

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
DAY = timedelta(days=1)
GOOD = Report("check", "s3://backups/prod", "main", NOW, (ok("newest-backup", "1 h old"),), {"backups": 3})
BAD = Report(
    "check",
    "s3://backups/prod",
    "billing",
    NOW,
    (
        warning("archiver", "2 files wait", "look at archive_command"),
        critical("wal-gaps", "2 segments are missing", "take a backup", "000000010000000000000007"),
        unknown("versioning", "not allowed to ask"),
        ok("newest-backup", "1 h old"),
    ),
    {"backups": 1, "newest_backup_age_seconds": 3600.5},
    (TimeRange(NOW - 3 * DAY, NOW - 2 * DAY), TimeRange(NOW - DAY, NOW)),
)


def test_the_worst_finding_decides() -> None:
    assert (GOOD.level, BAD.level) == (Level.OK, Level.CRITICAL)
    assert [finding.subject for finding in BAD.problems] == ["wal-gaps", "versioning", "archiver"]


def test_the_table_names_the_next_step() -> None:
    shown = render.text(BAD)
    assert "\x1b" not in shown
    assert "  FAILED   wal-gaps       2 segments are missing\n" in shown
    assert re.search(r"wal-gaps.*\n +-> take a backup\n", shown)
    assert (
        "any moment from 2026-11-25 12:00:00+0000 to 2026-11-28 12:00:00+0000 can be restored, but not after" in shown
    )
    assert "\x1b[31mFAILED" in render.text(BAD, colour=True)


def test_json_is_one_document_for_all_servers() -> None:
    document = json.loads(render.as_json([GOOD, BAD]))
    assert [server["server"] for server in document["servers"]] == ["main", "billing"]
    assert document["servers"][1]["level"] == "critical"
    assert document["servers"][1]["findings"][1]["objects"] == ["000000010000000000000007"]
    assert document["servers"][1]["recoverable"][0] == {
        "from": "2026-11-25T12:00:00+00:00",
        "to": "2026-11-26T12:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("reports", "code", "start"),
    [
        ([GOOD], 0, "BARMAN-CLOUD OK - main: 1 check passed | 'main_backups'=3"),
        ([GOOD, BAD], 2, "BARMAN-CLOUD CRITICAL - main: 1 check passed, billing: 2 segments are missing; not allowed"),
        ([Report("check", "u", "x", NOW, (unknown("a", "b"),))], 3, "BARMAN-CLOUD UNKNOWN - x: b"),
    ],
)
def test_nagios_gets_one_line_and_its_code(reports: list[Report], code: int, start: str) -> None:
    line, exit_code = render.nagios(reports)
    assert exit_code == code
    assert line.startswith(start)
    assert line.count("|") <= 1
    assert "\n" not in line


def test_prometheus_metrics_have_types_and_labels() -> None:
    shown = render.prometheus([GOOD, BAD])
    assert '# TYPE barman_cloud_backups gauge\nbarman_cloud_backups{server="main",command="check"} 3\n' in shown
    assert 'barman_cloud_finding{server="billing",command="check",subject="wal-gaps"} 2\n' in shown
    for line in shown.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) [a-z_]+ .+|[a-z_]+\{([a-z]+="[^"]*",?)+\} [-0-9.e+]+', line), line


def test_a_metrics_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "barman.prom"
    path.write_text("old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_picture_shows_backups_gaps_and_now(width: int) -> None:
    picture = draw([NOW - 3 * DAY, NOW - DAY], BAD.recoverable, NOW, width=width)
    assert len(picture) <= width
    assert picture.startswith("●─")
    assert picture.endswith("▶ now")
    assert picture.count("●") == 2
    assert "╳" in picture
    assert draw([NOW - DAY], (), NOW, unicode=False).isascii()


def test_a_gap_of_a_second_is_seen() -> None:
    second = timedelta(seconds=1)
    spans = (TimeRange(NOW - 30 * DAY, NOW - 10 * DAY), TimeRange(NOW - 10 * DAY + second, NOW))
    assert draw([NOW - 30 * DAY], spans, NOW).count("╳") == 1
