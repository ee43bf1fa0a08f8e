"""The wrapper of ``-vv``: it changes nothing and says everything."""

from __future__ import annotations

import logging

import pytest

from barman_cloud.errors import ObjectNotFoundError
from barman_cloud.store.base import Listing
from barman_cloud.store.traced import TracedStore
from barman_cloud.store.url import parse_url
from tests.support.memory_store import MemoryStore


def test_every_call_has_its_line_and_its_usual_result(caplog: pytest.LogCaptureFixture) -> None:
    inner = MemoryStore(parse_url("memory://b/p", None))
    store = TracedStore(inner)
    with caplog.at_level(logging.DEBUG, "barman_cloud"):
        store.put("a", b"123", tags={"k": "v"})
        assert inner.tags("a") == {"k": "v"}
        assert store.put_stream("b/c", [b"12", b"3456"]) == 6
        assert store.get("a", limit=3) == b"123"
        assert b"".join(bytes(chunk) for chunk in store.read("b/c", start=2, end=5)) == b"345"
        assert store.head("a").size == 3
        assert [info.key for info in store.list("")] == ["a", "b/c"]
        assert store.list_level("") == Listing(("b/",), (inner.head("a"),))
        store.delete(iter(["a", "b/c"]))
        with pytest.raises(ObjectNotFoundError):
            store.get("a")
        store.check()
    assert store.object_url("a") == inner.object_url("a")
    lines = [record.message.rpartition(",")[0] for record in caplog.records]
    assert lines == [
        "put a: 3 bytes",
        "put_stream b/c: 6 bytes",
        "get a: 3 bytes",
        "read b/c: 3 bytes from 2 on",
        "head a: 3 bytes",
        "list -: 2 objects",
        "list_level -: 1 objects, 1 folders",
        "delete -: 2 objects, the last one b/c",
        "get a, ObjectNotFoundError",
        "check -",
    ]
