"""Deletions that the store refuses: locked objects, and failures."""

from __future__ import annotations

import logging

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.cli import backup_delete
from barman_cloud.errors import LockedError, UnexpectedError
from barman_cloud.store.base import Capabilities, DeleteFailedError, ObjectLock
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import (
    catalog_a,
    keys,
    run,
    segment,
    where,
)


def delete(catalog: Catalog, *arguments: str) -> int:
    return run(backup_delete, catalog, *arguments, *where(catalog))


def locked(catalog: Catalog, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def object_lock(_self: MemoryStore, key: str) -> ObjectLock | None:
        return ObjectLock(key, "retained until 2030-01-01T00:00:00Z") if key.endswith(name) else None

    monkeypatch.setattr(MemoryStore, "capabilities", Capabilities(prefix_delete=True, object_lock=True))
    monkeypatch.setattr(MemoryStore, "object_lock", object_lock)


@pytest.mark.parametrize("name", ["20260102T000000/16384.tar", "20260102T000000/archives.json"])
def test_one_locked_object_keeps_its_whole_backup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_a()
    catalog.store.put(catalog.layout.archives_json("20260102T000000"), b"{}")
    locked(catalog, name, monkeypatch)
    before = keys(catalog)
    with pytest.raises(LockedError) as caught:
        delete(catalog, "-b", "20260102T000000", "--check-object-lock")
    assert caught.value.exit_code == 1
    assert keys(catalog) == before
    with pytest.raises(LockedError):
        delete(catalog, "-r", "REDUNDANCY 1", "--check-object-lock")
    ids = {key.split("/")[3] for key in keys(catalog) if "/base/" in key}
    assert ids == {"20260102T000000", "20260103T000000", "20260104T000000"}
    assert catalog.layout.wal(segment(1), ".gz") not in keys(catalog), "the WAL of what did go is cleaned all the same"


def test_a_lock_on_backup_info_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_a()
    locked(catalog, "backup.info", monkeypatch)
    assert delete(catalog, "-b", "first", "--check-object-lock") == 0


def test_a_store_without_locks_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert delete(catalog_a(), "-b", "first", "--check-object-lock") == 0
    assert "knows no object locks" in caplog.text


def failing(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plain = MemoryStore.delete

    def delete_some(self: MemoryStore, wanted: list[str], **options: int) -> None:
        wanted = list(wanted)
        plain(self, [key for key in wanted if not key.endswith(names)])
        if failures := {key: "AccessDenied" for key in wanted if key.endswith(names)}:
            raise DeleteFailedError(failures)

    monkeypatch.setattr(MemoryStore, "delete", delete_some)


def test_an_archive_that_can_not_be_deleted_leaves_backup_info(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_a()
    failing(("16384.tar",), monkeypatch)
    with pytest.raises(DeleteFailedError) as caught:
        delete(catalog, "-b", "first")
    assert caught.value.exit_code == 1
    assert catalog.layout.backup_info("20260101T000000") in keys(catalog)


def test_a_wal_file_that_can_not_be_deleted_is_an_error_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = catalog_a()
    failing((f"{segment(3)}.gz",), monkeypatch)
    assert delete(catalog, "-b", "first") == 0
    assert f"{segment(3)}.gz is left behind" in caplog.text


def test_a_folder_of_wal_that_can_not_be_deleted_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    failing((f"{segment(3)}.gz",), monkeypatch)
    with pytest.raises(UnexpectedError) as caught:
        delete(catalog_a(), "-r", "REDUNDANCY 1")
    assert caught.value.exit_code == 4


def test_every_decision_is_told_at_info(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        delete(catalog_a(), "-r", "REDUNDANCY 3", "--dry-run")
    assert "backup 20260101T000000: OBSOLETE, 3 newer backups are enough" in caplog.text
    assert "backup 20260104T000000: VALID, number 1 of 3 to have" in caplog.text
    assert f"WAL before {segment(0x10)}, where backup 20260102T000000 begins" in caplog.text
