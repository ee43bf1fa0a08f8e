"""The requests to Azure Blob Storage that obstore has no verb for (Blob service REST API)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit
from uuid import uuid4

from barman_cloud.store.azure.keys import SAS_VERSION, AzureCredentials, AzureSource
from barman_cloud.store.base import Buffer, ObjectInfo, ObjectLock
from barman_cloud.store.bucket_api import LISTING, Attributes, Page
from barman_cloud.store.clients import READ_TIMEOUT
from barman_cloud.store.failures import Failure, RequestFailedError, from_answer, unreadable
from barman_cloud.store.http import Body, HttpClient, Response
from barman_cloud.store.integrity import CHECKSUM, md5_of, require_intact
from barman_cloud.store.object_answers import cut_range, object_headers, object_in, object_info
from barman_cloud.store.xml import Document, parse

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline
    from barman_cloud.store.azure.settings import AzureSettings


_CONTAINER = {"restype": "container"}
"""The query of requests about the container itself."""


class AzureApi:
    """Requests to one container. Every method makes one request and raises ``RequestFailedError`` when it fails."""

    def __init__(
        self,
        settings: AzureSettings,
        credentials: AzureSource,
        environ: Mapping[str, str],
        deadline: Deadline | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        base = urlsplit(settings.endpoint)
        self._root = f"{base.path.rstrip('/')}/{settings.container}"
        self._http = HttpClient(
            settings.endpoint, ca_file=settings.ca_file, timeout=READ_TIMEOUT, environ=environ, deadline=deadline
        )
        self._held: bool | None = None

    def list_page(self, prefix: str, *, delimiter: str, start_after: str | None, token: str | None) -> Page:
        query = {"restype": "container", "comp": "list", "prefix": prefix}
        if delimiter:
            query["delimiter"] = delimiter
        if token:
            query["marker"] = token
        return self._page(self.send("GET", "", query).body, prefix)

    def _page(self, body: bytes, prefix: str) -> Page:
        """Read an answer to List Blobs, and make sure that it is one about this container and prefix."""
        document = parse(body, "EnumerationResults", LISTING)
        container, entries = document.attribute("ContainerName"), document.first("Blobs")
        another = container.rpartition("/")[2] not in ("", self._settings.container)
        if another or document.text("Prefix") != prefix or entries is None or document.first("NextMarker") is None:
            raise RequestFailedError(unreadable(LISTING, body))
        try:
            objects = tuple(_blob(entry) for entry in entries.elements("Blob"))
            folders = tuple(_name(entry) for entry in entries.elements("BlobPrefix"))
        except (KeyError, ValueError, TypeError) as error:
            raise RequestFailedError(unreadable(LISTING, body)) from error
        return Page(objects, folders, document.text("NextMarker") or None).checked(prefix, body)

    def list_uncommitted(self, prefix: str, token: str | None) -> Page:
        """Return a page of the blobs and, among them, those that only have blocks that nobody has listed yet."""
        query = {"restype": "container", "comp": "list", "prefix": prefix, "include": "uncommittedblobs"}
        if token:
            query["marker"] = token
        return self._page(self.send("GET", "", query).body, prefix)

    def get(self, key: str) -> bytes:
        answer = self.send("GET", key)
        body = object_in(answer)
        require_intact(key, body, answer.headers.get(f"x-ms-meta-{CHECKSUM}"))
        return body

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        headers = {"x-ms-range": f"bytes={start}-{end - 1}"}
        if etag is not None:
            headers["if-match"] = etag
        return cut_range(self.send("GET", key, headers=headers), start, end)

    def head(self, key: str) -> ObjectInfo:
        return object_info(key, object_headers(self.send("HEAD", key)))

    def put(self, key: str, data: Buffer, *, if_absent: bool, attributes: Attributes) -> None:
        headers = {"x-ms-blob-type": "BlockBlob", "content-type": "application/octet-stream"}
        headers |= self.write_headers(attributes)
        headers["content-md5"] = base64.b64encode(bytes.fromhex(md5_of([data]))).decode()
        if if_absent:
            headers["if-none-match"] = "*"
        try:
            self.send("PUT", key, headers=headers, body=memoryview(data), status=201)
        except RequestFailedError as error:
            if if_absent and error.failure.code == "BlobAlreadyExists":
                raise RequestFailedError(Failure(409, exists=True)) from error
            raise

    def scope_headers(self) -> dict[str, str]:
        """Return the headers that go with every request that writes."""
        scope = self._settings.encryption_scope
        return {"x-ms-encryption-scope": scope} if scope else {}

    def write_headers(self, attributes: Attributes) -> dict[str, str]:
        """Return the headers of a request that makes a blob."""
        headers = self.scope_headers() | {f"x-ms-meta-{name}": value for name, value in attributes.metadata.items()}
        if attributes.tags:
            headers["x-ms-tags"] = urlencode(dict(attributes.tags))
        if attributes.storage_class:
            headers["x-ms-access-tier"] = attributes.storage_class
        return headers

    def delete(self, keys: list[str]) -> dict[str, str]:
        """Delete by one batch request (REST API, "Blob Batch"); every part is authorized for itself."""
        boundary = f"batch_{uuid4()}"
        credentials = self._credentials()
        parts = "".join(
            f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
            f"Content-ID: {number}\r\n\r\n{self._delete_request(key, credentials)}"
            for number, key in enumerate(keys)
        )
        answer = self.send(
            "POST",
            "",
            {"restype": "container", "comp": "batch"},
            {"content-type": f"multipart/mixed; boundary={boundary}"},
            f"{parts}--{boundary}--\r\n".encode(),
        )
        return _parse_batch(answer.body.decode("utf-8", "replace"), keys)

    def _delete_request(self, key: str, credentials: AzureCredentials) -> str:
        target, headers = self._authorized(f"{self._root}/{quote(key, safe='/')}", "", credentials)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"DELETE {target} HTTP/1.1\r\n{lines}Content-Length: 0\r\n\r\n"

    def delete_one(self, key: str) -> None:
        self.send("DELETE", key, status=202)

    def object_lock(self, key: str) -> ObjectLock | None:
        """Return the lock of a blob version or a container (REST API, "Get Blob Properties", "Get Container
        Properties").

        The time of a retention policy on the whole container can't be learned here; the service refuses such a deletion
        itself.
        """
        headers = object_headers(self.send("HEAD", key))
        if headers.get("x-ms-legal-hold", "").lower() == "true" or self._container_is_held():
            return ObjectLock(key, "under legal hold")
        until = headers.get("x-ms-immutability-policy-until-date")
        if until:
            moment = parsedate_to_datetime(until)
            if moment > datetime.now(UTC):
                mode = headers.get("x-ms-immutability-policy-mode", "").lower()
                how = f" ({mode} policy)" if mode else ""
                return ObjectLock(key, f"retained until {moment:%Y-%m-%dT%H:%M:%SZ}{how}", moment)
        return None

    def _container_is_held(self) -> bool:
        if self._held is None:
            headers = object_headers(self.send("HEAD", "", _CONTAINER))
            self._held = headers.get("x-ms-has-legal-hold", "").lower() == "true"
        return self._held

    def properties(self, key: str) -> Mapping[str, str]:
        """Return the headers that tell of a blob, or of the container if ``key`` is empty."""
        return object_headers(self.send("HEAD", key, None if key else _CONTAINER))

    def check(self, prefix: str) -> None:
        query = {"restype": "container", "comp": "list", "prefix": prefix, "maxresults": "1"}
        self._page(self.send("GET", "", query).body, prefix)

    def create_bucket(self) -> None:
        try:
            self.send("PUT", "", _CONTAINER)
        except RequestFailedError as error:
            if error.failure.code != "ContainerAlreadyExists":
                raise

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        key: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
        *,
        status: int | None = None,
    ) -> Response:
        """Return the answer to a request about ``key``; raise ``RequestFailedError`` unless it is one of success.

        ``status``: the only one by which the service says that it has done this; another one is something else's.
        """
        path = f"{self._root}/{quote(key, safe='/')}" if key else self._root
        credentials = self._credentials()
        if query == _CONTAINER and credentials.account_sas is not None:
            credentials = replace(credentials, sas=credentials.account_sas)
        target, extra = self._authorized(path, urlencode(query or {}, quote_via=quote), credentials)
        extra["content-length"] = str(sum(map(len, body)) if isinstance(body, list) else len(body))
        response = self._http.request(method, target, {**(headers or {}), **extra}, body)
        if response.status >= 300:
            raise RequestFailedError(
                from_answer(response.status, response.body, response.headers.get("x-ms-error-code", ""))
            )
        if status is not None and response.status != status:
            raise RequestFailedError(unreadable("an object store's", response.body))
        return response

    @staticmethod
    def _authorized(path: str, query: str, credentials: AzureCredentials) -> tuple[str, dict[str, str]]:
        headers = {"x-ms-version": SAS_VERSION, "x-ms-date": formatdate(usegmt=True)}
        if credentials.sas is not None:
            query = "&".join(part for part in (query, credentials.sas) if part)
        else:
            headers["authorization"] = f"Bearer {credentials.token}"
        return f"{path}?{query}" if query else path, headers


def _blob(entry: Document) -> ObjectInfo:
    properties = entry.first("Properties")
    fields = properties.fields() if properties is not None else {}
    etag = fields.get("Etag")
    modified = fields.get("Last-Modified")
    return ObjectInfo(
        _name(entry),
        int(fields["Content-Length"]),
        # Listings leave out the quotes that the header has.
        f'"{etag.strip(chr(34))}"' if etag else None,
        parsedate_to_datetime(modified) if modified else None,
    )


def _name(entry: Document) -> str:
    """Return the name of a blob; one that XML can't hold comes percent-encoded and says so."""
    name = entry.first("Name")
    if name is None:
        raise KeyError("Name")
    return unquote(name.text()) if name.attribute("Encoded") == "true" else name.text()


def _parse_batch(text: str, keys: list[str]) -> dict[str, str]:
    """Return the keys that were refused; a blob that is gone already counts as deleted.

    A key that the answer doesn't speak of wasn't deleted, as far as anyone knows.
    """
    failures = dict.fromkeys(keys, "the answer to the batch doesn't mention it")
    for part in re.split(r"Content-ID:\s*", text)[1:]:
        number = re.match(r"\d+", part)
        status = re.search(r"HTTP/1\.1 (\d{3})", part)
        code = re.search(r"x-ms-error-code:\s*(\S+)", part, re.IGNORECASE) or re.search("<Code>([^<]+)", part)
        if code is not None and code[1] == "ContainerNotFound":
            raise RequestFailedError(Failure(404, code[1]))
        if number is None or status is None or int(number[0]) >= len(keys):
            continue
        key = keys[int(number[0])]
        if status[1] in ("202", "404"):
            failures.pop(key, None)
        else:
            failures[key] = f"{status[1]} {code[1] if code else ''}".strip()
    if len(failures) == len(keys) and not re.search(r"HTTP/1\.1 \d{3}", text):
        raise RequestFailedError(unreadable("one to a batch", text.encode()))
    return failures
