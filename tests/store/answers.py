"""What a server does that others of its kind don't: asked of the server itself, so that no test has to know its name.

The suite expects of each server what it answers here. For the servers that ``make test`` runs, the answers are on
record (``results/*.json``, from which ``docs/reference/stores.md`` has its table), and a test compares them.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import re
import threading
import urllib.error
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from crc32c import crc32c

from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    BucketNotFoundError,
    ObjectExistsError,
)
from tests.support.servers import request

if TYPE_CHECKING:
    from tests.store.cases import StoreCase

ODD = [
    "with space/ at ends /x ",
    "percent%20/%/100%",
    "hash#/question?x=1&y=2/plus+plus",
    "quotes'\"/back\\slash/[brackets]{braces}(parens)",
    "symbols/~!@$^*=,;:|<>`",
    "ünïcödé/日本語/🐘",
    "dots.../.hidden",
    "-dash/_under",
]
"""Keys that our layout may hold, since names of servers and the path of the URL are part of them."""
FOREIGN = ["a//b", "top/", "x/./y", "tab\there"]
"""Keys that only other programs make."""
BY_BYTES = ["a", "a ", "a!b", "a-b", "a/b", "a0", "aa", "é", "\uffe6", "\U0001f418"]
"""In the order of their UTF-8 bytes; UTF-16 and folders first would give other orders."""


@dataclass(frozen=True)
class Answers:
    """What one server does. None: it doesn't know the question, or this kind of store has no such thing."""

    credentials: bool
    """Wrong credentials are refused."""
    missing_bucket: bool
    """A request for an object says that the bucket is missing, not only that something is."""
    conditional_create: bool
    """Of eight concurrent creates exactly one succeeds."""
    beside_folder: bool
    """An object ``p`` and an object ``p/q`` can both be there."""
    changed_keys: tuple[str, ...]
    """Keys of :data:`ODD` and :data:`FOREIGN` that are refused, or listed under another name."""
    ordered: bool
    """Listings are ascending by the bytes of the keys."""
    ranges: bool
    """Ranges are answered with 206."""
    bulk_delete: bool | None
    tags: bool | None
    storage_classes: bool | None
    """``STANDARD_IA`` is accepted."""
    checksums: tuple[str, ...] | None
    """Checksum headers of S3 by which a damaged body is refused."""
    content_md5: bool | None
    """The same by ``Content-MD5``."""
    signed_content: bool | None
    """The same by the hash of the content that is in the signature; None over TLS, where it needn't be."""
    encryption: bool | None
    """A request for SSE-S3 is accepted."""
    customer_keys: bool | None
    """One with a key of SSE-C is accepted, on this endpoint."""
    customer_keys_enforced: bool | None
    """An object that was written with a key of SSE-C can't be read without it."""
    object_lock: bool | None
    """Buckets with object lock can be made, and a retained object says so to a HEAD."""
    default_retention: bool | None
    """A HEAD of an object shows the default retention of its bucket."""
    region: bool | None
    """A request signed for the wrong region is refused, and the right one named."""


@functools.cache
def answers_of(case: StoreCase) -> Answers:
    """Ask a running server everything, in a bucket or folder of its own."""
    with case.scratch() as store:
        s3 = _S3(case, store) if case.provider == "aws-s3" else None
        return Answers(
            credentials=_checks_credentials(case),
            missing_bucket=_names_missing_bucket(case),
            conditional_create=s3.conditional_create() if s3 else _creates_once(store),
            beside_folder=_beside_folder(store),
            changed_keys=tuple(key for key in ODD + FOREIGN if not _is_kept(store, key)),
            ordered=_is_ordered(store),
            ranges=_ranges(case, store),
            bulk_delete=s3.bulk_delete() if s3 else None,
            tags=s3.tags() if s3 else None,
            storage_classes=s3.accepted(StorageClass="STANDARD_IA") if s3 else None,
            checksums=s3.checksums() if s3 else None,
            content_md5=s3.content_md5() if s3 else None,
            signed_content=s3.signed_content() if s3 else None,
            encryption=s3.encryption() if s3 else None,
            customer_keys=s3.customer_keys() if s3 else None,
            customer_keys_enforced=s3.customer_keys_enforced() if s3 else None,
            object_lock=s3.object_lock() if s3 else None,
            default_retention=s3.default_retention() if s3 else None,
            region=s3.region() if s3 else None,
        )


def _checks_credentials(case: StoreCase) -> bool:
    environ = case.wrong_credentials()
    if environ is None:
        return False
    with case.open(case.new_url(None), environ=environ) as store:
        try:
            store.put("k", b"x")
        except AccessDeniedError:
            return True
        return False


def _names_missing_bucket(case: StoreCase) -> bool:
    if case.provider is None:
        return True
    with case.open(case.missing_bucket()) as store:
        try:
            store.get("k")
        except BarmanCloudError as error:
            return isinstance(error, BucketNotFoundError)
        return False


def _creates_once(store: Any) -> bool:
    def create(number: int) -> bool:
        barrier.wait()
        try:
            store.put("contended", bytes([number]), if_absent=True)
        except ObjectExistsError:
            return False
        return True

    barrier = threading.Barrier(8)
    with ThreadPoolExecutor(8) as pool:
        return sum(pool.map(create, range(8))) == 1


def _beside_folder(store: Any) -> bool:
    try:
        store.put("p", b"x")
        store.put("p/q", b"x")
    except BarmanCloudError:
        return False
    return [info.key for info in store.list("p")] == ["p", "p/q"]


def _is_kept(store: Any, key: str) -> bool:
    try:
        store.put(f"keys/{key}", b"x")
        listed = [info.key for info in store.list("keys/")]
        kept = bool(store.get(f"keys/{key}") == b"x") and listed == [f"keys/{key}"]
        store.delete([f"keys/{key}"])
    except BarmanCloudError:
        return False
    finally:
        with contextlib.suppress(BarmanCloudError):
            store.delete([info.key for info in store.list("keys/")])
    return kept


def _is_ordered(store: Any) -> bool:
    for key in BY_BYTES:
        with contextlib.suppress(BarmanCloudError):  # an object beside a folder of its name
            store.put(f"order/{key}", b"x")
    listed = [info.key for info in store.list("order/")]
    return len(listed) >= len(BY_BYTES) - 1 and listed == sorted(listed, key=str.encode)


def _ranges(case: StoreCase, store: Any) -> bool:
    from tests.store.scoped import plain

    store.put("ranges", bytes(3 << 20))
    assert len(b"".join(store.read("ranges", range_size=1 << 20))) == 3 << 20
    return bool(getattr(plain(store), "partial_answers", True))


class _S3:
    """Questions that are asked past our store, by boto3."""

    def __init__(self, case: StoreCase, store: Any) -> None:
        from tests.store.scoped import key_in_bucket

        self.case = case
        self.client = case.boto()
        self.bucket = store.url.bucket
        self.key = lambda name: key_in_bucket(store, name)
        self.put = functools.partial(self.client.put_object, Bucket=self.bucket)

    def accepted(self, **arguments: Any) -> bool:
        """Tell whether a PUT with these arguments is taken."""
        return _succeeds(self.put, Key=self.key("asked"), Body=b"x", **arguments)

    def conditional_create(self) -> bool:
        def create(number: int) -> bool:
            barrier.wait()
            return _succeeds(self.put, Key=self.key("contended"), Body=bytes([number]), IfNoneMatch="*")

        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(create, range(8))) == 1

    def bulk_delete(self) -> bool:
        self.accepted()
        keys = [{"Key": self.key("asked")}, {"Key": self.key("never there")}]
        return _succeeds(self.client.delete_objects, Bucket=self.bucket, Delete={"Objects": keys}) and not _succeeds(
            self.client.head_object, Bucket=self.bucket, Key=self.key("asked")
        )

    def tags(self) -> bool:
        if not self.accepted(Tagging="owner=db%20team"):
            return False
        with contextlib.suppress(BotoCoreError, ClientError):
            found = self.client.get_object_tagging(Bucket=self.bucket, Key=self.key("asked"))
            return bool(found["TagSet"] == [{"Key": "owner", "Value": "db team"}])
        return False

    def checksums(self) -> tuple[str, ...]:
        """Algorithms whose right checksum is accepted and whose wrong one is refused."""
        right = {
            "CRC32": _base64(zlib.crc32(b"x").to_bytes(4)),
            "CRC32C": _base64(crc32c(b"x").to_bytes(4)),
            "CRC64NVME": "Lb1nAmRU5LE=",
            "SHA1": _base64(hashlib.sha1(b"x").digest()),
            "SHA256": _base64(hashlib.sha256(b"x").digest()),
        }
        return tuple(
            name
            for name, value in right.items()
            if self.accepted(**{f"Checksum{name}": value})
            and not _succeeds(self.put, Key=self.key("asked"), Body=b"y", **{f"Checksum{name}": value})
        )

    def content_md5(self) -> bool:
        right = _base64(hashlib.md5(b"x").digest())
        wrong = not _succeeds(self.put, Key=self.key("asked"), Body=b"y", ContentMD5=right)
        return self.accepted(ContentMD5=right) and wrong

    def signed_content(self) -> bool | None:
        place = f"{self.client.meta.endpoint_url}/{self.bucket}/{self.key('asked')}"
        if not place.startswith("http://"):
            return None
        message = AWSRequest("PUT", place, data=b"x")
        S3SigV4Auth(self.case.boto_session().get_credentials(), "s3", self.case.region).add_auth(message)
        try:
            request("PUT", message.url, body=b"y", headers=dict(message.headers))
        except urllib.error.HTTPError:
            return True
        return False

    def encryption(self) -> bool:
        return self.accepted(ServerSideEncryption="AES256")

    def customer_keys(self) -> bool:
        key = bytes(range(32))
        return self.accepted(SSECustomerAlgorithm="AES256", SSECustomerKey=key)

    def customer_keys_enforced(self) -> bool:
        return self.customer_keys() and not _succeeds(self.client.get_object, Bucket=self.bucket, Key=self.key("asked"))

    def object_lock(self) -> bool:
        with _locked_bucket(self.case) as (client, bucket):
            if bucket is None or not _succeeds(client.put_object, Bucket=bucket, Key="k", Body=b"x"):
                return False
            until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=5)
            retention = {"Mode": "GOVERNANCE", "RetainUntilDate": until}
            if not _succeeds(client.put_object_retention, Bucket=bucket, Key="k", Retention=retention):
                return False
            return client.head_object(Bucket=bucket, Key="k").get("ObjectLockMode") == "GOVERNANCE"

    def default_retention(self) -> bool:
        with _locked_bucket(self.case) as (client, bucket):
            rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
            if bucket is None or not _succeeds(
                client.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=rule
            ):
                return False
            client.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumAlgorithm="SHA256")
            return client.head_object(Bucket=bucket, Key="k").get("ObjectLockMode") == "GOVERNANCE"

    def region(self) -> bool:
        """Tell whether a request for the wrong region is refused with a word about the right one.

        Signed by botocore, but not sent by it: its clients follow the region on their own.
        """
        host = self.client.meta.endpoint_url
        message = AWSRequest("GET", f"{host}/{self.bucket}?list-type=2&max-keys=1")
        S3SigV4Auth(self.case.boto_session().get_credentials(), "s3", "xx-wrong-9").add_auth(message)
        try:
            request("GET", message.url, headers=dict(message.headers))
        except urllib.error.HTTPError as error:
            told = re.search(rb"<Region>(.+?)</Region>", error.read())
            return bool(told or error.headers.get("x-amz-bucket-region"))
        return False


@contextlib.contextmanager
def _locked_bucket(case: StoreCase) -> Iterator[tuple[Any, str | None]]:
    """A bucket with object lock for a moment, or None where there can't be one."""
    bucket = case.new_locked_bucket()
    try:
        yield case.boto(), bucket
    finally:
        if bucket is not None:
            case.drop_locked_bucket(bucket)


def _succeeds(call: Any, **arguments: Any) -> bool:
    try:
        call(**arguments)
    except (BotoCoreError, ClientError):
        return False
    return True


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
