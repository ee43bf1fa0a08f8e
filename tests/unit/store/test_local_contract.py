"""What the conformance suite asks of every store, asked of the local directory alone: quick, and without a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.errors import ObjectChangedError, ObjectExistsError, ObjectNotFoundError, ObjectTooLargeError
from barman_cloud.store.base import DeleteFailedError, ObjectStore
from barman_cloud.store.open import open_store

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = open_store(f"file://{tmp_path}")
    store.put("a/k", CONTENT)
    return store


def test_ranges(store: ObjectStore) -> None:
    assert b"".join(store.read("a/k", range_size=1000)) == CONTENT
    assert b"".join(store.read("a/k", start=7, end=5003, range_size=999)) == CONTENT[7:5003]


def test_an_object_that_is_replaced_while_it_is_read(store: ObjectStore) -> None:
    chunks = store.read("a/k", range_size=1000)
    next(chunks)
    store.put("a/k", CONTENT[::-1])
    with pytest.raises(ObjectChangedError):
        list(chunks)


def test_another_version_than_the_one_asked_for(store: ObjectStore) -> None:
    etag = store.head("a/k").etag
    store.put("a/k", CONTENT[::-1])
    with pytest.raises(ObjectChangedError):
        next(store.read("a/k", etag=etag))


def test_a_create_is_conditional(store: ObjectStore) -> None:
    with pytest.raises(ObjectExistsError):
        store.put("a/k", b"other", if_absent=True)
    assert store.get("a/k") == CONTENT


def test_a_limit(store: ObjectStore) -> None:
    assert store.get("a/k", limit=len(CONTENT)) == CONTENT
    with pytest.raises(ObjectTooLargeError):
        store.get("a/k", limit=len(CONTENT) - 1)


@pytest.mark.parametrize(
    "ask", [lambda store: store.head("a"), lambda store: store.get("a"), lambda s: next(s.read("a"))]
)
def test_a_folder_is_no_object(store: ObjectStore, ask: Callable[[ObjectStore], object]) -> None:
    with pytest.raises(ObjectNotFoundError):
        ask(store)


def test_a_listing_goes_on_after_a_key(store: ObjectStore) -> None:
    store.put("a/l", b"x")
    assert [item.key for item in store.list("a/", start_after="a/k")] == ["a/l"]


def test_what_can_not_be_deleted_is_named(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("a/l", b"x")
    plain = os.unlink

    def unlink(path: os.PathLike[str], **options: int) -> None:
        if os.fspath(path).endswith("/k"):
            raise PermissionError(13, "Permission denied")
        plain(path, **options)

    monkeypatch.setattr(os, "unlink", unlink)
    with pytest.raises(DeleteFailedError) as raised:
        store.delete(["a/k", "a/l"])
    assert list(raised.value.failures) == ["a/k"]
    assert [item.key for item in store.list("")] == ["a/k"]
