"""The backup.info codec, against files that Barman wrote."""

from __future__ import annotations

import gc
import json
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import (
    DONE,
    STORED_KEYS,
    BackupInfo,
    Snapshot,
    SnapshotsInfo,
    Tablespace,
    UnknownKeyError,
    UnreadableBackupInfoError,
    dump,
    parse,
    to_json_dict,
)

GOLDEN = Path(__file__).parents[2] / "golden"
FILES = sorted((GOLDEN / "backup-info").glob("*.info"))
ID = "20261122T121102"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_barman_wrote_is_written_back_byte_for_byte(path: Path) -> None:
    text = path.read_text("utf-8")
    assert dump(parse(text, ID)) == text


def test_fields_have_their_types() -> None:
    info = parse((GOLDEN / "backup-info/done-gzip-name-tags.info").read_text(), ID)
    assert info.backup_id == ID
    assert info.backup_name == "nightly-1"
    assert info.backup_label is not None
    assert info.backup_label.startswith("START WAL LOCATION: 0/5000028 (file 000000010000000000000005)\nCHECKPOINT")
    assert info.end_time == datetime(2026, 11, 22, 12, 11, 40, 918700, UTC)
    assert info.tablespaces == [Tablespace("ts_fast", 16384, "/srv/pg/ts1")]
    assert (info.timeline, info.version, info.cluster_size) == (1, 180006, 26766433)
    assert info.systemid == "7710966728863891090"
    assert info.is_complete


def test_a_time_keeps_its_own_offset() -> None:
    info = parse((GOLDEN / "backup-info/done-other-timezone.info").read_text(), ID)
    assert info.begin_time is not None
    assert info.begin_time.utcoffset() == timedelta(hours=-5)


@pytest.mark.parametrize(
    ("name", "identifiers"),
    [
        ("aws", ("snap-4cf188cd1ed180385", "snap-4c8efc07ef2d06646")),
        ("azure-constructed", ("disk0-20261122t123131",)),
        ("gcp-constructed", ("disk0-20261122t123131",)),
    ],
)
def test_snapshots_of_each_provider(name: str, identifiers: tuple[str, ...]) -> None:
    info = parse((GOLDEN / f"backup-info/snapshot-{name}.info").read_text(), ID)
    assert info.snapshots_info is not None
    assert info.snapshots_info.identifiers == identifiers
    assert info.snapshots_info.snapshots[0].mount_point == "/srv/pg/data"


def test_missing_keys_of_snapshots_are_null() -> None:
    text = "snapshots_info={'provider': 'gcp', 'provider_info': {}, 'snapshots': [{'mount': {}, 'provider': {}}]}"
    info = parse(f"status=DONE\n{text}", ID)
    assert info.snapshots_info == SnapshotsInfo(
        "gcp",
        {"project": None},
        (Snapshot(None, None, {"device_name": None, "snapshot_name": None, "snapshot_project": None}),),
    )


@pytest.mark.parametrize(
    "text", ["", "\n \n", "# a comment\n", "begin_wal=000000010000000000000001\n", "status=None\n"]
)
def test_a_file_without_a_status_is_unreadable(text: str) -> None:
    """It would be a backup that is EMPTY, whose archives and WAL are cleaned up."""
    with pytest.raises(UnreadableBackupInfoError, match=f"backup.info of {ID}: (empty|no status in it)"):
        parse(text, ID)
    info = parse(f"{text}status=EMPTY\n".replace("status=None\n", ""), ID)
    assert (info.status, info.xlog_segment_size, info.backup_id) == ("EMPTY", 16777216, ID)


def test_comments_blanks_and_two_foreign_keys_are_skipped() -> None:
    info = parse("# note=1\n\n   \nbackup_id=x\n backup_version = 2 \n status = DONE \n", ID)
    assert info == BackupInfo(ID, status=DONE)


def test_the_value_is_split_at_the_first_equals_sign() -> None:
    assert parse("error=a=b=c\nstatus=FAILED", ID).error == "a=b=c"


def test_children_are_a_comma_separated_list() -> None:
    info = parse("children_backup_ids=20260101T000000,20260102T000000\nstatus=DONE", ID)
    assert info.children_backup_ids == ["20260101T000000", "20260102T000000"]
    assert "children_backup_ids=20260101T000000,20260102T000000\n" in dump(info)
    assert to_json_dict(info)["children_backup_ids"] == "20260101T000000,20260102T000000"


def test_an_unknown_key_is_refused_with_exit_code_1() -> None:
    with pytest.raises(UnknownKeyError, match="line 2: unknown key 'colour'") as caught:
        parse("status=DONE\ncolour=red\n", ID)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "line",
    [
        "no equals sign",
        "timeline=one",
        "begin_time=yesterday-ish",
        "copy_stats={",
        "copy_stats=[1]",
        "included_files=__import__('os')",
        "tablespaces=[('a',)]",
        "tablespaces=5",
        "backup_label=bare text",
        "snapshots_info={'provider': 'foo', 'provider_info': {}, 'snapshots': []}",
        "snapshots_info={'provider': 'aws'}",
        "copy_stats=" + "(" * 500,
    ],
)
def test_a_value_that_does_not_parse_makes_the_file_unreadable(line: str) -> None:
    with pytest.raises(UnreadableBackupInfoError, match=f"backup.info of {ID}, line 1") as caught:
        parse(line, ID)
    assert caught.value.exit_code == 4


def test_no_value_can_break_a_line() -> None:
    text = dump(BackupInfo(ID, status="FAILED", error="failure\r\nuploading\ndata=x", backup_label="a\nb\r"))
    assert "error=failure uploading data=x\n" in text
    assert parse(text, ID).backup_label == "a\nb\r"


@pytest.mark.parametrize(
    ("source", "golden"),
    [
        ("done-gzip-name-tags", "backup-show-done.json"),
        ("failed-interrupted-after-stop", "backup-show-failed.json"),
        ("snapshot-aws", "backup-show-snapshot-aws.json"),
    ],
)
def test_json_is_barmans_but_for_the_end_of_what_is_not_done(source: str, golden: str) -> None:
    ((_, expected),) = json.loads((GOLDEN / "console" / golden).read_text()).items()
    info = parse((GOLDEN / f"backup-info/{source}.info").read_text(), expected["backup_id"])
    if info.status != DONE:
        del expected["end_time_iso"]
        expected["end_time"] = None
    assert list(to_json_dict(info).items()) == list(expected.items())


@pytest.mark.parametrize("status", ["FAILED", "STARTED", "WAITING_FOR_WALS", "EMPTY", "SYNCING"])
def test_json_has_no_end_time_unless_done(status: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    data = to_json_dict(BackupInfo(ID, status=status, begin_time=now, end_time=now))
    assert data["end_time"] is None
    assert "end_time_iso" not in data
    assert data["begin_time_iso"] == "2026-01-01T00:00:00+00:00"


_words = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1).filter(
    lambda text: text == text.strip() and text != "None"
)
_tablespaces = st.builds(Tablespace, st.text(), st.integers(0, (1 << 63) - 1), st.text())
_times = st.datetimes(
    datetime(1990, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@settings(deadline=None)
@given(
    st.builds(
        BackupInfo,
        backup_id=st.just(ID),
        backup_label=st.none() | st.text(st.characters(codec="utf-8")),
        backup_name=st.none() | _words,
        begin_time=st.none() | _times,
        end_time=st.none() | _times,
        cluster_size=st.none() | st.integers(0, (1 << 63) - 1),
        error=st.none() | _words,
        included_files=st.none() | st.lists(st.text(st.characters(codec="utf-8"))),
        tablespaces=st.none() | st.lists(_tablespaces, min_size=1),
        status=st.sampled_from(["DONE", "FAILED", "STARTED", "EMPTY"]),
    )
)
def test_what_is_written_is_read_back(info: BackupInfo) -> None:
    assert parse(dump(info), ID) == info


def test_keys_are_those_of_the_format_and_ascending() -> None:
    assert list(STORED_KEYS) == sorted(STORED_KEYS)
    assert set(STORED_KEYS) == set(backup_info._CODECS)
    assert len(STORED_KEYS) == 35


def test_many_threads_at_once() -> None:
    """Catalogs are read by many threads, and garbage collections make them take turns inside Python's parser."""
    text = backup_info.dump(
        BackupInfo("20260101T000000", tablespaces=[Tablespace(f"space{n}", 16384 + n, f"/srv/{n}") for n in range(60)])
    )
    problems: list[SystemError] = []

    def work() -> None:
        try:
            for _ in range(30):
                backup_info.parse(text, "20260101T000000")
        except SystemError as error:
            problems.append(error)

    def take_turns(_phase: str, _info: dict[str, Any]) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(take_turns)
    gc.set_threshold(20)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(take_turns)
    assert not problems
