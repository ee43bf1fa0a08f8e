"""An HTTP proxy in front of a real store that spoils chosen requests: refuses, drops, cuts, delays, changes or answers
them itself.

Requests that no fault matches reach the store unchanged (with their own Host header, so that signatures stay valid).
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.support.http_server import HttpServer


@dataclass(frozen=True)
class Answer:
    """The answer of a store, to be changed; ``length`` is what Content-Length says, if not the truth."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    length: int | None = None


@dataclass
class Fault:
    """What happens to the next ``times`` requests of ``method`` whose path contains ``path``."""

    method: str = ""
    """Any method if empty."""
    path: str = ""
    times: int = 1
    status: int | None = None
    """Answer this status instead of asking the store."""
    body: bytes | Callable[[SeenRequest], bytes] = b""
    """What to answer with ``status``; a function makes it of the request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    """Close the connection without an answer."""
    reset: bool = False
    """The same by a reset (RST), while the client may still be sending."""
    lose_answer: bool = False
    """Let the store do it, then close the connection without an answer."""
    change: Callable[[Answer], Answer] | None = None
    """Let the store do it, and send what becomes of its answer."""
    drip: float = 0.0
    """Seconds that the body of the store's answer takes, in twenty pieces."""
    cut: int | None = None
    """Close the connection after so many bytes of the store's answer."""
    delay: float = 0.0
    """Seconds to wait first."""
    alter: bool = False
    """Flip a bit in the middle of the request's body."""
    before: Callable[[], object] = lambda: None
    """Is called when the request is there, before anything else happens."""
    only_if: Callable[[SeenRequest], bool] = lambda request: True


@dataclass(frozen=True)
class SeenRequest:
    """A request as it came in; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int
    body: bytes

    def holds(self, text: str) -> bool:
        """Tell whether ``text`` is in the path, as it is or percent-decoded."""
        return text in self.path or text in unquote(self.path)


class FaultProxy:
    """The running proxy: ``endpoint`` is its address, ``seen`` what came in, ``add`` puts a fault in place."""

    def __init__(self, upstream: str, *, host: str | None = None, keep_bodies: bool = False) -> None:
        """``host`` replaces the Host header, for stores that look at it."""
        self.upstream = urlsplit(upstream).netloc
        self.host = host
        self.keep_bodies = keep_bodies
        self.seen: list[SeenRequest] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = HttpServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.seen.clear()

    def requests(self, method: str, path: str = "") -> list[SeenRequest]:
        """Return the requests seen so far of this method whose path contains ``path``."""
        return [request for request in self.seen if request.method == method and request.holds(path)]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: SeenRequest) -> Fault | None:
        """Note the request and return the fault that hits it."""
        with self._lock:
            self.seen.append(request)
            for fault in self._faults:
                matches = fault.method in ("", request.method) and request.holds(fault.path)
                if fault.times > 0 and matches and fault.only_if(request):
                    fault.times -= 1
                    return fault
        return None


@contextlib.contextmanager
def fault_proxy(upstream: str, *, host: str | None = None, keep_bodies: bool = False) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream, host=host, keep_bodies=keep_bodies)
    try:
        yield proxy
    finally:
        proxy.stop()


def altered(body: bytes) -> bytes:
    """Return the body with one bit flipped in its middle."""
    middle = len(body) // 2
    return body and body[:middle] + bytes([body[middle] ^ 0x10]) + body[middle + 1 :]


def alter_answer(answer: Answer) -> Answer:
    """For ``Fault.change``: flip a bit in the middle of the body."""
    return replace(answer, body=altered(answer.body))


def without_content(answer: Answer) -> Answer:
    """Take away the content, and the headers that would tell."""
    told = ("content-length", "content-range", "content-md5", "x-goog-hash", "x-goog-stored-content-length")
    headers = tuple((name, value) for name, value in answer.headers if name.lower() not in told)
    return replace(answer, status=200, headers=headers, body=b"")


def with_etag(etag: str) -> Callable[[Answer], Answer]:
    """For ``Fault.change``: put another ETag in the place of the store's."""

    def change(answer: Answer) -> Answer:
        headers = tuple((name, etag if name.lower() == "etag" else value) for name, value in answer.headers)
        return replace(answer, headers=headers)

    return change


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._read_body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept = body if proxy.keep_bodies else b""
            seen = SeenRequest(self.command, self.path, headers, len(body), kept)
            fault = proxy.take(seen)
            if fault is None:
                self._forward(body)
                return
            fault.before()
            time.sleep(fault.delay)
            if fault.status is not None:
                answer = fault.body(seen) if callable(fault.body) else fault.body
                self._answer(fault.status, fault.headers, answer)
            elif fault.drop or fault.reset:
                self._hang_up(reset=fault.reset)
            elif fault.lose_answer:
                self._ask(body)
                self._hang_up()
            else:
                self._forward(altered(body) if fault.alter else body, fault)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                chunks = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = http.client.HTTPConnection(proxy.upstream, timeout=60)
            dropped = ("connection", "transfer-encoding", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            if proxy.host:
                headers["Host"] = proxy.host
            headers["Content-Length"] = str(len(body))
            try:
                connection.request(self.command, self.path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()
            finally:
                connection.close()

        def _forward(self, body: bytes, fault: Fault | None = None) -> None:
            status, headers, content = self._ask(body)
            length = next((v for k, v in headers if k.lower() == "content-length" and self.command == "HEAD"), None)
            answer = Answer(status, tuple(headers), content, int(length) if length else None)
            if fault is not None and fault.change is not None:
                answer = fault.change(answer)
            self.send_response(answer.status)
            for name, value in answer.headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            length = str(len(answer.body) if answer.length is None else answer.length)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self._send(answer.body if fault is None else answer.body[: fault.cut], fault.drip if fault else 0.0)
            if fault is not None and (fault.cut is not None or answer.length is not None):
                self._hang_up()

        def _send(self, content: bytes, seconds: float) -> None:
            if not seconds:
                self.wfile.write(content)
                return
            step = max(1, -(-len(content) // 20))
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                self.wfile.flush()
                time.sleep(seconds / 20)

        def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _hang_up(self, *, reset: bool = False) -> None:
            self.wfile.flush()
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
