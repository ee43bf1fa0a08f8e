"""What our own small REST servers share: routing by hand, a record of the requests, and faults on demand."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import HttpServer


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names are lower-case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """``body`` is sent as JSON, or as it is if it is bytes; None sends nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Fault:
    """Answer the next ``times`` requests that match with ``answer``; with None the connection is cut."""

    method: str
    path: str
    """A regular expression that is searched for."""
    answer: Answer | None
    times: int = 1
    after: bool = False
    """Do what the request asks before answering so."""


class RestServer(ABC):
    """A server on a free loopback port; subclasses answer requests, one at a time."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._http = HttpServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Answer one request."""

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def count(self, method: str, pattern: str) -> int:
        """Return how many requests came in with this method and a path in which the pattern is found."""
        return sum(request.method == method and bool(re.search(pattern, request.path)) for request in self.requests)

    def _respond(self, request: Request) -> Answer | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times and fault.method == request.method and re.search(fault.path, request.path):
                    fault.times -= 1
                    if fault.after:
                        self.answer(request)
                    return fault.answer
            return self.answer(request)

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {key.lower(): value for key, value in self.headers.items()}
                answer = server._respond(Request(self.command, parts.path, query, headers, body))
                if answer is None:
                    self.close_connection = True
                    return
                data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                data = b"" if answer.body is None else data
                self.send_response(answer.status)
                for key, value in {"Content-Type": "application/json", **answer.headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_arguments: object) -> None:
                pass

        return Handler
