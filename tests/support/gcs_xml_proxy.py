"""The XML API of Google Cloud Storage in front of fake-gcs-server, which has only the JSON API for writes.

obstore writes through the XML API. This front takes those requests (PUT of an object, multipart uploads, DELETE),
keeps the parts of unfinished uploads in memory, and hands every finished object to fake-gcs-server through its JSON
API, with custom metadata, storage class, KMS key name and the precondition on the generation. All others go through
unchanged, so that what was written is read back, listed and deleted by the real fake-gcs-server. Sources: Cloud
Storage XML API reference, "PUT Object", "Multipart uploads", "x-goog-hash"; JSON API reference, "Objects: insert".
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from crc32c import crc32c

from tests.support.http_server import HttpServer
from tests.support.servers import StoreServer

_METADATA = "x-goog-meta-"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
"""Of the documents about multipart uploads; errors have none."""


@dataclass
class Upload:
    """A multipart upload that isn't finished."""

    bucket: str
    key: str
    headers: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)
    began: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


class GcsXmlProxy:
    """The running front; ``uploads`` holds what was neither completed nor aborted."""

    def __init__(self, server: StoreServer) -> None:
        self.upstream = urlsplit(server.endpoint).netloc
        self.uploads: dict[str, Upload] = {}
        self.numbers = itertools.count(1)
        self.lock = threading.Lock()
        self._server = HttpServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Make a request to fake-gcs-server."""
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            sent = {**headers, "Host": self.upstream, "Content-Length": str(len(body))}
            connection.request(method, target, body=body, headers=sent)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def insert(self, bucket: str, key: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, object]]:
        """Write an object through the JSON API; return its status and resource."""
        metadata = {k[len(_METADATA) :]: v for k, v in headers.items() if k.startswith(_METADATA)}
        resource = {"name": key, "metadata": metadata}
        if storage_class := headers.get("x-goog-storage-class"):
            resource["storageClass"] = storage_class
        if name := headers.get("x-goog-encryption-kms-key-name"):
            resource["kmsKeyName"] = name
        query = "uploadType=multipart"
        if generation := headers.get("x-goog-if-generation-match"):
            query += f"&ifGenerationMatch={generation}"
        boundary = hashlib.sha256(body).hexdigest()
        content = (
            f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        content += body + f"\r\n--{boundary}--\r\n".encode()
        sent = {"Content-Type": f"multipart/related; boundary={boundary}"}
        status, _, answer = self.ask("POST", f"/upload/storage/v1/b/{quote(bucket)}/o?{query}", sent, content)
        try:
            return status, json.loads(answer)
        except ValueError:
            return status, {}


@contextlib.contextmanager
def gcs_xml_proxy(server: StoreServer) -> Iterator[tuple[StoreServer, GcsXmlProxy]]:
    """Yield the server as it is seen through the front, and the front."""
    proxy = GcsXmlProxy(server)
    try:
        yield replace(server, endpoint=proxy.endpoint, environ={"STORAGE_EMULATOR_HOST": proxy.endpoint}), proxy
    finally:
        proxy.stop()


def _handler(proxy: GcsXmlProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            json_api = parts.path.startswith(("/storage/v1/", "/upload/", "/download/", "/batch/"))
            bucket, _, key = parts.path.lstrip("/").partition("/")
            bucket, key = unquote(bucket), unquote(key)
            if self.command == "GET" and not json_api and "uploads" in query:
                self._list_uploads(bucket, query.get("prefix", [""])[0])
            elif self.command == "GET" and "uploadId" in query:
                self._list_parts(query["uploadId"][0])
            elif json_api or not key or self.command in ("GET", "HEAD"):
                self._forward(body)
            elif self.command == "POST" and "uploads" in query:
                self._initiate(bucket, key, headers)
            elif self.command == "PUT" and not _matches(headers, body):
                self._error(400, "BadDigest", "The MD5 or CRC32C you specified did not match what we received.")
            elif "uploadId" in query:
                self._multipart(query["uploadId"][0], query, body)
            elif self.command == "PUT":
                self._put(bucket, key, headers, body)
            elif self.command == "DELETE":
                target = f"/storage/v1/b/{quote(bucket)}/o/{quote(key, safe='')}"
                self._answer(proxy.ask("DELETE", target, {})[0])
            else:
                self._error(400, "InvalidArgument", "not a request of the XML API")

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

        def _put(self, bucket: str, key: str, headers: Mapping[str, str], body: bytes) -> None:
            status, resource = proxy.insert(bucket, key, headers, body)
            self._inserted(status, resource, body)

        def _initiate(self, bucket: str, key: str, headers: Mapping[str, str]) -> None:
            if proxy.ask("GET", f"/storage/v1/b/{quote(bucket)}", {})[0] == 404:
                self._error(404, "NoSuchBucket", "The specified bucket does not exist.")
                return
            with proxy.lock:
                upload_id = f"upload-{next(proxy.numbers)}"
                proxy.uploads[upload_id] = Upload(bucket, key, headers)
            content = f"<Bucket>{escape(bucket)}</Bucket><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
            self._answer(200, _document("InitiateMultipartUploadResult", content, _NAMESPACE))

        def _multipart(self, upload_id: str, query: Mapping[str, list[str]], body: bytes) -> None:
            upload = proxy.uploads.get(upload_id)
            if upload is None:
                self._error(404, "NoSuchUpload", "The specified upload does not exist.")
            elif self.command == "PUT":
                upload.parts[int(query["partNumber"][0])] = body
                self._answer(200, headers=_digests(body))
            elif self.command == "DELETE":
                del proxy.uploads[upload_id]
                self._answer(204)
            else:
                self._complete(upload_id, upload, body.decode())

        def _list_uploads(self, bucket: str, prefix: str) -> None:
            with proxy.lock:
                found = sorted((u.key, number, u.began) for number, u in proxy.uploads.items() if u.bucket == bucket)
            uploads = "".join(
                f"<Upload><Key>{quote(key)}</Key><UploadId>{number}</UploadId><Initiated>{began}</Initiated></Upload>"
                for key, number, began in found
                if key.startswith(prefix)
            )
            head = f"<Bucket>{escape(bucket)}</Bucket><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
            self._answer(200, _document("ListMultipartUploadsResult", head + uploads, _NAMESPACE))

        def _list_parts(self, upload_id: str) -> None:
            upload = proxy.uploads.get(upload_id)
            if upload is None:
                self._error(404, "NoSuchUpload", "The specified upload does not exist.")
                return
            parts = "".join(
                f"<Part><PartNumber>{number}</PartNumber><Size>{len(data)}</Size></Part>"
                for number, data in sorted(upload.parts.items())
            )
            self._answer(200, _document("ListPartsResult", f"<IsTruncated>false</IsTruncated>{parts}", _NAMESPACE))

        def _complete(self, upload_id: str, upload: Upload, listed: str) -> None:
            numbers = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", listed)]
            etags = re.findall(r"<ETag>(?:&quot;|\")?([0-9a-f]+)", listed)
            right = [hashlib.md5(upload.parts.get(number, b"")).hexdigest() for number in numbers]
            if not numbers or etags != right or numbers != sorted(set(numbers)):
                self._error(400, "InvalidPart", "a listed part isn't there")
                return
            data = b"".join(upload.parts[number] for number in numbers)
            status, resource = proxy.insert(upload.bucket, upload.key, upload.headers, data)
            if status == 200:
                del proxy.uploads[upload_id]
                names = f"<Bucket>{escape(upload.bucket)}</Bucket><Key>{escape(upload.key)}</Key>"
                etag = f"<ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag>"
                # Google computes no MD5 of an object made of parts, and tells its CRC32C.
                headers = {"x-goog-hash": f"crc32c={_crc32c(data)}"}
                self._answer(200, _document("CompleteMultipartUploadResult", names + etag, _NAMESPACE), headers)
            else:
                self._inserted(status, resource, data)

        def _inserted(self, status: int, resource: Mapping[str, object], data: bytes) -> None:
            if status == 200:
                generation = str(resource.get("generation", 1))
                self._answer(200, headers={**_digests(data), "x-goog-generation": generation})
            elif status == 412:
                self._error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
            elif status == 404:
                self._error(404, "NoSuchBucket", "The specified bucket does not exist.")
            else:
                self._error(status, "InternalError", "fake-gcs-server refused the object")

        def _forward(self, body: bytes) -> None:
            dropped = ("host", "connection", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            status, answered, content = proxy.ask(self.command, self.path, headers, body)
            kept = {k: v for k, v in answered if k.lower() not in ("content-length", "connection", "transfer-encoding")}
            length = next((v for k, v in answered if k.lower() == "content-length"), str(len(content)))
            self._answer(status, content, kept, length if self.command == "HEAD" else str(len(content)))

        def _error(self, status: int, code: str, message: str) -> None:
            self._answer(status, _document("Error", f"<Code>{code}</Code><Message>{message}</Message>"))

        def _answer(
            self,
            status: int,
            body: bytes = b"",
            headers: Mapping[str, str] | None = None,
            length: str | None = None,
        ) -> None:
            self.send_response_only(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _crc32c(data: bytes) -> str:
    return base64.b64encode(crc32c(data).to_bytes(4)).decode()


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data).digest()).decode()


def _digests(data: bytes) -> dict[str, str]:
    """What Google answers to every PUT: the ETag, and both checksums of what it received."""
    etag = f'"{hashlib.md5(data).hexdigest()}"'
    return {"ETag": etag, "x-goog-hash": f"crc32c={_crc32c(data)},md5={_md5(data)}"}


def _matches(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a body is what its sender says: Content-MD5, and either checksum in x-goog-hash."""
    said = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if "=" in part)
    if "content-md5" in headers:
        said["md5"] = headers["content-md5"]
    return said.get("crc32c", _crc32c(body)) == _crc32c(body) and said.get("md5", _md5(body)) == _md5(body)


def _document(name: str, content: str, namespace: str = "") -> bytes:
    attribute = f" xmlns='{namespace}'" if namespace else ""
    return f"<?xml version='1.0' encoding='UTF-8'?><{name}{attribute}>{content}</{name}>".encode()
