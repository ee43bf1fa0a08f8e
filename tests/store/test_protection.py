"""Tags, encryption at rest, object locks and checksums: what goes over the wire, and what the stores make of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.integrity import CHECKSUM
from barman_cloud.store.retry import Retry
from barman_cloud.store.s3.behaviour import PROBE
from barman_cloud.store.s3.store import S3Store
from tests.store.cases import PATIENCE, StoreCase
from tests.store.scoped import ScopedStore, key_in_bucket, plain
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest
from tests.support.servers import request

MIB = 1 << 20
TAGS = {"owner": "db team", "path": "a/b=c+d"}


@pytest.fixture
def encrypted_s3(s3: StoreCase) -> StoreCase:
    if not s3.answers.encryption:
        pytest.skip("this server encrypts nothing")
    return s3


def stream(store: ObjectStore, key: str, **arguments: object) -> None:
    store.put_stream(key, iter([os.urandom(6 * MIB)]), part_size=5 * MIB, **arguments)  # type: ignore[arg-type]


# Tags -----------------------------------------------------------------------------------------------------------------


def test_tags_on_s3(open_s3: Callable[..., ObjectStore], s3: StoreCase, s3_proxy: FaultProxy) -> None:
    if not s3.answers.tags:
        pytest.skip("this server keeps no tags")
    store = open_s3()
    store.put("one", b"x", tags=TAGS)
    store.put(_odd_key(s3), b"x", tags=TAGS)
    stream(store, "many", tags=TAGS)
    sent = [r.headers["x-amz-tagging"] for r in s3_proxy.seen if "x-amz-tagging" in r.headers]
    assert [parse_qs(text) for text in sent] == [{name: [value] for name, value in TAGS.items()}] * 3
    for key in ("one", "many"):
        found = s3.boto().get_object_tagging(Bucket=store.url.bucket, Key=key_in_bucket(store, key))
        assert {tag["Key"]: tag["Value"] for tag in found["TagSet"]} == TAGS


def _odd_key(case: StoreCase) -> str:
    """A key that obstore can't name, so that our own requests carry it, or a plain one where the server has none."""
    return "odd//key" if "a//b" not in case.answers.changed_keys else "even/key"


def test_tags_on_azure(azure: StoreCase, tmp_path: Path) -> None:
    with azure.proxied() as proxy:
        store = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint)
        store.put("one", b"x", tags=TAGS)
        stream(store, "many", tags=TAGS)
        sent = [r.headers["x-ms-tags"] for r in proxy.seen if "x-ms-tags" in r.headers]
        assert [parse_qs(text) for text in sent] == [{name: [value] for name, value in TAGS.items()}] * 2
        assert store.get("one") == b"x"


def test_tags_on_google_are_metadata(google: StoreCase, tmp_path: Path) -> None:
    if not google.endpoint:
        pytest.skip("reading metadata past our store takes an emulator, which wants no token")
    store = google.open(google.new_url(tmp_path))
    store.put("one", b"x", tags=TAGS)
    store.put(_odd_key(google), b"x", tags=TAGS)
    stream(store, "many", tags=TAGS)
    for key in ("one", "many"):
        name = quote(key_in_bucket(store, key), safe="")
        _, _, answer = request("GET", f"{google.endpoint}/storage/v1/b/{store.url.bucket}/o/{name}")
        metadata = json.loads(answer)["metadata"]
        assert {name: value for name, value in metadata.items() if name != CHECKSUM} == TAGS


# Encryption at rest ---------------------------------------------------------------------------------------------------


def writes(proxy: FaultProxy) -> list[dict[str, str]]:
    """The headers of single PUTs and of the requests that begin uploads."""
    begins = [r for r in proxy.seen if (r.method == "PUT" and "?" not in r.path) or "uploads" in r.path]
    return [dict(r.headers) for r in begins]


def test_sse_s3_and_kms(open_s3: Callable[..., ObjectStore], encrypted_s3: StoreCase, s3_proxy: FaultProxy) -> None:
    for options, expected in (
        ({"encryption": "AES256"}, ("AES256", None)),
        ({"encryption": "aws:kms"}, ("aws:kms", None)),
        ({"encryption": "aws:kms", "sse_kms_key_id": "key-1"}, ("aws:kms", "key-1")),
    ):
        s3_proxy.clear()
        store = open_s3(**options)
        store.put("one", b"x")
        store.put(_odd_key(encrypted_s3), b"x")
        stream(store, "many")
        found = [
            (h.get("x-amz-server-side-encryption"), h.get("x-amz-server-side-encryption-aws-kms-key-id"))
            for h in writes(s3_proxy)
        ]
        assert found == [expected] * 3


def test_customer_keys_go_with_every_read_and_write(
    open_s3: Callable[..., ObjectStore], s3: StoreCase, s3_proxy: FaultProxy, tmp_path: Path
) -> None:
    if not s3.answers.customer_keys:
        pytest.skip("this server takes no keys of customers on this endpoint")
    key = os.urandom(32)
    file = tmp_path / "key"
    file.write_text(f"  {base64.b64encode(key).decode()}\n")
    store = open_s3(sse_customer_key=f"file://{file}")
    store.put("one", b"x")
    stream(store, "many")
    assert store.get("one") == b"x"
    assert store.head("one").size == 1
    assert sum(len(piece) for piece in store.read("many", range_size=MIB)) == 6 * MIB
    assert store.object_lock("one") is None
    assert s3_proxy.seen
    digest = base64.b64encode(hashlib.md5(key).digest()).decode()
    for seen in s3_proxy.seen:
        if (seen.method == "POST" and "uploadId" in seen.path) or "?object-lock" in seen.path:
            continue  # completing an upload takes no key, and the bucket has none
        assert seen.headers["x-amz-server-side-encryption-customer-algorithm"] == "AES256", seen
        assert seen.headers["x-amz-server-side-encryption-customer-key"] == base64.b64encode(key).decode()
        assert seen.headers["x-amz-server-side-encryption-customer-key-md5"] == digest


def test_encryption_scope_on_azure(azure: StoreCase, tmp_path: Path) -> None:
    """The header must be on every write and on no read, and must not spoil the authorization, which Azurite checks."""
    with azure.proxied() as proxy:
        store = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint, encryption_scope="scope1")
        store.put("one", b"x", tags=TAGS)
        stream(store, "many")
        assert store.get("one") == b"x"
        store.delete(["one"])
        puts = [r for r in proxy.seen if r.method == "PUT"]
        assert len(puts) == 4
        assert all(r.headers["x-ms-encryption-scope"] == "scope1" for r in puts)
        assert not any("x-ms-encryption-scope" in r.headers for r in proxy.seen if r.method != "PUT")


def test_kms_key_on_google(google: StoreCase, tmp_path: Path) -> None:
    name = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    with google.proxied() as proxy:
        store = google.open(google.new_url(tmp_path), endpoint=proxy.endpoint, kms_key_name=name)
        store.put("one", b"x")
        stream(store, "many")
        assert store.get("one") == b"x"
        assert {h.get("x-goog-encryption-kms-key-name") for h in writes(proxy)} == {name}
        assert not any("x-goog-encryption-kms-key-name" in r.headers for r in proxy.requests("GET"))


# The region -----------------------------------------------------------------------------------------------------------


def test_the_bucket_lies_in_another_region(s3: StoreCase, s3_proxy: FaultProxy, tmp_path: Path) -> None:
    """Amazon tells where a bucket is to whoever asks in the wrong region; the request is made again there."""
    opened = s3.open(s3.new_url(tmp_path))
    inner = plain(opened)
    assert isinstance(inner, S3Store)
    settings = inner._settings._replace(endpoint=s3_proxy.endpoint, aws=True, region="eu-west-9")
    store: Any = S3Store(inner.url, settings, inner._credentials, retry=Retry(Deadline(PATIENCE)), environ={})
    if isinstance(opened, ScopedStore):
        store = ScopedStore(store, opened.folder)

    def signed_for_the_wrong_region(seen: SeenRequest) -> bool:
        return "/eu-west-9/s3/" in seen.headers.get("authorization", "")

    told = {"x-amz-bucket-region": s3.region}
    s3_proxy.add(Fault("HEAD", status=301, headers=told, times=9, only_if=signed_for_the_wrong_region))
    named = f"<Region>{s3.region}</Region>"
    body = f"<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message>{named}</Error>".encode()
    s3_proxy.add(Fault(status=400, body=body, times=9, only_if=signed_for_the_wrong_region))
    store.put("k", b"x")
    assert store.get("k") == b"x"
    assert [info.key for info in store.list("")] == ["k"]
    assert len([seen for seen in s3_proxy.seen if signed_for_the_wrong_region(seen)]) <= 2


# Rights ---------------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_the_bucket_itself(cloud: StoreCase, tmp_path: Path) -> None:
    """Writing and reading objects need no right on the bucket; listing needs the right to list, and that is all."""
    with cloud.proxied() as proxy:
        store = cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)
        store.put("p/k", b"x", if_absent=True)
        stream(store, "p/many")
        store.get("p/k")
        list(store.read("p/many"))
        store.head("p/k")
        paths = [seen.path.partition("?")[0].rstrip("/") for seen in proxy.seen]
        objects = ("k", "many", PROBE)  # to Google, their names are percent-encoded
        assert all(unquote(path).rpartition("/")[2] in objects for path in paths), paths


# Storage classes ------------------------------------------------------------------------------------------------------


def put_one_of_each(store: ObjectStore) -> None:
    store.put("wal", b"x", kind="wal")
    store.put("archive", b"x", kind="archive")
    stream(store, "large")
    store.put("metadata", b"x")


def test_storage_class_on_azure(azure: StoreCase, tmp_path: Path) -> None:
    with azure.proxied() as proxy:
        put_one_of_each(azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint, storage_class="cool"))
        tiers = {r.path.partition("?")[0].rpartition("/")[2]: r.headers.get("x-ms-access-tier") for r in proxy.seen}
        assert tiers == {"wal": "Cool", "archive": "Cool", "large": "Cool", "metadata": None}


def test_storage_class_on_google(google: StoreCase, tmp_path: Path) -> None:
    store = google.open(google.new_url(tmp_path), storage_class="nearline")
    put_one_of_each(store)
    for key, expected in (
        ("wal", "NEARLINE"),
        ("archive", "NEARLINE"),
        ("large", "NEARLINE"),
        ("metadata", "STANDARD"),
    ):
        name = quote(key_in_bucket(store, key), safe="")
        _, _, answer = request("GET", f"{google.endpoint}/storage/v1/b/{store.url.bucket}/o/{name}")
        assert json.loads(answer)["storageClass"] == expected


def test_storage_class_on_s3(open_s3: Callable[..., ObjectStore], s3: StoreCase, s3_proxy: FaultProxy) -> None:
    if not s3.answers.storage_classes:
        pytest.skip("this server has other storage classes")
    put_one_of_each(open_s3(storage_class="STANDARD_IA"))
    sent = [(h.get("x-amz-storage-class")) for h in writes(s3_proxy)]
    assert sent == ["STANDARD_IA"] * 3 + [None]
