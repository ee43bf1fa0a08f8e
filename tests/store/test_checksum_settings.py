"""Checksums that requests carry, and answers that are validated."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from barman_cloud.errors import IntegrityError, StoreError
from barman_cloud.store.base import ObjectStore
from tests.store.cases import StoreCase
from tests.store.scoped import key_in_bucket
from tests.support.fault_proxy import Fault, FaultProxy

MIB = 1 << 20


def stream(store: ObjectStore, key: str, **arguments: object) -> None:
    store.put_stream(key, iter([os.urandom(6 * MIB)]), part_size=5 * MIB, **arguments)  # type: ignore[arg-type]


# Checksums ------------------------------------------------------------------------------------------------------------


def checksummed(proxy: FaultProxy) -> list[bool]:
    return [any(name.startswith("x-amz-checksum") for name in r.headers) for r in proxy.requests("PUT")]


WHEN_SUPPORTED = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported"}
WHEN_REQUIRED = {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_required"}


@pytest.mark.parametrize(("environ", "sent"), [({}, False), (WHEN_REQUIRED, False), (WHEN_SUPPORTED, True)])
def test_checksums_to_a_compatible_store(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, environ: dict[str, str], sent: bool
) -> None:
    store = open_s3(environ=environ)
    store.put("one", b"x")
    stream(store, "many")
    assert store.get("one") == b"x"
    assert set(checksummed(s3_proxy)) == {sent}


def refuse_checksums(proxy: FaultProxy, status: int = 501, code: str = "NotImplemented") -> None:
    """Let the store behind the proxy be one that rejects every request with a checksum header."""
    body = f"<Error><Code>{code}</Code><Message>A header you provided is not implemented.</Message></Error>".encode()

    def has_checksum(seen: object) -> bool:
        return any(name.startswith("x-amz-checksum") for name in seen.headers)  # type: ignore[attr-defined]

    proxy.add(Fault(status=status, body=body, times=1000, only_if=has_checksum))


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidRequest")])
def test_a_store_that_rejects_checksums(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, status: int, code: str
) -> None:
    refuse_checksums(s3_proxy, status, code)
    store = open_s3(environ=WHEN_SUPPORTED)
    store.put("one", b"x")
    store.put("two", b"x")
    stream(store, "many")
    assert store.get("two") == b"x"
    assert checksummed(s3_proxy) == [True] + [False] * 4
    other = open_s3(environ=WHEN_SUPPORTED)
    s3_proxy.seen.clear()
    other.put("one", b"x")
    assert checksummed(s3_proxy) == [False], "learned once, for the process"


def test_a_store_that_rejects_checksums_on_parts(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    """A stream can't be sent again, so it is found out before the stream begins, and nothing of the probe stays."""
    refuse_checksums(s3_proxy)
    store = open_s3(environ=WHEN_SUPPORTED)
    stream(store, "many")
    assert store.head("many").size == 6 * MIB
    assert [info.key for info in store.list("")] == ["many"]


def test_a_bucket_that_demands_checksums(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    """S3 does so for buckets with a default retention."""
    store = open_s3(environ=WHEN_REQUIRED)
    body = (
        b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is required"
        b" for Put Object requests with Object Lock parameters</Message></Error>"
    )

    def lacks_checksum(seen: object) -> bool:
        return not any(name.startswith("x-amz-checksum") for name in seen.headers)  # type: ignore[attr-defined]

    s3_proxy.add(Fault("PUT", "one", status=400, body=body, times=1000, only_if=lacks_checksum))
    store.put("one", b"x")
    assert store.get("one") == b"x"


def test_an_unrelated_refusal_is_not_hidden(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    store = open_s3(environ=WHEN_SUPPORTED)
    body = b"<Error><Code>EntityTooLarge</Code><Message>too large</Message></Error>"
    s3_proxy.add(Fault("PUT", "one", status=400, body=body, times=1000))
    with pytest.raises(StoreError, match="EntityTooLarge"):
        store.put("one", b"x")


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32"])
def test_answers_are_validated_when_asked(
    open_s3: Callable[..., ObjectStore], s3: StoreCase, s3_proxy: FaultProxy, algorithm: str
) -> None:
    if algorithm not in (s3.answers.checksums or ()) and s3.name == "given":
        pytest.skip(f"this server doesn't keep {algorithm}")
    store = open_s3(environ={"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported"})
    key = key_in_bucket(store, "k")
    s3.boto().put_object(Bucket=store.url.bucket, Key=key, Body=b"content", ChecksumAlgorithm=algorithm)
    assert store.get("k") == b"content"
    (asked,) = s3_proxy.requests("GET", "/k")
    assert asked.headers["x-amz-checksum-mode"] == "ENABLED"
    s3_proxy.add(
        Fault(
            "GET", "/k", status=200, headers={"etag": '"e"', f"x-amz-checksum-{algorithm}": "AAAAAA=="}, body=b"content"
        )
    )
    with pytest.raises(IntegrityError, match="another checksum"):
        store.get("k")


def test_checksums_of_parts_and_none_at_all_are_not_compared(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy
) -> None:
    store = open_s3(environ={"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported"})
    for headers in ({}, {"x-amz-checksum-sha256": "AAAA-3"}, {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}):
        s3_proxy.add(Fault("GET", "/k", status=200, headers={"etag": '"e"', **headers}, body=b"content"))
        assert store.get("k") == b"content"
