"""Retention and holds on every provider."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from barman_cloud.errors import ConfigurationError, StoreError
from barman_cloud.store.base import DeleteFailedError, ObjectStore
from tests.store.cases import StoreCase
from tests.store.scoped import key_in_bucket
from tests.support.fault_proxy import Fault, FaultProxy

MIB = 1 << 20


def stream(store: ObjectStore, key: str, **arguments: object) -> None:
    store.put_stream(key, iter([os.urandom(6 * MIB)]), part_size=5 * MIB, **arguments)  # type: ignore[arg-type]


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


def test_a_store_that_lists_the_bucket_when_asked_for_its_locks_has_none(rclone: StoreCase, tmp_path: Path) -> None:
    """Servers that don't know ``?object-lock`` take the request for a listing."""
    store = rclone.open(rclone.new_url(tmp_path))
    store.put("k", b"x")
    assert store.object_lock("k") is None


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
    s3_proxy.add(Fault("GET", "object-lock", status=200, body=DEFAULT.format(unit=unit).encode()))
    for key in ("a", "b"):
        lock = store.object_lock(key)
        assert lock is not None
        written = store.head(key).last_modified
        assert written is not None
        until = written + timedelta(days=days)
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
