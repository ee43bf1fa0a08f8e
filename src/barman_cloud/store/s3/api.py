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
from barman_cloud.store.bucket_api import Attributes, Page
from barman_cloud.store.failures import Failure, RequestFailedError, from_answer
from barman_cloud.store.http import Body, HttpClient, Response, cut_range
from barman_cloud.store.integrity import CHECKSUM, require_intact
from barman_cloud.store.s3.checksums import verify
from barman_cloud.store.s3.keys import AwsCredentials
from barman_cloud.store.s3.sigv4 import encode_path, encode_query, sign
from barman_cloud.store.xml import elements, escape, text_of

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
        return _parse_page(self._send("GET", "", query).body.decode("utf-8"))

    def get(self, key: str) -> bytes:
        answer = self._send("GET", key, headers=self._settings.customer_key_headers())
        require_intact(f"s3://{self._settings.bucket}/{key}", answer.body, answer.headers.get(f"x-amz-meta-{CHECKSUM}"))
        return answer.body

    def get_validated(self, key: str) -> bytes:
        """Return the object, compared with the checksum that S3 keeps of it."""
        headers = {**self._settings.customer_key_headers(), "x-amz-checksum-mode": "ENABLED"}
        answer = self._send("GET", key, headers=headers)
        if not verify(answer.headers, answer.body):
            raise IntegrityError(
                f"s3://{self._settings.bucket}/{key} arrived with another checksum than it was stored with"
            )
        require_intact(f"s3://{self._settings.bucket}/{key}", answer.body, answer.headers.get(f"x-amz-meta-{CHECKSUM}"))
        return answer.body

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        headers = {"range": f"bytes={start}-{end - 1}", **self._settings.customer_key_headers()}
        if etag is not None:
            headers["if-match"] = etag
        return cut_range(self._send("GET", key, headers=headers), start, end)

    def head(self, key: str) -> ObjectInfo:
        from email.utils import parsedate_to_datetime

        headers = self._send("HEAD", key, headers=self._settings.customer_key_headers()).headers
        modified = headers.get("last-modified")
        return ObjectInfo(
            key,
            int(headers.get("content-length", 0)),
            headers.get("etag"),
            parsedate_to_datetime(modified) if modified else None,
        )

    def put(self, key: str, data: Buffer, *, if_absent: bool, attributes: Attributes) -> None:
        headers = self._settings.write_headers(attributes)
        headers["content-md5"] = _md5(data)
        if if_absent:
            headers["if-none-match"] = "*"
        try:
            self._send("PUT", key, headers=headers, body=memoryview(data))
        except RequestFailedError as error:
            if if_absent and error.failure.status == 412:
                raise RequestFailedError(Failure(409, exists=True)) from error
            raise

    def refuses_forged(self, key: str) -> bool:
        """Put content that isn't what was signed; tell whether the store noticed."""
        try:
            self._send("PUT", key, body=b"forged", payload=hashlib.sha256(b"signed").hexdigest())
        except RequestFailedError as error:
            if error.failure.status not in (400, 403):
                raise
            return True
        return False

    def delete(self, keys: list[str]) -> dict[str, str]:
        objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>{objects}</Delete>'.encode()
        headers = {"content-md5": _md5(body), "content-type": "application/xml"}
        answer = self._send("POST", "", {"delete": ""}, headers, body).body.decode("utf-8")
        failures = {}
        for entry in elements(answer, "Error"):
            code, message = text_of(entry, "Code"), text_of(entry, "Message")
            if code not in ("NoSuchKey", "NoSuchVersion"):
                failures[text_of(entry, "Key")] = ": ".join(part for part in (code, message) if part)
        return failures

    def delete_one(self, key: str) -> None:
        self._send("DELETE", key)

    def object_lock(self, key: str) -> ObjectLock | None:
        """Return the lock that a HEAD shows; S3 leaves the headers out for callers who may not see them."""
        headers = self._send("HEAD", key, headers=self._settings.customer_key_headers()).headers
        if headers.get("x-amz-object-lock-legal-hold", "").upper() == "ON":
            return ObjectLock(key, "under legal hold")
        until = headers.get("x-amz-object-lock-retain-until-date")
        if until:
            moment = datetime.fromisoformat(until)
            if moment > datetime.now(moment.tzinfo):
                mode = headers.get("x-amz-object-lock-mode", "").lower()
                return ObjectLock(key, f"retained until {until}" + (f" ({mode} mode)" if mode else ""))
        return None

    def check(self, prefix: str) -> None:
        self._send("GET", "", {"list-type": "2", "prefix": prefix, "max-keys": "1"})

    def create_bucket(self) -> None:
        """Create the bucket in the region of the client; ``us-east-1`` must not be named (S3 API: CreateBucket)."""
        body = b""
        if self._settings.region != "us-east-1":
            body = (
                '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>'
                f"{escape(self._settings.region)}</LocationConstraint></CreateBucketConfiguration>"
            ).encode()
        try:
            self._send("PUT", "", body=body)
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
    ) -> Response:
        """Make a request about ``key`` and return the answer; ``payload`` is what the signature says of the body."""
        return self._send(method, key, query, headers, body, payload)

    def _send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        payload: str | None = None,
    ) -> Response:
        response = self._exchange(method, key, query or {}, headers or {}, body, payload)
        if response.status >= 300:
            raise RequestFailedError(from_answer(response.status, response.body))
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


def _md5(data: Buffer) -> str:
    """Content-MD5, which compatible stores want where S3 itself takes any checksum."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _parse_page(text: str) -> Page:
    """Parse a ListObjectsV2 answer; its shape is so regular that a parser of general XML would only cost time."""
    encoded = "<EncodingType>url</EncodingType>" in text
    decode = unquote_plus if encoded else str
    objects = tuple(
        ObjectInfo(
            decode(text_of(entry, "Key")),
            int(text_of(entry, "Size") or 0),
            _quoted(text_of(entry, "ETag")),
            _moment(text_of(entry, "LastModified")),
        )
        for entry in elements(text, "Contents")
    )
    folders = tuple(decode(text_of(entry, "Prefix")) for entry in elements(text, "CommonPrefixes"))
    token = text_of(text, "NextContinuationToken") if text_of(text, "IsTruncated") == "true" else None
    return Page(objects, folders, token or None)


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _quoted(etag: str) -> str | None:
    """Return an ETag as the header has it; some stores leave out its quotes in listings."""
    return f'"{etag.strip(chr(34))}"' if etag else None
