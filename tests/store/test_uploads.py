"""Uploads that nobody finishes: found, measured and dropped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.errors import BarmanCloudError, ObjectNotFoundError
from barman_cloud.store.base import ObjectStore, PendingUpload
from tests.store.cases import StoreCase, limit_tries
from tests.support.ports import wait_for

MIB = 1 << 20
KEY = "main/base/20260101T000000/data with a blank+.tar"
SILENT = ("memory",)
"""Stores that have nothing unfinished to tell of."""


def test_an_unfinished_upload_is_listed_and_dropped(store: ObjectStore, case: StoreCase) -> None:
    if case.name in SILENT:
        assert list(store.list_uploads("")) == []
        assert store.abort_upload(PendingUpload(KEY, "1", None))
        return
    limit_tries(store)  # some servers take a part of an upload that is gone for a reason to try again
    found: list[PendingUpload] = []

    def all_is_stored() -> bool:
        found[:] = store.list_uploads("main/", sizes=True)
        return len(found) == 1 and found[0].size == 12 * MIB

    def chunks() -> Iterator[bytes]:
        yield os.urandom(12 * MIB)
        wait_for(all_is_stored)
        assert list(store.list("")) == []  # no object yet
        assert list(store.list_uploads("main/other")) == []
        assert store.abort_upload(found[0])
        assert list(store.list_uploads("main/")) == []
        yield os.urandom(MIB)

    with pytest.raises(BarmanCloudError):
        store.put_stream(KEY, chunks(), part_size=6 * MIB)
    upload = found[0]
    assert upload.key == KEY or (case.name == "local" and upload.key.startswith(KEY.rpartition("/")[0]))
    if upload.began is not None and case.name != "moto":  # which tells always the same time
        assert abs(datetime.now(UTC) - upload.began) < timedelta(minutes=5)
    assert store.abort_upload(upload)  # once more
    with pytest.raises(ObjectNotFoundError):
        store.head(KEY)
    assert [item.key for item in store.list("")] == []


def test_what_is_stored_is_no_unfinished_upload(store: ObjectStore) -> None:
    store.put("main/empty", b"")
    store.put("main/one", b"1")
    store.put_stream("main/parts", iter([bytes(12 * MIB)]), part_size=5 * MIB)
    assert list(store.list_uploads("main/", sizes=True)) == []
    assert [item.size for item in store.list("main/")] == [0, 1, 12 * MIB]
