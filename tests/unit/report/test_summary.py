"""What is said at the end of a command: one line for people, one document for programs."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.cli import backup_delete, cleanup, summaries, wal_archive, wal_restore
from barman_cloud.cli.command import load, main
from barman_cloud.cli.commands import SUMMARIES
from barman_cloud.cli.parser import Parser
from barman_cloud.cli.wal_summaries import of_receiving
from barman_cloud.report import progress, summary
from barman_cloud.report.progress import Progress
from barman_cloud.report.summary import Outcome, Summary
from barman_cloud.wal.receiver import Received
from tests.support.made_up import make_archive
from tests.support.schemas import SCHEMAS, require_valid
from tests.support.segments import Cluster, segment_name

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


MOVE_DATA = {
    "backup", "backup-delete", "cleanup", "consolidate", "drill", "restore", "verify", "wal-archive", "wal-receive",
    "wal-restore",
}  # fmt: skip


def test_every_command_that_moves_data_has_a_summary_for_programs() -> None:
    page = (SCHEMAS.parent / "json.md").read_text()
    (row,) = [line for line in page.splitlines() if "--json-summary" in line and line.startswith("|")]
    for name in SUMMARIES:
        parser = Parser()
        load(name).add_arguments(parser)
        assert ("--json-summary" in parser._option_string_actions) == (name in MOVE_DATA), name
        assert (f"`{name}`" in row) == (name in MOVE_DATA), name


def test_every_command_that_prints_json_has_a_schema() -> None:
    page = (SCHEMAS.parent / "json.md").read_text()
    for name in SUMMARIES:
        parser = Parser()
        load(name).add_arguments(parser)
        formats = parser._option_string_actions.get("--format")
        if formats is not None and "json" in (formats.choices or ()):
            assert (SCHEMAS / f"{name}.schema.json").exists(), name
            assert f"| `{name} --format json`" in page, name


def test_references_within_a_schema_lead_somewhere() -> None:
    for path in SCHEMAS.glob("*.schema.json"):
        schema = json.loads(path.read_text())
        for name in re.findall(r'"\$ref": "#/\$defs/([^"]*)"', path.read_text()):
            assert name in schema["$defs"], f"{path.name}: {name}"


def test_a_clean_up_counts_what_went_and_what_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_archive(tmp_path, days=4)
    orphan = root / "base" / "20200101T000000" / "data.tar"
    orphan.parent.mkdir()
    orphan.write_bytes(b"x" * 5000)
    os.utime(orphan, (1.6e9, 1.6e9))
    file = tmp_path / "summary.json"
    for words, line, dry_run in (
        (["--dry-run"], "clean-up: 1 would be removed, 4.9 KiB would be freed: ", True),
        ([], "clean-up: 1 removed, 4.9 KiB freed: ", False),
    ):
        assert main(cleanup.COMMAND, ["-v", *words, "--json-summary", str(file), f"file://{tmp_path}", "main"]) == 0
        assert line in capsys.readouterr().err
        told = json.loads(file.read_text())
        require_valid(told, "summary")
        assert told["cleanup"] == {
            "dry_run": dry_run, "removed": 1, "stays": 0, "failed": 0, "freed_bytes": 5000, "next": [],
        }  # fmt: skip


def test_a_wal_file_is_told_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store").mkdir()
    path = Cluster(tmp_path / "data").add(1)
    file = tmp_path / "summary.json"
    url, spool = f"file://{tmp_path}/store", ["--spool-dir", str(tmp_path / "spool")]

    def told(*words: str, command: object = wal_archive, code: int = 0) -> dict[str, object]:
        file.unlink(missing_ok=True)
        words = (*spool, "--json-summary", str(file), url, "main", *words)
        assert main(command.COMMAND, list(words)) == code  # type: ignore[attr-defined]
        document = json.loads(file.read_text())
        require_valid(document, "summary")
        assert document["exit_code"] == code
        about: dict[str, object] = document["wal_file"]
        return {**about, "data": document["data_bytes"], "stored": document["stored_bytes"]}

    size = path.stat().st_size
    whole = {"name": path.name, "path": str(path), "next": []}
    first = told("--lz4", str(path))
    stored = sum(found.stat().st_size for found in (tmp_path / "store" / "main" / "wals").rglob("*.lz4"))
    assert first == {**whole, "result": "archived", "data": size, "stored": stored}
    assert told("--lz4", str(path)) == {**whole, "result": "archived_before", "data": 0, "stored": 0}
    target = tmp_path / "got"
    again = told(path.name, str(target), command=wal_restore)
    assert again == {**whole, "path": str(target), "result": "fetched", "data": size, "stored": 0}
    missing = told(segment_name(9), str(target), command=wal_restore, code=1)
    assert missing == {**whole, "name": segment_name(9), "path": None, "result": "missing", "data": 0, "stored": 0}
    capsys.readouterr()


def test_a_receiver_tells_what_it_received_and_what_waits() -> None:
    done = Outcome("wal-receive", "s3://bucket", "main", 0, BEGAN, BEGAN + timedelta(seconds=90))
    lines = {
        Received("spool", "s", 1, "0/1000000", "0/3500000", 0): (
            "received WAL from 0/1000000 to 0/3500000, timeline 1: 32.0 MiB in 2 files → 8.0 MiB (4.0×), 90.0 s, "
            "364.1 KiB/s, all of it is stored"
        ),
        Received("direct", None, 1, "0/1000000", "0/3500000", 5 << 20): (
            "received WAL from 0/1000000 to 0/3500000, timeline 1: 32.0 MiB in 2 files → 8.0 MiB (4.0×), 90.0 s, "
            "364.1 KiB/s, 5.0 MiB aren't stored"
        ),
    }
    for received, line in lines.items():
        work = moved(32 << 20, 8 << 20, 2)
        assert summary.lines(of_receiving(received), work, 90.0) == [line]
        require_valid(summary.document(of_receiving(received), work, done), "summary")
    nothing = of_receiving(Received("spool", None, None, None, None, 0))
    require_valid(summary.document(nothing, Progress(), done), "summary")
    assert summary.lines(nothing, Progress(), 1.0) == ["received no WAL: 1.0 s"]


def test_commands_that_print_nothing_say_that_it_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_archive(tmp_path, days=4)
    url = f"file://{tmp_path}"
    listed = json.loads(_printed(capsys, "backup-list", "--format", "json", url, "main"))["backups_list"]
    full = listed[0]["backup_id"]
    for line, (name, *words) in {
        f"{url}: the bucket is there: ": ("backup-list", "--test", url, "main"),
        f"{url}: the bucket is there, and the WAL archive of new is safe to use: ": ("check-wal-archive", url, "new"),
        f"backup {full} is kept (full): ": ("backup-keep", "--target", "full", url, "main", full),
        f"backup {full} is not kept any more: ": ("backup-keep", "--release", url, "main", full),
        f"{tmp_path}/page.html: a page of 1 server, ": ("report", "--html", f"{tmp_path}/page.html", url, "main"),
    }.items():
        assert main(load(name), ["-v", *words]) == 0
        captured = capsys.readouterr()
        assert captured.out == ""
        assert line in captured.err


def _printed(capsys: pytest.CaptureFixture[str], name: str, *words: str) -> str:
    assert main(load(name), list(words)) == 0
    return capsys.readouterr().out
