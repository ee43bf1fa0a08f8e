"""A small HTTP client for the requests that obstore has no verb for.

It keeps connections open between requests, goes through the proxy that the usual variables name, and trusts a private
CA. It is imported only when such a request is made: loading it takes longer than a PUT through obstore.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.base import Buffer
from barman_cloud.store.clients import CONNECT_TIMEOUT
from barman_cloud.store.failures import Failure, RequestFailedError
from barman_cloud.store.upload import slices

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline

Body: TypeAlias = Buffer | list[Buffer]
"""What is sent: a buffer, or several one after the other."""

_PIECE = 256 << 10
"""Bytes that are sent or received between two notes of the progress."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read completely; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Makes requests to one server. May be used by several threads at once."""

    def __init__(
        self,
        base_url: str,
        *,
        ca_file: str | None,
        timeout: float,
        environ: Mapping[str, str],
        connect_timeout: float = CONNECT_TIMEOUT,
        deadline: Deadline | None = None,
    ) -> None:
        """``base_url`` has scheme and host (its path is ignored); ``timeout``: seconds between bytes.

        ``deadline`` is told of the bytes that are on their way; who calls keeps it.
        """
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._timeout = timeout if deadline is None else deadline.silence(timeout)
        self._connect_timeout = connect_timeout if deadline is None else deadline.silence(connect_timeout)
        self._deadline = deadline
        self._tls = tls_context(ca_file) if self._secure else None
        self._proxy = proxy_for(parts.scheme, self._host, environ)
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = Lock()

    def request(self, method: str, target: str, headers: Mapping[str, str], body: Body = b"") -> Response:
        """Send one request and read its whole answer, whatever its status; raise ``RequestFailedError`` if none
        comes.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is not None:
                try:
                    return self._exchange(connection, method, target, headers, body)
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    pass  # The server closed the idle connection, as it may at any time: retry on a new connection.
            return self._exchange(self._connect(), method, target, headers, body)
        except ssl.SSLCertVerificationError as error:
            raise RequestFailedError(Failure(None, message=error.verify_message, certificate=True)) from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailedError(Failure(None, message=_reason(error))) from error

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
    ) -> Response:
        if self._proxy and not self._secure:
            target = f"http://{self._host}:{self._port}{target}"
        parts = [memoryview(part).cast("B") for part in (body if isinstance(body, list) else [body])]
        try:
            sent = dict(headers)
            if size := sum(map(len, parts)):
                sent.setdefault("content-length", str(size))
            connection.request(method, target, body=self._pieces(parts) if size else None, headers=sent)
            answer = connection.getresponse()
            headers_received = {k.lower(): v for k, v in answer.getheaders()}
            response = Response(answer.status, headers_received, self._receive(answer))
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return response

    def _pieces(self, parts: Sequence[memoryview]) -> Iterator[Buffer]:
        for part in parts:
            for piece in slices(part, _PIECE):
                yield piece
                self._note(len(piece))

    def _receive(self, answer: http.client.HTTPResponse) -> bytes:
        pieces = []
        while piece := answer.read(_PIECE):
            self._note(len(piece))
            pieces.append(piece)
        if answer.length:
            # Reading by the piece doesn't raise it, reading everything at once does.
            raise http.client.IncompleteRead(b"", answer.length)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _note(self, size: int) -> None:
        if self._deadline is not None:
            self._deadline.moved(size)

    def _connect(self) -> http.client.HTTPConnection:
        host, port = (self._host, self._port) if self._proxy is None else self._proxy
        connection: http.client.HTTPConnection
        if self._tls is not None:
            connection = http.client.HTTPSConnection(host, port, timeout=self._connect_timeout, context=self._tls)
            if self._proxy:
                connection.set_tunnel(self._host, self._port)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._connect_timeout)
        connection.connect()
        connection.sock.settimeout(self._timeout)
        return connection


def cut_range(answer: Response, start: int, end: int) -> tuple[memoryview, int, str | None]:
    """Return bytes, whole size and ETag from the answer to a range request, also from a server that sent everything."""
    body = memoryview(answer.body)
    _, slash, size = answer.headers.get("content-range", "").rpartition("/")
    if slash and size.isdigit():
        return body, int(size), answer.headers.get("etag")
    return body[start:end], body.nbytes, answer.headers.get("etag")


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's CAs (``SSL_CERT_FILE`` included) and those in ``ca_file``."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{ca_file}: can't be used as a bundle of CA certificates ({error})") from error
    return context


def proxy_for(scheme: str, host: str, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """Return host and port of the proxy that the environment gives for ``host`` (``https_proxy``, ``no_proxy`` …)."""
    text = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not text or _excluded(host, _variable(environ, "no_proxy")):
        return None
    parts = urlsplit(text if "://" in text else f"http://{text}")
    if parts.scheme != "http" or parts.username:
        raise ConfigurationError(
            f"the proxy {parts.scheme}://{parts.hostname} can't be used for listing and deleting objects",
            hint="only plain http:// proxies without a password are supported for these requests; or set no_proxy",
        )
    return parts.hostname or "", parts.port or 80


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _excluded(host: str, no_proxy: str) -> bool:
    for entry in no_proxy.split(","):
        suffix = entry.strip().lower().lstrip(".").partition(":")[0]
        if suffix == "*" or (suffix and (host.lower() == suffix or host.lower().endswith("." + suffix))):
            return True
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
