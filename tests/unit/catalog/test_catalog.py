"""Loading, saving and looking into backups; keep annotations."""

from __future__ import annotations

import logging
import threading

import pytest

from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import BackupInfo, UnreadableBackupInfoError
from barman_cloud.catalog.catalog import READERS
from barman_cloud.cli import backup_keep
from barman_cloud.errors import NotFoundError, OperationError, SelectionError
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import backup, fill, golden_output, keys, memory_catalog, run, segment, where

A, B = "20260101T000000", "20260102T000000"


def test_what_is_saved_is_loaded_and_ids_ascend() -> None:
    infos = [backup(B, segment(2)), backup(A, segment(1)), BackupInfo("customid", status="DONE")]
    view = fill(memory_catalog(), infos).load()
    assert list(view.backups) == [A, B, "customid"]
    assert view.backups[A] == infos[1]


def test_metadata_is_read_several_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = fill(memory_catalog(), [BackupInfo(f"b{number:03}") for number in range(READERS * 2)])
    together = threading.Barrier(READERS)
    plain = MemoryStore.get

    def get(self: MemoryStore, key: str, *, limit: int | None = None) -> bytes:
        together.wait(timeout=60)
        return plain(self, key, limit=limit)

    monkeypatch.setattr(MemoryStore, "get", get)
    assert len(catalog.load().backups) == READERS * 2


def test_a_backup_that_goes_while_the_catalog_is_read_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = fill(memory_catalog(), [backup(A, segment(1)), backup(B, segment(2))])
    plain = MemoryStore.get

    def get(self: MemoryStore, key: str, *, limit: int | None = None) -> bytes:
        self.delete([catalog.layout.backup_info(A)])
        return plain(self, key, limit=limit)

    monkeypatch.setattr(MemoryStore, "get", get)
    assert set(catalog.load().backups) <= {A, B}


def test_a_missing_backup_names_its_object() -> None:
    with pytest.raises(NotFoundError, match=r"/del/a/base/20260101T000000/backup\.info") as caught:
        memory_catalog().load_one(A)
    assert caught.value.exit_code == 1


def test_bytes_that_are_no_text_are_unreadable() -> None:
    catalog = memory_catalog()
    catalog.store.put(catalog.layout.backup_info(A), b"\xff")
    with pytest.raises(UnreadableBackupInfoError):
        catalog.load_one(A)


def test_an_error_with_bytes_of_a_file_name_can_be_saved() -> None:
    catalog = memory_catalog()
    catalog.save(BackupInfo(A, status="FAILED", error="no such file: \udcff"))
    assert catalog.load_one(A).error == "no such file: \\udcff"


def test_archives_come_in_the_order_of_extraction(caplog: pytest.LogCaptureFixture) -> None:
    names = ["16384.tar", "163840.tar", "999.tar", "data.tar", "data_0001.tar", "data_0002.tar", "data_10000.tar"]
    catalog = fill(memory_catalog(), [backup(A)], archives=[*names, "data.tar.rar", "notes"])
    found = catalog.archives(A)
    assert list(found) == ["data", "999", "16384", "163840"]
    assert [archive.part for archive in found["data"]] == [0, 1, 2, 10000]
    assert "data.tar.rar is ignored" in caplog.text
    assert "notes" not in caplog.text


def test_of_two_forms_of_one_archive_the_last_listed_counts(caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(memory_catalog(), [backup(A)], archives=["data.tar", "data.tar.gz"])
    assert [archive.compression for archive in catalog.archives(A)["data"]] == ["gzip"]
    assert "same part" in caplog.text


@pytest.mark.parametrize("target", ["full", "standalone"])
def test_keep_and_release(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(memory_catalog("main", "prod"), [backup(A, segment(1), backup_name="nightly-1")])
    place = (*where(catalog), "nightly-1")
    assert run(backup_keep, catalog, "--target", target, *place) == 0
    assert catalog.store.get(catalog.layout.keep(A)) == target.encode()
    run(backup_keep, catalog, "-s", *place)
    assert capsys.readouterr().out == f"Keep: {target}\n"
    run(backup_keep, catalog, "-r", *place)
    run(backup_keep, catalog, "--status", *place)
    assert capsys.readouterr().out == "Keep: nokeep\n"


def test_keep_status_prints_the_first_line_of_whatever_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(memory_catalog("kw"), [backup(A, segment(1))], keeps={A: "garbage\n"})
    run(backup_keep, catalog, "-s", *where(catalog), "first")
    golden = golden_output("console/keep-status.txt", "-s s3://backups/del kw first")
    assert capsys.readouterr().out == golden.rstrip("\n") + "\n"
    run(backup_keep, catalog, "-s", *where(catalog), "20200101T000000")
    assert capsys.readouterr().out == "Keep: nokeep\n"


def test_releasing_what_is_not_kept_is_fine() -> None:
    catalog = memory_catalog()
    assert run(backup_keep, catalog, "--release", *where(catalog), "20200101T000000") == 0


def test_release_also_removes_what_a_trailing_slash_put_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(memory_catalog(), [backup(A, segment(1))])
    catalog.store.put(f"del//a/base/{A}/annotations/keep", b"standalone")
    assert keep.read_all(catalog) == {A: "standalone"}
    run(backup_keep, catalog, "--status", *where(catalog), A)
    assert capsys.readouterr().out == "Keep: standalone\n"
    run(backup_keep, catalog, "--release", *where(catalog), A)
    assert not any("keep" in key for key in keys(catalog))


@pytest.mark.parametrize("status", ["STARTED", "FAILED", "WAITING_FOR_WALS"])
def test_only_done_backups_can_be_kept(status: str) -> None:
    catalog = fill(memory_catalog(), [backup(A, segment(1), status)])
    with pytest.raises(OperationError, match=status) as caught:
        run(backup_keep, catalog, "--target", "full", *where(catalog), A)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("name", ["20200101T000000", "nosuch", "last"])
def test_keeping_what_is_not_there_ends_with_4(name: str) -> None:
    catalog = memory_catalog()
    with pytest.raises(SelectionError) as caught:
        run(backup_keep, catalog, "--target", "full", *where(catalog), name)
    assert caught.value.exit_code == 4


def test_the_log_counts_what_was_read(caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(memory_catalog(), [backup(A, segment(1))])
    with caplog.at_level(logging.DEBUG, "barman_cloud"):
        catalog.load()
    assert "1 backup, 0 unreadable" in caplog.text
