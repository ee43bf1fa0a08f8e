"""Tags, encryption at rest, object locks and checksums: what goes over the wire, and what the stores make of it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import ConfigurationError, IntegrityError, StoreError
from barman_cloud.store.base import DeleteFailedError, ObjectStore
from barman_cloud.store.integrity import CHECKSUM
from barman_cloud.store.retry import Retry
from barman_cloud.store.s3 import checksums
from barman_cloud.store.s3.store import S3Store
from tests.store.cases import StoreCase
from tests.store.scoped import ScopedStore, key_in_bucket, plain
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest
from tests.support.servers import request

MIB = 1 << 20
TAGS = {"owner": "db team", "path": "a/b=c+d"}


@pytest.fixture(autouse=True)
def _nothing_learned() -> Iterator[None]:
    checksums._learned.clear()
    yield
    checksums._learned.clear()


@pytest.fixture
def s3_proxy(s3: StoreCase) -> Iterator[FaultProxy]:
    with s3.proxied() as proxy:
        yield proxy


@pytest.fixture
def open_s3(s3: StoreCase, s3_proxy: FaultProxy, tmp_path: Path) -> Callable[..., ObjectStore]:
    """Opens a new bucket through the proxy."""

    def open_it(**options: object) -> ObjectStore:
        environ = {**s3.environ, **options.pop("environ", {})}  # type: ignore[dict-item]
        return s3.open(s3.new_url(tmp_path), endpoint=s3_proxy.endpoint, environ=environ, **options)

    return open_it


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


# Object locks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def locked_bucket(s3: StoreCase) -> Iterator[ObjectStore]:
    """A bucket with versions and object lock."""
    bucket = s3.new_locked_bucket()
    if bucket is None:
        pytest.skip("a bucket with object lock can't be made here")
    yield s3.open(f"s3://{bucket}")
    s3.drop_locked_bucket(bucket)


def test_retention_and_legal_hold_on_s3(s3: StoreCase, locked_bucket: ObjectStore) -> None:
    store, client = locked_bucket, s3.boto()
    bucket = store.url.bucket
    until = datetime.now(UTC) + timedelta(days=2)
    for key in ("free", "retained", "held", "released"):
        store.put(key, b"x")
    client.put_object_retention(
        Bucket=bucket, Key="retained", Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}
    )
    client.put_object_legal_hold(Bucket=bucket, Key="held", LegalHold={"Status": "ON"})
    client.put_object_legal_hold(Bucket=bucket, Key="released", LegalHold={"Status": "OFF"})
    assert store.object_lock("free") is None
    assert store.object_lock("released") is None
    retained = store.object_lock("retained")
    assert retained is not None
    assert retained.reason.startswith(f"retained until {until:%Y-%m-%d}")
    assert "governance" in retained.reason
    held = store.object_lock("held")
    assert held is not None
    assert held.reason == "under legal hold"


def test_a_retention_that_is_over(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    store = open_s3()
    headers = {"etag": '"e"', "x-amz-object-lock-mode": "COMPLIANCE"}
    headers |= {"x-amz-object-lock-retain-until-date": "2024-01-01T00:00:00Z"}
    s3_proxy.add(Fault("HEAD", "/k", status=200, headers=headers))
    assert store.object_lock("k") is None


def test_bucket_with_a_default_retention(s3: StoreCase, locked_bucket: ObjectStore) -> None:
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    s3.boto().put_object_lock_configuration(
        Bucket=locked_bucket.url.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    locked_bucket.put("one", b"x")
    stream(locked_bucket, "many")
    assert locked_bucket.object_lock("one") is not None
    assert locked_bucket.head("many").size == 6 * MIB  # moto takes it, but forgets the retention of multipart uploads


DEFAULT = """<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>
<Mode>COMPLIANCE</Mode><{unit}>1</{unit}></DefaultRetention></Rule></ObjectLockConfiguration>"""


@pytest.mark.parametrize(("unit", "days"), [("Days", 1), ("Years", 365)])
def test_the_default_retention_of_a_bucket_counts_where_objects_do_not_show_it(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, unit: str, days: int
) -> None:
    """versitygw shows it neither in a HEAD nor in GetObjectRetention; the bucket is asked once."""
    store = open_s3()
    for key in ("a", "b"):
        store.put(key, b"x")
    until = datetime.now(UTC) + timedelta(days=days)
    s3_proxy.add(Fault("GET", "object-lock", status=200, body=DEFAULT.format(unit=unit).encode()))
    for key in ("a", "b"):
        lock = store.object_lock(key)
        assert lock is not None
        assert lock.reason.startswith(f"retained until {until:%Y-%m-%d}")
        assert lock.reason.endswith("by the bucket's default (compliance mode)")
    assert len(s3_proxy.requests("GET", "object-lock")) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "ObjectLockConfigurationNotFoundError"), (501, "NotImplemented"), (403, "AccessDenied"), (400, "")],
)
def test_a_store_without_a_lock_configuration_has_no_default(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, status: int, code: str
) -> None:
    store = open_s3()
    store.put("k", b"x")
    body = f"<Error><Code>{code}</Code></Error>".encode()
    s3_proxy.add(Fault("GET", "object-lock", status=status, body=body, times=9))
    assert store.object_lock("k") is None
    assert store.object_lock("k") is None
    assert len(s3_proxy.requests("GET", "object-lock")) == 1


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"", DEFAULT.format(unit="Weeks").encode()])
def test_an_answer_about_locks_that_cannot_be_read_is_an_error(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, body: bytes
) -> None:
    store = open_s3()
    store.put("k", b"x")
    s3_proxy.add(Fault("GET", "object-lock", status=200, body=body))
    with pytest.raises(StoreError, match="lock configuration"):
        store.object_lock("k")


def test_holds_and_retention_on_azure(azure: StoreCase, tmp_path: Path) -> None:
    """Azurite has neither, so the proxy adds the headers of the service to its answers."""
    until = datetime.now(UTC) + timedelta(days=2)
    answers = {
        "free": ({}, None),
        "held": ({"x-ms-legal-hold": "true"}, "under legal hold"),
        "kept": (
            {
                "x-ms-immutability-policy-until-date": f"{until:%a, %d %b %Y %H:%M:%S GMT}",
                "x-ms-immutability-policy-mode": "Unlocked",
            },
            f"retained until {until:%Y-%m-%dT%H:%M:%SZ} (unlocked policy)",
        ),
        "past": ({"x-ms-immutability-policy-until-date": "Mon, 01 Jan 2024 00:00:00 GMT"}, None),
    }
    with azure.proxied() as proxy:
        store = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint)
        for key, (headers, reason) in answers.items():
            proxy.add(Fault("HEAD", f"/{key}", status=200, headers={"etag": '"e"', **headers}))
            lock = store.object_lock(key)
            assert (lock.reason if lock else None) == reason
        whole = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint)
        whole.put("k", b"x")
        assert whole.object_lock("k") is None
        whole = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint)
        whole.put("k", b"x")
        headers = {"etag": '"e"', "x-ms-has-legal-hold": "true"}
        proxy.add(Fault("HEAD", "restype=container", status=200, headers=headers))
        lock = whole.object_lock("k")
        assert lock is not None
        assert lock.reason == "under legal hold"


def test_holds_and_retention_on_google(google: StoreCase, tmp_path: Path) -> None:
    until = datetime.now(UTC) + timedelta(days=2)
    text = f"{until:%Y-%m-%dT%H:%M:%SZ}"
    with google.proxied() as proxy:
        store = google.open(google.new_url(tmp_path), endpoint=proxy.endpoint)
        store.put("k", b"x")
        assert store.object_lock("k") is None
        for fields, reason in (
            ({"temporaryHold": True}, "under a temporary hold"),
            ({"eventBasedHold": True}, "under an event-based hold"),
            ({"retentionExpirationTime": text}, f"retained until {text}"),
            ({"retention": {"mode": "Locked", "retainUntilTime": text}}, f"retained until {text}"),
            ({"retentionExpirationTime": "2024-01-01T00:00:00Z"}, None),
        ):
            proxy.add(
                Fault(
                    "GET",
                    f"/o/{quote(key_in_bucket(store, 'k'), safe='')}",
                    status=200,
                    body=json.dumps({"name": key_in_bucket(store, "k"), "size": "1", **fields}).encode(),
                )
            )
            lock = store.object_lock("k")
            assert (lock.reason if lock else None) == reason


def test_stores_without_locks_say_so(tmp_path: Path) -> None:
    for case in (StoreCase("local", "", None), StoreCase("memory", "", None)):
        with pytest.raises(ConfigurationError, match="no object lock"):
            case.open(case.new_url(tmp_path)).object_lock("k")


def test_refused_deletions_are_named(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    store = open_s3()
    for key in ("a", "b", "c"):
        store.put(key, b"x")
    a, c = (key_in_bucket(store, key) for key in "ac")
    refused = (
        f"<DeleteResult><Error><Key>{a}</Key><Code>AccessDenied</Code><Message>locked</Message></Error>"
        f"<Error><Key>{c}</Key><Code>InternalError</Code></Error></DeleteResult>"
    ).encode()
    s3_proxy.add(Fault("POST", "delete", status=200, body=refused))
    with pytest.raises(DeleteFailedError) as raised:
        store.delete(["a", "b", "c"])
    assert raised.value.failures == {"a": "AccessDenied: locked", "c": "InternalError"}
    assert not s3_proxy.requests("DELETE")


@pytest.mark.parametrize(
    "answer",
    [
        (400, b"<Error><Code>MissingContentMD5</Code><Message>Missing required header</Message></Error>"),
        (400, b"<Error><Code>InvalidRequest</Code><Message>Missing required header: Content-MD5</Message></Error>"),
        (400, b"<Error><Code>BadRequest</Code><Message></Message></Error>"),
        (501, b"<Error><Code>NotImplemented</Code><Message>no such thing</Message></Error>"),
    ],
)
def test_stores_that_take_no_batches(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy, answer: tuple[int, bytes]
) -> None:
    store = open_s3()
    for key in ("a", "b", "c", "d"):
        store.put(key, b"x")
    s3_proxy.add(Fault("POST", "delete", status=answer[0], body=answer[1], times=1000))
    store.delete(["a", "b"])
    store.delete(["c", "gone"])
    assert [info.key for info in store.list("")] == ["d"]
    assert len(s3_proxy.requests("POST", "delete")) == 1
    assert len(s3_proxy.requests("DELETE")) == 4


def test_other_refusals_of_a_batch_are_no_reason_to_go_on(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy
) -> None:
    store = open_s3()
    store.put("a", b"x")
    malformed = b"<Error><Code>MalformedXML</Code><Message>not well-formed</Message></Error>"
    s3_proxy.add(Fault("POST", "delete", status=400, body=malformed))
    with pytest.raises(StoreError, match="MalformedXML"):
        store.delete(["a"])
    assert not s3_proxy.requests("DELETE")


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
    s3_proxy.add(Fault("GET", "/k", status=200, headers={f"x-amz-checksum-{algorithm}": "AAAAAA=="}, body=b"content"))
    with pytest.raises(IntegrityError, match="another checksum"):
        store.get("k")


def test_checksums_of_parts_and_none_at_all_are_not_compared(
    open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy
) -> None:
    store = open_s3(environ={"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported"})
    for headers in ({}, {"x-amz-checksum-sha256": "AAAA-3"}, {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}):
        s3_proxy.add(Fault("GET", "/k", status=200, headers=headers, body=b"content"))
        assert store.get("k") == b"content"


# The region -----------------------------------------------------------------------------------------------------------


def test_the_bucket_lies_in_another_region(s3: StoreCase, s3_proxy: FaultProxy, tmp_path: Path) -> None:
    """Amazon tells where a bucket is to whoever asks in the wrong region; the request is made again there."""
    opened = s3.open(s3.new_url(tmp_path))
    inner = plain(opened)
    assert isinstance(inner, S3Store)
    settings = inner._settings._replace(endpoint=s3_proxy.endpoint, aws=True, region="eu-west-9")
    store: Any = S3Store(inner.url, settings, inner._credentials, retry=Retry(Deadline(5)), environ={})
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
        assert all("k" in path.rpartition("/")[2] or "many" in path for path in paths), paths


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
        _, _, answer = request("GET", f"{google.endpoint}/storage/v1/b/{store.url.bucket}/o/{key}")
        assert json.loads(answer)["storageClass"] == expected


def test_storage_class_on_s3(open_s3: Callable[..., ObjectStore], s3_proxy: FaultProxy) -> None:
    put_one_of_each(open_s3(storage_class="STANDARD_IA"))
    sent = [(h.get("x-amz-storage-class")) for h in writes(s3_proxy)]
    assert sent == ["STANDARD_IA"] * 3 + [None]
