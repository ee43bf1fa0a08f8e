"""get, read and head."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.errors import ObjectChangedError, ObjectNotFoundError, ObjectTooLargeError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.cloud import CloudStore
from tests.store.cases import StoreCase
from tests.store.scoped import plain
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest

MIB = 1 << 20


@pytest.fixture
def content(store: ObjectStore) -> bytes:
    data = os.urandom(5 * MIB + 17)
    store.put("big", data)
    return data


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("range_size", [MIB, 8 * MIB])
def test_read_everything_in_order(store: ObjectStore, content: bytes, concurrency: int, range_size: int) -> None:
    chunks = list(store.read("big", concurrency=concurrency, range_size=range_size))
    assert b"".join(chunks) == content
    assert all(len(chunk) <= range_size + MIB for chunk in chunks)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, 1),
        (0, 10),
        (7, 7),
        (3, 2 * MIB + 5),
        (5 * MIB, None),
        (5 * MIB + 16, 6 * MIB),
        (5 * MIB + 17, None),
        (9 * MIB, None),
    ],
)
def test_read_a_range(store: ObjectStore, content: bytes, start: int, end: int | None) -> None:
    assert b"".join(store.read("big", start=start, end=end, range_size=MIB)) == content[start:end]


def test_an_object_above_the_limit_is_refused_by_name_and_one_at_the_limit_is_read(store: ObjectStore) -> None:
    store.put("some/small", b"0123456789")
    assert store.get("some/small", limit=10) == b"0123456789"
    assert bytes(store.get_buffer("some/small", limit=11)) == b"0123456789"
    for ask in (store.get, store.get_buffer):
        with pytest.raises(ObjectTooLargeError, match=r"some/small has 10 bytes.* more than 9"):
            ask("some/small", limit=9)
    store.put("some/empty", b"")
    assert store.get("some/empty", limit=0) == b""
    with pytest.raises(ObjectNotFoundError):
        store.get("some/missing", limit=9)


def test_a_limit_holds_for_keys_that_need_the_providers_own_interface(case: StoreCase, tmp_path: Path) -> None:
    if "a//b" in case.answers.changed_keys:
        pytest.skip("this server keeps objects as files, or has no keys with a double slash")
    with case.open(case.new_url(tmp_path)) as store:
        store.put("a//b", b"0123456789")
        assert store.get("a//b", limit=10) == b"0123456789"
        with pytest.raises(ObjectTooLargeError):
            store.get("a//b", limit=9)


def test_head_tells_size_etag_and_time(store: ObjectStore, content: bytes) -> None:
    info = store.head("big")
    assert (info.key, info.size) == ("big", len(content))
    assert info.etag
    assert info.last_modified is not None
    assert abs(datetime.now(UTC) - info.last_modified) < timedelta(minutes=5)


def test_missing_key(store: ObjectStore) -> None:
    for ask in (store.get, store.head, lambda key: list(store.read(key)), lambda key: list(store.read(key, start=5))):
        with pytest.raises(ObjectNotFoundError, match="no/such/key doesn't exist"):
            ask("no/such/key")


def test_read_with_a_stale_etag(store: ObjectStore, content: bytes) -> None:
    etag = store.head("big").etag
    assert b"".join(store.read("big", etag=etag)) == content
    time.sleep(0.01)
    store.put("big", b"something else" * 100_000)
    with pytest.raises(ObjectChangedError):
        list(store.read("big", etag=etag))


def test_an_object_that_changes_under_the_reader(store: ObjectStore, content: bytes) -> None:
    reader = store.read("big", range_size=MIB, concurrency=1)
    next(reader)
    time.sleep(0.01)
    store.put("big", bytes(len(content)))
    with pytest.raises(ObjectChangedError):
        list(reader)


def test_a_reader_may_stop_early(store: ObjectStore, content: bytes) -> None:
    reader = store.read("big", range_size=MIB // 2)
    assert bytes(next(reader)) == content[: MIB // 2]
    reader.close()  # type: ignore[attr-defined]


class TestOneConnection:
    """What follows the first range comes in one answer, from stores whose partial answers obstore doesn't take."""

    @pytest.fixture
    def data(self) -> bytes:
        return os.urandom(9 * MIB + 17)

    @pytest.fixture
    def proxy(self, cloud: StoreCase) -> Iterator[FaultProxy]:
        with cloud.proxied() as proxy:
            yield proxy

    @pytest.fixture
    def reader(self, cloud: StoreCase, proxy: FaultProxy, data: bytes, tmp_path: Path) -> Iterator[CloudStore]:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        assert isinstance(plain(store), CloudStore)
        with store:
            store.put("k", data)
            plain(store).partial_answers = False
            yield store

    def test_all_bytes_in_order(self, reader: CloudStore, proxy: FaultProxy, data: bytes) -> None:
        assert b"".join(reader.read("k", range_size=MIB)) == data
        assert _is_whole(proxy.requests("GET")[1])
        assert b"".join(reader.read("k", start=7, end=8 * MIB + 3, range_size=MIB)) == data[7 : 8 * MIB + 3]

    @pytest.mark.parametrize("cut", [0, MIB // 2, 5 * MIB + 1])
    def test_a_cut_connection_goes_on_by_ranges(
        self, reader: CloudStore, proxy: FaultProxy, data: bytes, cut: int
    ) -> None:
        fault = proxy.add(Fault("GET", "k", cut=cut, only_if=_is_whole))
        assert b"".join(reader.read("k", range_size=MIB)) == data
        assert fault.times == 0
        assert not _is_whole(proxy.requests("GET")[-1])

    def test_an_object_that_changed_meanwhile(self, reader: CloudStore, data: bytes) -> None:
        chunks = reader.read("k", range_size=MIB)
        next(chunks)
        time.sleep(0.01)
        reader.put("k", bytes(len(data)))
        with pytest.raises(ObjectChangedError):
            list(chunks)

    def test_closing_ends_the_transfer(self, reader: CloudStore) -> None:
        chunks = reader.read("k", range_size=MIB)
        next(chunks)
        next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert reader.head("k").size == 9 * MIB + 17


def _is_whole(request: SeenRequest) -> bool:
    return request.method == "GET" and "range" not in request.headers and "x-ms-range" not in request.headers
