"""A store in memory that answers the S3 requests of catalog commands, however many objects it holds, and counts them.

Listing 200,000 objects with the other stores at hand would mostly measure how they walk directories. Every answer is
held back for LATENCY, about what a cloud takes, so that commands are compared by the requests that they wait for.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import re
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.sax.saxutils import escape

LATENCY = 0.005
PAGE = 1000


class CountingStore:
    """Objects by key, and how often each kind of request was made."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.latency = LATENCY
        self._keys: list[str] | None = None

    def keys(self) -> list[str]:
        """Return all keys in order."""
        if self._keys is None:
            self._keys = sorted(self.objects)
        return self._keys

    def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data
        self._keys = None

    def delete(self, keys: list[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)
        self._keys = None

    def page(self, prefix: str, delimiter: str, after: str, limit: int) -> tuple[list[str], list[str], str]:
        """Return keys, common prefixes, and the last name given if there is more after it, else an empty text."""
        keys = self.keys()
        found: list[str] = []
        prefixes: list[str] = []
        position = bisect.bisect_left(keys, prefix)
        if after:
            # A common prefix stands for everything below it.
            position = max(position, bisect.bisect_right(keys, after + ("\U0010ffff" if after.endswith("/") else "")))
        last = ""
        while position < len(keys) and keys[position].startswith(prefix):
            if len(found) + len(prefixes) == limit:
                return found, prefixes, last
            key = keys[position]
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                last = key[: end + 1]
                prefixes.append(last)
                position = bisect.bisect_right(keys, last + "\U0010ffff")
            else:
                last = key
                found.append(key)
                position += 1
        return found, prefixes, ""


@contextlib.contextmanager
def counting_store(latency: float = LATENCY) -> Iterator[tuple[CountingStore, str]]:
    """Serve an empty store, which holds each answer back for ``latency`` seconds, and yield it with its endpoint."""
    store = CountingStore()
    store.latency = latency

    class Handler(_Handler):
        pass

    Handler.store = store
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Path-style S3 of any bucket: GET, HEAD, PUT, DELETE of objects, ListObjects in both versions, DeleteObjects."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    store: CountingStore

    def do_GET(self) -> None:
        key, query = self._target()
        if key:
            self._send_object(key, "GET")
        elif "location" in query:
            self._answer("other", 200, b"<LocationConstraint/>")
        else:
            self._list(query)

    def do_HEAD(self) -> None:
        key, _ = self._target()
        if key:
            self._send_object(key, "HEAD")
        else:
            self._answer("HEAD", 200)

    def do_PUT(self) -> None:
        key, _ = self._target()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        with self.store.lock:
            refused = self.headers.get("If-None-Match") == "*" and key in self.store.objects
            if not refused:
                self.store.put(key, data)
        if refused:
            self._answer("PUT, exists", 412, b"<Error><Code>PreconditionFailed</Code><Message>exists</Message></Error>")
        else:
            self._answer("PUT", 200, etag=_etag(data))

    def do_DELETE(self) -> None:
        key, _ = self._target()
        with self.store.lock:
            self.store.delete([key])
        self._answer("DELETE", 204)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        keys = [_unescape(key) for key in re.findall(r"<Key>(.*?)</Key>", body)]
        with self.store.lock:
            self.store.delete(keys)
        quiet = "<Quiet>true</Quiet>" in body
        deleted = "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self._answer("DELETE of many", 200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after") or query.get("marker") or ""
        with self.store.lock:
            keys, prefixes, following = self.store.page(prefix, delimiter, after, int(query.get("max-keys") or PAGE))
            sizes = {key: len(self.store.objects[key]) for key in keys}
        encode = urllib.parse.quote if query.get("encoding-type") == "url" else escape
        parts = [
            f"<Contents><Key>{encode(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>&quot;0&quot;</ETag><Size>{sizes[key]}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in keys
        ]
        parts += [f"<CommonPrefixes><Prefix>{encode(name)}</Prefix></CommonPrefixes>" for name in prefixes]
        parts.append(f"<Name>bucket</Name><Prefix>{encode(prefix)}</Prefix><MaxKeys>{PAGE}</MaxKeys>")
        parts.append(
            f"<KeyCount>{len(keys) + len(prefixes)}</KeyCount><IsTruncated>{str(bool(following)).lower()}</IsTruncated>"
        )
        if following:
            parts.append(f"<NextContinuationToken>{escape(following)}</NextContinuationToken>")
            parts.append(f"<NextMarker>{encode(following)}</NextMarker>")
        if query.get("encoding-type") == "url":
            parts.append("<EncodingType>url</EncodingType>")
        self._answer("LIST", 200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode())

    def _send_object(self, key: str, kind: str) -> None:
        data = self.store.objects.get(key)
        if data is None:
            error = f"<Error><Code>NoSuchKey</Code><Message>none</Message><Key>{escape(key)}</Key></Error>"
            self._answer(f"{kind}, not there", 404, error.encode())
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not part:
            self._answer(kind, 200, data, etag=_etag(data))
            return
        start, end = int(part[1]), min(int(part[2] or len(data)) + 1, len(data))
        self._answer(kind, 206, data[start:end], etag=_etag(data), content_range=f"bytes {start}-{end - 1}/{len(data)}")

    def _target(self) -> tuple[str, dict[str, str]]:
        parsed = urllib.parse.urlsplit(self.path)
        _, _, key = urllib.parse.unquote(parsed.path).removeprefix("/").partition("/")
        return key, dict(urllib.parse.parse_qsl(parsed.query, keep_blank_values=True))

    def _answer(self, kind: str, status: int, body: bytes = b"", *, etag: str = "", content_range: str = "") -> None:
        time.sleep(self.store.latency)
        with self.store.lock:
            self.store.requests[kind] += 1
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/xml" if body.startswith(b"<") else "binary/octet-stream")
        if etag:
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        pass


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _unescape(text: str) -> str:
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        text = text.replace(entity, character)
    return text
