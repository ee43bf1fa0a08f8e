"""Links between backups of a chain: written while others write and delete, and followed."""

from __future__ import annotations

import json
import logging

import pytest

from barman_cloud.catalog.backup_info import BEGUN, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.lineage import Kinship, adopt, kinship_of
from barman_cloud.catalog.selection import resolve_parent
from barman_cloud.cli import backup_list, backup_show
from barman_cloud.errors import AccessDeniedError, NotFoundError, OperationError, SelectionError
from barman_cloud.store.base import Tags
from tests.unit.catalog.builders import backup, fill, memory_catalog, run, segment, where

FULL, FIRST, SECOND = "20260101T000000", "20260102T000000", "20260103T000000"


@pytest.fixture
def catalog() -> Catalog:
    """A full backup, an increment on it and one on that; the links of the parents are not written."""
    return fill(
        memory_catalog("main"),
        [
            backup(FULL, segment(1), backup_name="base"),
            backup(FIRST, segment(2), parent_backup_id=FULL),
            backup(SECOND, segment(3), parent_backup_id=FIRST),
        ],
    )


def test_children_are_added_to_the_parent(catalog: Catalog) -> None:
    before = catalog.load_one(FULL)
    adopt(catalog, FULL, SECOND)
    adopt(catalog, FULL, FIRST)
    adopt(catalog, FULL, FIRST)
    after = catalog.load_one(FULL)
    assert after.children_backup_ids == [FIRST, SECOND]
    after.children_backup_ids = None
    assert after == before


def test_a_child_that_another_program_overwrites_is_added_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, others = Catalog.save, [[SECOND], None]

    def save_and_lose(self: Catalog, info: BackupInfo, tags: Tags | None = None) -> None:
        save(self, info, tags)
        if others:
            info.children_backup_ids = others.pop()
            save(self, info, tags)

    monkeypatch.setattr(Catalog, "save", save_and_lose)
    adopt(catalog, FULL, FIRST)
    assert catalog.load_one(FULL).children_backup_ids == [FIRST, SECOND]


def test_a_parent_that_is_gone_or_being_deleted_is_not_written(catalog: Catalog) -> None:
    DeletionMark(catalog, FIRST).announce()
    marked = catalog.read_info(FIRST)
    for parent in (FIRST, "20250101T000000"):
        with pytest.raises(OperationError, match=f"parent {parent} was deleted") as raised:
            adopt(catalog, parent, SECOND)
        assert raised.value.hint
    assert catalog.read_info(FIRST) == marked
    with pytest.raises(NotFoundError):
        catalog.load_one("20250101T000000")


def test_a_deletion_that_begins_meanwhile_is_not_undone(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Catalog.save

    def deleted_before(self: Catalog, info: BackupInfo, tags: Tags | None = None) -> None:
        mark = DeletionMark(self, info.backup_id)
        mark.announce()
        mark.begin()
        self.store.delete([self.layout.archive(info.backup_id, "data")])
        save(self, info, tags)

    monkeypatch.setattr(Catalog, "save", deleted_before)
    with pytest.raises(OperationError, match="was deleted while"):
        adopt(catalog, FULL, FIRST)
    assert catalog.load_one(FULL).deletion == BEGUN


def test_credentials_that_may_not_replace_the_parent_leave_the_link_of_the_child(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise AccessDeniedError("no")

    monkeypatch.setattr(Catalog, "save", refuse)
    adopt(catalog, FULL, FIRST)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_kinship(catalog: Catalog) -> None:
    backups = catalog.load().backups
    assert kinship_of(backups, SECOND) == Kinship(FULL, FIRST, (), (FULL, FIRST, SECOND), False, "incremental")
    assert kinship_of(backups, FULL) == Kinship(FULL, None, (FIRST,), (FULL,), False, "full")
    del backups[FULL]
    assert kinship_of(backups, SECOND) == Kinship(FIRST, FIRST, (), (FIRST, SECOND), True, "incremental")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("last", SECOND), ("latest", SECOND), ("last-full", FULL), ("latest-full", FULL), ("base", FULL), (FIRST, FIRST)],
)
def test_words_for_a_parent(catalog: Catalog, text: str, expected: str) -> None:
    assert resolve_parent(text, catalog).backup_id == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nobody", "no backup is named 'nobody'"),
        ("first", "'first' can't be a parent"),
        ("auto", "'auto' can't be a parent"),
        ("20260104T000000", "20260104T000000 can't be a parent: it is FAILED"),
        ("broken", "20260104T000000 can't be a parent: it is FAILED"),
    ],
)
def test_words_that_are_no_parent(catalog: Catalog, text: str, words: str) -> None:
    fill(catalog, [backup("20260104T000000", segment(4), "FAILED", backup_name="broken")])
    with pytest.raises(SelectionError, match=words) as raised:
        resolve_parent(text, catalog)
    assert raised.value.hint


def test_the_umbrella_lists_and_shows_chains(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    run(backup_list, catalog, *where(catalog), is_umbrella=True)
    rows = capsys.readouterr().out.splitlines()
    assert {"Type", "Parent"} <= set(rows[0].split())
    assert "full" in rows[1].split()
    for row, parent in zip(rows[2:], (FULL, FIRST), strict=True):
        assert f"incremental  {parent}" in row
    run(backup_show, catalog, *where(catalog), SECOND, is_umbrella=True)
    page = capsys.readouterr().out
    assert f"Needed to restore    : {FULL}, {FIRST}, {SECOND}\n" in page
    run(backup_list, catalog, *where(catalog), "--format", "json", is_umbrella=True)
    entries = json.loads(capsys.readouterr().out)["backups_list"]
    assert [(entry["backup_type"], entry["root_backup_id"]) for entry in entries] == [
        ("full", FULL),
        ("incremental", FULL),
        ("incremental", FULL),
    ]
    catalog.store.delete([catalog.layout.backup_info(FULL)])
    run(backup_show, catalog, *where(catalog), SECOND, "--format", "json", is_umbrella=True)
    shown = json.loads(capsys.readouterr().out)["cloud"]
    assert (shown["chain_backup_ids"], shown["chain_complete"]) == ([FIRST, SECOND], False)


def test_the_nine_programs_say_nothing_of_chains(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    run(backup_show, catalog, *where(catalog), SECOND)
    run(backup_list, catalog, *where(catalog))
    assert "ncremental" not in capsys.readouterr().out
