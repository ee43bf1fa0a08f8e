"""Naming the servers that are there."""

from __future__ import annotations

import pytest

from barman_cloud.catalog.servers import existing_servers, hint_at_servers
from barman_cloud.errors import AccessDeniedError
from tests.unit.catalog.builders import memory_store


def test_folders_with_backups_or_wal_are_servers() -> None:
    store = memory_store()
    for key in (
        "prod/b/base/1/backup.info",
        "prod/a/wals/x/y",
        "prod/photos/1.jpg",
        "prod/file",
        "c/base/1/backup.info",
    ):
        store.put(key, b"x")
    assert existing_servers(store, "prod") == ("a", "b")
    assert existing_servers(store, "") == ("c",)
    assert existing_servers(store, "nothing") == ()


def test_the_hint() -> None:
    store = memory_store()
    assert hint_at_servers(store, "", "a") == "there is no server below this URL: look at the path of the URL"
    store.put("a/base/1/backup.info", b"x")
    assert hint_at_servers(store, "", "a") is None
    assert hint_at_servers(store, "", "b") == "there is no server 'b' below this URL, but: a"


def test_a_store_that_refuses_has_none_to_tell_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_prefix: str) -> None:
        raise AccessDeniedError("no")

    store = memory_store()
    monkeypatch.setattr(store, "list_level", refuse)
    assert hint_at_servers(store, "", "a") is None


def test_not_every_folder_of_a_large_bucket_is_looked_into() -> None:
    store = memory_store()
    for number in range(100):
        store.put(f"{number:03}/base/1/backup.info", b"x")
    store.requests.counts.clear()
    assert len(existing_servers(store, "")) == 20
    assert store.requests.counts["list"] <= 21
