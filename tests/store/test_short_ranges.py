"""Ranges that are well formed and not what was asked for: never taken for the content."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from barman_cloud.errors import ObjectChangedError, StoreError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.store.scoped import plain
from tests.support.fault_proxy import Answer, Fault, FaultProxy, fault_proxy
from tests.support.servers import StoreServer

MIB = 1 << 20
CONTENT = os.urandom(3 * MIB + 5)


@pytest.fixture(scope="module")
def proxy(moto: StoreServer) -> Iterator[FaultProxy]:
    with fault_proxy(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
def store(moto: StoreServer, proxy: FaultProxy) -> Iterator[ObjectStore]:
    proxy.clear()
    store = open_store(moto.new_bucket(), None, StoreOptions(endpoint_url=proxy.endpoint), moto.environ)
    with store:
        store.put("k", CONTENT)
        yield store
    proxy.clear()


def cut(answer: Answer) -> Answer:
    """Fewer bytes than were asked for, and than Content-Range says; Content-Length agrees with them."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def shorter(answer: Answer) -> Answer:
    """Fewer bytes than were asked for; Content-Range and Content-Length agree with them."""
    body = answer.body[: len(answer.body) // 2]

    def told(header: tuple[str, str]) -> tuple[str, str]:
        name, value = header
        if name.lower() == "content-range":
            value = re.sub(r"bytes (\d+)-\d+/", lambda m: f"bytes {m[1]}-{int(m[1]) + len(body) - 1}/", value)
        return name, value

    return replace(answer, headers=tuple(map(told, answer.headers)), body=body)


@pytest.mark.parametrize("which", [0, 1, 3])
@pytest.mark.parametrize("change", [cut, shorter])
@pytest.mark.parametrize("own_interface", [False, True])
def test_a_shorter_partial_answer_is_no_content(
    store: ObjectStore, proxy: FaultProxy, change: Callable[[Answer], Answer], which: int, own_interface: bool
) -> None:
    plain(store).partial_answers = not own_interface
    seen = iter(range(100))
    proxy.add(Fault("GET", "/k", times=100, change=change, only_if=lambda _request: next(seen) == which))
    received = b""
    with pytest.raises(StoreError, match=r"another range|Requested \d+\.\.\d+, got"):
        for chunk in store.read("k", range_size=MIB, concurrency=1):
            received += chunk
    assert CONTENT.startswith(received)


def test_a_range_of_another_version_is_no_content(store: ObjectStore, proxy: FaultProxy) -> None:
    """A store that overlooks If-Match, as some do."""

    def other_version(answer: Answer) -> Answer:
        etag = tuple(
            (n, '"0123456789abcdef0123456789abcdef"') if n.lower() == "etag" else (n, v) for n, v in answer.headers
        )
        return replace(answer, headers=etag)

    chunks = store.read("k", range_size=MIB, concurrency=1)
    received = bytes(next(chunks))
    proxy.add(Fault("GET", "/k", times=100, change=other_version))
    with pytest.raises(ObjectChangedError):
        received += b"".join(map(bytes, chunks))
    assert CONTENT.startswith(received)
