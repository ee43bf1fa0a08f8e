"""What goes wrong, and what each store says then."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    BucketNotFoundError,
    ConnectivityError,
    NotFoundError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from barman_cloud.store import retry
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.providers import AZURE
from tests.store.cases import StoreCase, remove_bucket
from tests.support.fault_proxy import Fault
from tests.support.ports import free_port

MIB = 1 << 20

REQUESTS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("k", b"x"),
    "create": lambda store: store.put("k", b"x", if_absent=True),
    "put_stream": lambda store: store.put_stream("k", iter([bytes(6 * MIB)]), part_size=5 * MIB),
    "get": lambda store: store.get("k"),
    "read": lambda store: list(store.read("k")),
    "head": lambda store: store.head("k"),
    "list": lambda store: list(store.list("")),
    "list_level": lambda store: store.list_level(""),
    "delete": lambda store: store.delete(["k"]),
    "check": lambda store: store.check(),
}


def assert_presentable(error: BarmanCloudError, case: StoreCase, url: str) -> None:
    """One line that names the object and shows no secret and no dump of a library."""
    text = f"{error} {error.hint}"
    assert "\n" not in text
    assert case.bucket_url(url) in text
    for ugly in ("Debug", "Generic {", "RetryError", "sig=", "AccountKey", *case.secrets):
        assert ugly not in text


@pytest.mark.parametrize("request_kind", REQUESTS)
def test_missing_bucket(case: StoreCase, tmp_path: Path, request_kind: str) -> None:
    if case.provider is not None:
        url = case.missing_bucket()
        store = case.open(url)
    else:
        url = case.new_url(tmp_path)
        store = case.open(url)
        remove_bucket(store)
    unnamed = case.provider is not None and not case.answers.missing_bucket
    if request_kind == "head" or (unnamed and request_kind in ("get", "read", "delete")):
        # Neither an answer without a body, as to a HEAD, nor every server says which of the two is missing.
        with contextlib.suppress(NotFoundError, BucketNotFoundError):
            REQUESTS[request_kind](store)
            assert request_kind == "delete"
        return
    with pytest.raises(BucketNotFoundError) as raised:
        REQUESTS[request_kind](store)
    assert_presentable(raised.value, case, url)
    assert raised.value.hint


@pytest.mark.parametrize("request_kind", REQUESTS)
def test_wrong_credentials(cloud: StoreCase, tmp_path: Path, request_kind: str) -> None:
    if not cloud.answers.credentials:
        pytest.skip("this server doesn't check credentials")
    url = cloud.new_url(tmp_path)
    store = cloud.open(url, environ=cloud.wrong_credentials())
    with pytest.raises(AccessDeniedError) as raised:
        REQUESTS[request_kind](store)
    assert_presentable(raised.value, cloud, url)
    assert raised.value.hint


@pytest.mark.parametrize("request_kind", REQUESTS)
def test_refused_connection(cloud: StoreCase, tmp_path: Path, request_kind: str) -> None:
    if not cloud.endpoint:
        pytest.skip("the address of this store is its own")
    nowhere = f"http://127.0.0.1:{free_port()}"
    store = cloud.open(cloud.new_url(tmp_path), endpoint=nowhere, deadline=Deadline(2.0))
    start = time.monotonic()
    with pytest.raises(ConnectivityError, match="refused") as raised:
        REQUESTS[request_kind](store)
    assert time.monotonic() - start < 18, "not for as long as a store that was never reached is tried without a limit"
    assert raised.value.exit_code == 2
    assert raised.value.hint


@pytest.mark.parametrize("request_kind", REQUESTS)
def test_a_throttling_store_is_asked_again(
    cloud: StoreCase, tmp_path: Path, request_kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "barman_cloud")
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        if request_kind not in ("create", "put", "put_stream"):
            store.put("k", b"x")
        slow_down = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
        fault = proxy.add(Fault(status=503, body=slow_down, times=2))
        REQUESTS[request_kind](store)
        assert fault.times == 0
        if request_kind != "put_stream":
            assert "trying again in" in caplog.text
            # The answer to a HEAD, which a create may begin with, has no body that could say why.
            assert "SlowDown" in caplog.text or request_kind in ("head", "create")


def test_a_store_that_stays_down(cloud: StoreCase, tmp_path: Path) -> None:
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint, deadline=Deadline(4.0))
        proxy.add(Fault(status=503, times=1000))
        for name in ("put", "get", "list", "put_stream"):
            start = time.monotonic()
            with pytest.raises(ConnectivityError, match="503"):
                REQUESTS[name](store)
            assert time.monotonic() - start < 40


def test_pauses_grow(cloud: StoreCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append))
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        proxy.add(Fault(status=503, times=4))
        store.put("k", b"x")
    assert len(pauses) == 4
    for pause, longest in zip(pauses, (0.25, 0.5, 1.0, 2.0), strict=True):
        assert 0.6 * longest <= pause <= longest


@pytest.mark.parametrize("drop", [Fault(drop=True, times=2), Fault(lose_answer=True, times=2)], ids=["dropped", "lost"])
@pytest.mark.parametrize("request_kind", REQUESTS)
def test_lost_connections(cloud: StoreCase, tmp_path: Path, request_kind: str, drop: Fault) -> None:
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        if request_kind not in ("create", "put", "put_stream"):
            store.put("k", b"x")
        method = "PUT" if request_kind == "create" else ""
        fault = proxy.add(Fault(method, drop=drop.drop, lose_answer=drop.lose_answer, times=2))
        if request_kind == "create" and drop.lose_answer:
            # The first try did arrive, and nobody can tell whose object it is: the caller compares.
            with pytest.raises(ObjectExistsError):
                REQUESTS[request_kind](store)
        else:
            REQUESTS[request_kind](store)
        assert fault.times < 2
        if request_kind in ("put", "create"):
            assert store.get("k") == b"x"


def test_the_answer_to_the_end_of_an_upload_gets_lost(cloud: StoreCase, tmp_path: Path) -> None:
    """The repeated request finds no upload any more, but the object is there."""
    data = os.urandom(12 * MIB)
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        completing = ("PUT", "comp=blocklist") if cloud.provider == AZURE else ("POST", "uploadId=")
        fault = proxy.add(Fault(*completing, lose_answer=True))
        assert store.put_stream("k", iter([data]), part_size=5 * MIB) == len(data)
        assert fault.times == 0
        assert store.get("k") == data


@pytest.mark.parametrize("cut", [0, 1, MIB // 2])
def test_a_body_that_is_cut_off(cloud: StoreCase, tmp_path: Path, cut: int) -> None:
    data = os.urandom(4 * MIB)
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        store.put("k", data)
        fault = proxy.add(Fault("GET", "k", cut=cut, times=2))
        assert store.get("k") == data
        assert fault.times == 0
        fault = proxy.add(Fault("GET", "k", cut=cut, times=3))
        assert b"".join(store.read("k", range_size=MIB)) == data
        assert fault.times == 0


def test_a_body_that_is_always_cut_off(cloud: StoreCase, tmp_path: Path) -> None:
    url = cloud.new_url(tmp_path)
    with cloud.proxied() as proxy:
        store = cloud.open(url, endpoint=proxy.endpoint, deadline=Deadline(1))
        with cloud.open(url) as patient:
            patient.put("k", bytes(MIB))
        proxy.add(Fault("GET", "k", cut=1000, times=1000))
        with pytest.raises(ConnectivityError):
            store.get("k")
        with pytest.raises(ConnectivityError):
            list(store.read("k"))


def test_a_part_that_fails_for_good_aborts_the_upload(cloud: StoreCase, tmp_path: Path) -> None:
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        proxy.add(Fault("PUT", "comp=block&" if cloud.provider == AZURE else "partNumber=2", status=403, body=denied))
        with pytest.raises(AccessDeniedError):
            store.put_stream("k", iter([os.urandom(16 * MIB)]), part_size=5 * MIB, concurrency=1)
        with pytest.raises(ObjectNotFoundError):
            store.head("k")
        if cloud.provider != AZURE:  # Azure has no uploads to abort: uncommitted blocks vanish by themselves.
            assert proxy.requests("DELETE", "uploadId=")


def test_attempts_can_be_limited(s3: StoreCase, tmp_path: Path) -> None:
    with s3.proxied() as proxy:
        environ = {**s3.environ, "AWS_MAX_ATTEMPTS": "2"}
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint, environ=environ)
        proxy.add(Fault(status=503, times=1000))
        with pytest.raises(ConnectivityError):
            store.put("k", b"x")
        assert len(proxy.seen) == 2
