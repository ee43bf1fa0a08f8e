"""The S3 requests that obstore has no verb for, signed and parsed by ourselves (S3 API reference, REST)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus, urlsplit

from barman_cloud.errors import IntegrityError
from barman_cloud.store.base import Buffer, ObjectInfo, ObjectLock
from barman_cloud.store.bucket_api import LISTING, Attributes, Page
from barman_cloud.store.failures import WRONG_REGION_CODES, Failure, RequestFailedError, from_answer, unreadable
from barman_cloud.store.http import Body, HttpClient, Response
from barman_cloud.store.integrity import CHECKSUM, require_intact
from barman_cloud.store.object_answers import cut_range, etag_of, object_headers, object_in, object_info
from barman_cloud.store.s3.checksums import verify
from barman_cloud.store.s3.keys import AwsCredentials
from barman_cloud.store.s3.retention import DefaultRetention, retained
from barman_cloud.store.s3.sigv4 import encode_path, encode_query, sign
from barman_cloud.store.xml import escape, parse

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline
    from barman_cloud.store.s3.settings import S3Settings


class S3Api:
    """Requests to one bucket. Every method makes one request and raises ``RequestFailedError`` when it fails."""

    def __init__(
        self,
        settings: S3Settings,
        credentials: Callable[[], AwsCredentials],
        environ: Mapping[str, str],
        deadline: Deadline | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        base = urlsplit(settings.bucket_url)
        self._host = base.netloc
        self._root = base.path.rstrip("/")
        self._retention: tuple[DefaultRetention | None] | None = None
        self._http = HttpClient(
            settings.bucket_url,
            ca_file=settings.ca_file,
            timeout=settings.read_timeout,
            environ=environ,
            deadline=deadline,
        )

    def list_page(self, prefix: str, *, delimiter: str, start_after: str | None, token: str | None) -> Page:
        query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        if delimiter:
            query["delimiter"] = delimiter
        if token:
            query["continuation-token"] = token
        elif start_after:
            query["start-after"] = start_after
        return self._page(self.send("GET", "", query).body, prefix)

    def _page(self, body: bytes, prefix: str) -> Page:
        """Read an answer to ListObjectsV2, and make sure that it is one about this bucket and prefix."""
        document = parse(body, "ListBucketResult", LISTING)
        decode = unquote_plus if document.text("EncodingType") == "url" else str
        name, truncated = document.text("Name"), document.text("IsTruncated") == "true"
        token = document.text("NextContinuationToken") if truncated else ""
        # An access point answers by a name of its own.
        another = name not in ("", self._settings.bucket) and not self._settings.access_point
        if another or decode(document.text("Prefix")) != prefix or (truncated and not token):
            raise RequestFailedError(unreadable(LISTING, body))
        try:
            objects = tuple(_info(entry.fields(), decode) for entry in document.elements("Contents"))
            folders = tuple(decode(entry.fields()["Prefix"]) for entry in document.elements("CommonPrefixes"))
        except (KeyError, ValueError) as error:
            raise RequestFailedError(unreadable(LISTING, body)) from error
        return Page(objects, folders, token or None).checked(prefix, body)

    def get(self, key: str) -> bytes:
        answer = self.send("GET", key, headers=self._settings.customer_key_headers())
        return self._intact(key, answer, object_in(answer))

    def _intact(self, key: str, answer: Response, body: bytes) -> bytes:
        require_intact(f"s3://{self._settings.bucket}/{key}", body, answer.headers.get(f"x-amz-meta-{CHECKSUM}"))
        return body

    def get_validated(self, key: str) -> bytes:
        """Return the object, compared with the checksum that S3 keeps of it."""
        headers = {**self._settings.customer_key_headers(), "x-amz-checksum-mode": "ENABLED"}
        answer = self.send("GET", key, headers=headers)
        if not verify(answer.headers, object_in(answer)):
            raise IntegrityError(
                f"s3://{self._settings.bucket}/{key} arrived with another checksum than it was stored with"
            )
        return self._intact(key, answer, answer.body)

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        headers = {"range": f"bytes={start}-{end - 1}", **self._settings.customer_key_headers()}
        if etag is not None:
            headers["if-match"] = etag
        return cut_range(self.send("GET", key, headers=headers), start, end)

    def head(self, key: str) -> ObjectInfo:
        return object_info(key, self._head(key))

    def _head(self, key: str) -> Mapping[str, str]:
        return object_headers(self.send("HEAD", key, headers=self._settings.customer_key_headers()))

    def put(self, key: str, data: Buffer, *, if_absent: bool, attributes: Attributes) -> None:
        headers = self._settings.write_headers(attributes)
        headers["content-md5"] = _md5(data)
        if if_absent:
            headers["if-none-match"] = "*"
        try:
            etag_of(self.send("PUT", key, headers=headers, body=memoryview(data), empty=True), "an upload")
        except RequestFailedError as error:
            if if_absent and error.failure.status == 412:
                raise RequestFailedError(Failure(409, exists=True)) from error
            raise

    def refuses_forged(self, key: str) -> bool:
        """Put content that isn't what was signed; tell whether the store noticed."""
        try:
            self.send("PUT", key, body=b"forged", payload=hashlib.sha256(b"signed").hexdigest())
        except RequestFailedError as error:
            if error.failure.status not in (400, 403):
                raise
            return True
        return False

    def delete(self, keys: list[str]) -> dict[str, str]:
        objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{objects}</Delete>'.encode()
        headers = {"content-md5": _md5(body), "content-type": "application/xml"}
        answer = self.send("POST", "", {"delete": ""}, headers, body).body
        failures = {}
        for entry in parse(answer, "DeleteResult", "the result of a deletion").elements("Error"):
            code, message = entry.text("Code"), entry.text("Message")
            if code in WRONG_REGION_CODES:  # MinIO says so of each key
                raise RequestFailedError(Failure(400, code, message))
            if code not in ("NoSuchKey", "NoSuchVersion"):
                failures[entry.text("Key")] = ": ".join(part for part in (code, message) if part)
        return failures

    def delete_one(self, key: str) -> None:
        self.send("DELETE", key, empty=True)

    def object_lock(self, key: str) -> ObjectLock | None:
        """Return the lock that a HEAD shows; S3 leaves the headers out for callers who may not see them.

        Some compatible stores never send them for the bucket's default retention. Then the bucket's own configuration
        decides, unless the store says that this object has no retention, as Amazon does.
        """
        headers = self._head(key)
        if headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
            return ObjectLock(key, "under legal hold")
        until = headers.get("x-amz-object-lock-retain-until-date")
        if until:
            return retained(key, datetime.fromisoformat(until), headers.get("x-amz-object-lock-mode", ""))
        default, modified = self._default_retention(), headers.get("last-modified")
        if default is None or modified is None:
            return None
        from email.utils import parsedate_to_datetime

        lock = retained(key, default.end(parsedate_to_datetime(modified)), default.mode, " by the bucket's default")
        return None if lock is None or (self._settings.aws and not self._may_be_retained(key)) else lock

    def _default_retention(self) -> DefaultRetention | None:
        """Return the default retention of the bucket (S3 API: GetObjectLockConfiguration); it is asked for once."""
        if self._retention is None:
            try:
                answer = self.send("GET", "", {"object-lock": ""}).body
            except RequestFailedError as error:
                if not _says_no_lock(error.failure):
                    raise
                self._retention = (None,)
            else:
                self._retention = (_default_retention_in(answer),)
        return self._retention[0]

    def _may_be_retained(self, key: str) -> bool:
        """Tell whether the object has a retention as far as these credentials may know (S3 API: GetObjectRetention)."""
        try:
            self.send("GET", key, {"retention": ""})
        except RequestFailedError as error:
            return error.failure.code != "NoSuchObjectLockConfiguration"
        return True

    def check(self, prefix: str) -> None:
        query = {"list-type": "2", "prefix": prefix, "max-keys": "1", "encoding-type": "url"}
        self._page(self.send("GET", "", query).body, prefix)

    def create_bucket(self) -> None:
        """Create the bucket in the region of the client; ``us-east-1`` must not be named (S3 API: CreateBucket)."""
        body = b""
        if self._settings.region != "us-east-1":
            body = (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>'
                f"{escape(self._settings.region)}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        try:
            self.send("PUT", "", body=body)
        except RequestFailedError as error:
            if error.failure.code != "BucketAlreadyOwnedByYou":
                raise

    def bucket_region(self) -> str | None:
        """Return the region that S3 says the bucket is in; it says so even when it refuses the request."""
        return self._exchange("HEAD", "", {}, {}, b"").headers.get("x-amz-bucket-region")

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        payload: str | None = None,
        *,
        empty: bool = False,
    ) -> Response:
        """Return the answer to a request about ``key``; raise ``RequestFailedError`` unless it is one of success.

        ``payload`` is what the signature says of the body. ``empty``: the store's own answer has nothing in it, so
        one that has comes from something else.
        """
        response = self._exchange(method, key, query or {}, headers or {}, body, payload)
        if response.status >= 300:
            region = response.headers.get("x-amz-bucket-region", "")
            raise RequestFailedError(from_answer(response.status, response.body, region=region))
        if empty and response.body.strip():
            raise RequestFailedError(unreadable("an object store's", response.body))
        return response

    def _exchange(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
        payload: str | None = None,
    ) -> Response:
        path = f"{self._root}/{encode_path(key)}" if key or not self._root else self._root
        text = encode_query(query)
        signed = sign(
            self._credentials(),
            method=method,
            host=self._host,
            path=path,
            query=text,
            headers=headers,
            body=b"" if isinstance(body, list) else body,
            region=self._settings.region,
            payload=payload,
        )
        return self._http.request(method, f"{path}?{text}" if text else path, signed, body)


def _says_no_lock(failure: Failure) -> bool:
    """Tell whether a bucket has no lock configuration, or the store none at all; or these credentials may not know."""
    return failure.status in (400, 403, 404, 405, 501) and failure.code != "NoSuchBucket" and not failure.unreadable


def _default_retention_in(answer: bytes) -> DefaultRetention | None:
    """Return what an object lock configuration says; a store that has none may answer with the bucket's listing."""
    what = "the bucket's object lock configuration"
    try:
        rule = parse(answer, "ObjectLockConfiguration", what).first("Rule", "DefaultRetention")
    except RequestFailedError:
        parse(answer, "ListBucketResult", what)
        return None
    try:
        return DefaultRetention.of(rule.fields()) if rule is not None else None
    except ValueError as error:
        raise RequestFailedError(unreadable(what, answer)) from error


def _md5(data: Buffer) -> str:
    """Content-MD5, which compatible stores want where S3 itself takes any checksum."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _info(fields: Mapping[str, str], decode: Callable[[str], str]) -> ObjectInfo:
    return ObjectInfo(
        decode(fields["Key"]),
        int(fields["Size"]),
        _quoted(fields.get("ETag", "")),
        _moment(fields.get("LastModified", "")),
    )


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _quoted(etag: str) -> str | None:
    """Return an ETag as the header has it; some stores leave out its quotes in listings."""
    return f'"{etag.strip(chr(34))}"' if etag else None
