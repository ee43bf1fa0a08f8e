"""The requests to Google Cloud Storage that obstore has no verb for (JSON API, version 1)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from uuid import uuid4

from barman_cloud.errors import ConfigurationError, IntegrityError
from barman_cloud.store.base import Buffer, ObjectInfo, ObjectLock
from barman_cloud.store.bucket_api import LISTING, Attributes, Page
from barman_cloud.store.clients import READ_TIMEOUT
from barman_cloud.store.failures import Failure, RequestFailedError, from_answer, unreadable
from barman_cloud.store.google.keys import GoogleSource
from barman_cloud.store.http import Body, HttpClient, Response
from barman_cloud.store.integrity import md5_of
from barman_cloud.store.object_answers import cut_range, object_in

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline
    from barman_cloud.store.google.settings import GoogleSettings

_LIST_FIELDS = "kind,nextPageToken,prefixes,items(name,bucket,size,md5Hash,updated)"


class GoogleApi:
    """Requests to one bucket. Every method makes one request and raises ``RequestFailedError`` when it fails."""

    def __init__(
        self,
        settings: GoogleSettings,
        credentials: GoogleSource,
        environ: Mapping[str, str],
        deadline: Deadline | None = None,
    ) -> None:
        self._settings = settings
        self._credentials = credentials
        self._bucket = f"/storage/v1/b/{quote(settings.bucket, safe='')}"
        self._http = HttpClient(
            settings.endpoint, ca_file=settings.ca_file, timeout=READ_TIMEOUT, environ=environ, deadline=deadline
        )

    def list_page(self, prefix: str, *, delimiter: str, start_after: str | None, token: str | None) -> Page:
        query = {"prefix": prefix, "maxResults": "1000", "fields": _LIST_FIELDS}
        if delimiter:
            query["delimiter"] = delimiter
        if start_after:
            query["startOffset"] = start_after
        if token:
            query["pageToken"] = token
        return self._page(self._send("GET", f"{self._bucket}/o", query).body, prefix)

    def _page(self, body: bytes, prefix: str) -> Page:
        """Read an answer to "Objects: list", and make sure that it is one about this bucket and prefix."""
        answer = _object(body, LISTING)
        try:
            items = answer.get("items", [])
            own = all(item.get("bucket", self._settings.bucket) == self._settings.bucket for item in items)
            if answer.get("kind") != "storage#objects" or not own:
                raise RequestFailedError(unreadable(LISTING, body))
            objects = tuple(_info(item) for item in items)
            return Page(objects, tuple(answer.get("prefixes", ())), answer.get("nextPageToken")).checked(prefix, body)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise RequestFailedError(unreadable(LISTING, body)) from error

    def get(self, key: str) -> bytes:
        answer = self._send("GET", self._object(key), {"alt": "media"})
        body = object_in(answer)
        told = dict(part.strip().split("=", 1) for part in answer.headers.get("x-goog-hash", "").split(",") if part)
        if "md5" in told and told["md5"] != _md5(body):
            raise IntegrityError(f"gs://{self._settings.bucket}/{key} has another checksum than it was stored with")
        return body

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        headers = {"range": f"bytes={start}-{end - 1}"}
        return cut_range(self._send("GET", self._object(key), {"alt": "media"}, headers), start, end)

    def head(self, key: str) -> ObjectInfo:
        return self._resource(key)[0]

    def _resource(self, key: str) -> tuple[ObjectInfo, dict[str, Any]]:
        """Return the metadata of an object, and make sure that they are this object's."""
        body = self._send("GET", self._object(key)).body
        what = "the metadata of this object"
        answer = _object(body, what)
        try:
            info = _info(answer)
        except (KeyError, ValueError, TypeError) as error:
            raise RequestFailedError(unreadable(what, body)) from error
        if info.key != key:
            raise RequestFailedError(unreadable(what, body))
        return info, answer

    def put(self, key: str, data: Buffer, *, if_absent: bool, attributes: Attributes) -> None:
        metadata = {**attributes.metadata, **(attributes.tags or {})}
        resource: dict[str, Any] = {"name": key, "metadata": metadata, "md5Hash": _md5(data)}
        if attributes.storage_class:
            resource["storageClass"] = attributes.storage_class
        if self._settings.kms_key_name:
            resource["kmsKeyName"] = self._settings.kms_key_name
        boundary = uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
        head += f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        body = head.encode() + bytes(data) + f"\r\n--{boundary}--\r\n".encode()
        query = {"uploadType": "multipart", **({"ifGenerationMatch": "0"} if if_absent else {})}
        headers = {"content-type": f"multipart/related; boundary={boundary}"}
        try:
            answer = self._send("POST", f"/upload{self._bucket}/o", query, headers, body).body
            if _object(answer, "one to an upload").get("name") != key:
                raise RequestFailedError(unreadable("one to an upload", answer))
        except RequestFailedError as error:
            if if_absent and error.failure.status == 412:
                raise RequestFailedError(Failure(409, exists=True)) from error
            raise

    def delete_one(self, key: str) -> None:
        answer = self._send("DELETE", self._object(key)).body
        if answer.strip() not in (b"", b"null"):
            raise RequestFailedError(unreadable("an object store's", answer))

    def object_lock(self, key: str) -> ObjectLock | None:
        """Return the lock that the object's metadata tell (Cloud Storage, "Object holds", "Object Retention Lock")."""
        answer = self._resource(key)[1]
        if answer.get("temporaryHold"):
            return ObjectLock(key, "under a temporary hold")
        if answer.get("eventBasedHold"):
            return ObjectLock(key, "under an event-based hold")
        times = (answer.get("retentionExpirationTime"), answer.get("retention", {}).get("retainUntilTime"))
        until = max((datetime.fromisoformat(text) for text in times if text), default=None)
        if until is not None and until > datetime.now(UTC):
            return ObjectLock(key, f"retained until {until.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}", until)
        return None

    def bucket(self) -> dict[str, Any]:
        """Return the resource of the bucket; needs ``storage.buckets.get``."""
        return _object(self._send("GET", self._bucket).body, "the bucket's configuration")

    def check(self, prefix: str) -> None:
        query = {"prefix": prefix, "maxResults": "1", "fields": _LIST_FIELDS}
        self._page(self._send("GET", f"{self._bucket}/o", query).body, prefix)

    def create_bucket(self) -> None:
        if self._settings.project is None and self._settings.endpoint.startswith("https://"):
            raise ConfigurationError(
                f"gs://{self._settings.bucket}: no project to create the bucket in", hint="set GOOGLE_CLOUD_PROJECT"
            )
        body = json.dumps({"name": self._settings.bucket}).encode()
        query = {"project": self._settings.project or "test"}
        try:
            self._send("POST", "/storage/v1/b", query, {"content-type": "application/json"}, body)
        except RequestFailedError as error:
            if error.failure.status != 409:
                raise

    def close(self) -> None:
        self._http.close()

    def send_xml(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Body = b""
    ) -> Response:
        """Make a request of the XML API, which the parts of an upload need."""
        return self._send(method, f"/{quote(self._settings.bucket, safe='')}/{quote(key)}", query, headers, body)

    def _object(self, key: str) -> str:
        return f"{self._bucket}/o/{quote(key, safe='')}"

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = b"",
    ) -> Response:
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {
            "authorization": f"Bearer {self._credentials().token}",
            "content-length": str(sum(map(len, body)) if isinstance(body, list) else len(body)),
            **(headers or {}),
        }
        response = self._http.request(method, target, sent, body)
        if response.status >= 300:
            raise RequestFailedError(from_answer(response.status, response.body))
        return response


def _md5(data: Buffer) -> str:
    return base64.b64encode(bytes.fromhex(md5_of([data]))).decode()


def _object(body: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object in an answer that should be ``what``."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestFailedError(unreadable(what, body)) from error
    if not isinstance(answer, dict):
        raise RequestFailedError(unreadable(what, body))
    return answer


def _info(item: Mapping[str, Any]) -> ObjectInfo:
    md5 = item.get("md5Hash")
    updated = item.get("updated")
    return ObjectInfo(
        item["name"],
        int(item["size"]),
        # The ETag that the XML API gives to objects that were put whole.
        f'"{base64.b64decode(md5).hex()}"' if md5 else None,
        datetime.fromisoformat(updated) if updated else None,
    )
