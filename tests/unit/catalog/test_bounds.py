"""How much is read, and how long is waited: values that nothing else depends on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.identity import ArchiveIdentity
from barman_cloud.errors import ConflictError
from barman_cloud.store.base import ObjectInfo
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import backup, memory_catalog, segment

ID = "20260101T000000"


def test_a_backup_info_that_is_too_large_is_not_read() -> None:
    catalog = memory_catalog()
    text = backup_info.dump(backup(ID, segment(1)))
    for size, is_read in ((backup_info.MAX_SIZE, True), (backup_info.MAX_SIZE + 1, False)):
        catalog.store.put(catalog.layout.backup_info(ID), (text + "#" * (size - len(text))).encode())
        view = catalog.load()
        assert (ID in view.backups) is is_read
        assert (ID in view.unreadable) is not is_read


@pytest.mark.parametrize(("age", "is_free"), [(timedelta(minutes=59), False), (timedelta(minutes=61), True)])
def test_an_archive_without_content_is_free_after_an_hour(
    age: timedelta, is_free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = memory_catalog()
    ArchiveIdentity(catalog.store, catalog.layout).require(1, "a segment")
    plain = MemoryStore.head

    def head(self: MemoryStore, key: str) -> ObjectInfo:
        return plain(self, key)._replace(last_modified=datetime.now(UTC) - age)

    monkeypatch.setattr(MemoryStore, "head", head)
    if is_free:
        ArchiveIdentity(catalog.store, catalog.layout).require(2, "a segment")
        return
    with pytest.raises(ConflictError):
        ArchiveIdentity(catalog.store, catalog.layout).require(2, "a segment")
