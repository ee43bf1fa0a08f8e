"""What is said at the end of a command: one line for people, one document for programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.cli import backup_delete, summaries
from barman_cloud.cli.command import main
from barman_cloud.report import progress, summary
from barman_cloud.report.progress import Progress
from barman_cloud.report.summary import Outcome, Summary
from tests.support.made_up import make_archive
from tests.support.schemas import require_valid

BEGAN = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    yield
    logging.getLogger("barman_cloud").handlers.clear()


def moved(data: int, stored: int, items: int) -> Progress:
    work = Progress()
    work.add(data=data, stored=stored, items=items)
    return work


def test_a_line_tells_bytes_time_rate_and_what_else_matters() -> None:
    work = moved(175_000_000, 69_206_016, 12)
    told = Summary("full backup X", "needs WAL A…B (archived)")
    line = "full backup X: 166.9 MiB in 12 archives → 66.0 MiB (2.5×), 9.9 s, 16.9 MiB/s, needs WAL A…B (archived)"
    assert summary.lines(told, work, 9.9) == [line]
    assert summary.lines(told, work, 9.9, unicode=False) == [
        line.replace("→", "->").replace("×", "x").replace("…", "..")
    ]
    back = Summary("X restored", following=("next: start", "then: look"), inflates=True)
    assert summary.lines(back, work, 9.9) == [
        "X restored: 66.0 MiB in 12 archives → 166.9 MiB (2.5×), 9.9 s, 16.9 MiB/s", "next: start", "then: look",
    ]  # fmt: skip
    assert summary.lines(Summary("gone", moved=False), work, 0.04) == ["gone: 0.0 s"]
    assert summary.lines(Summary("read", noun="object"), moved(2048, 0, 1), 2) == [
        "read: 2.0 KiB in 1 object, 2.0 s, 1.0 KiB/s"
    ]
    assert summary.lines(Summary("nothing", "nothing is wrong"), Progress(), 1) == ["nothing: 1.0 s, nothing is wrong"]


def test_a_document_is_whole_whatever_happened(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")
    ended = BEGAN + timedelta(seconds=2)
    failed = Outcome("backup", "s3://bucket", "main", 1, BEGAN, ended, "it broke", "mend it")
    summary.write(path, None, Progress(), failed)
    document = json.loads(path.read_text())
    require_valid(document, "summary")
    assert (document["result"], document["error"], document["hint"], document["seconds"]) == (
        "failed", "it broke", "mend it", 2.0,
    )  # fmt: skip
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]
    done = Outcome("backup-delete", "s3://bucket", "main", 0, BEGAN, ended)
    with progress.watched(moved(0, 5000, 7)) as work:
        work.notes |= {"backups": ["20261101T030000"], "archives": 3, "wal_files": 4}
        told = summaries.of_deletion(dry_run=False)
    assert told is not None
    document = summary.document(told, work, done)
    require_valid(document, "summary")
    assert document["deletion"]["freed_bytes"] == 5000
    assert summary.lines(told, work, 1.0) == [
        "deleted 1 backup (20261101T030000): 3 archives and 4 WAL files, 4.9 KiB freed: 1.0 s"
    ]


def test_a_deletion_by_policy_counts_what_went(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_archive(tmp_path, days=30)
    (root / "base" / "20261029T030000" / "annotations" / "keep").unlink()
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    before = {path.name for path in root.rglob("*.zst")}
    file = tmp_path / "summary.json"
    url = f"file://{tmp_path}"
    words = ["-v", "--json-summary", str(file), "--retention-policy", "REDUNDANCY 2", url, "main"]
    assert main(backup_delete.COMMAND, words) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    told = json.loads(file.read_text())
    require_valid(told, "summary")
    gone = before - {path.name for path in root.rglob("*.zst")}
    deletion = told["deletion"]
    assert len(deletion["backup_ids"]) == 8
    assert deletion["wal_files"] == sum(len(name) > 24 for name in gone)
    assert deletion["archives"] == 8
    assert deletion["freed_bytes"] == size - sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert f"deleted 8 backups ({', '.join(deletion['backup_ids'][:3])} and 5 more)" in captured.err
