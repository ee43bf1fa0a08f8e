"""A small HTTP client for the requests that obstore has no verb for.

It keeps connections open between requests, goes through the proxy that the usual variables name, and trusts a private
CA. It is imported only when such a request is made: loading it takes longer than a PUT through obstore.

An answer is bounded in size and in time: a server that sends without end, or a byte now and then, fails like one that
is silent.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from barman_cloud.buffers import Buffer
from barman_cloud.errors import ConfigurationError
from barman_cloud.store.clients import CONNECT_TIMEOUT
from barman_cloud.store.failures import Failure, RequestFailedError
from barman_cloud.store.upload import slices

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline

Body: TypeAlias = Buffer | list[Buffer]
"""What is sent: a buffer, or several one after the other."""

ANSWER_TIMEOUT = 300.0
"""Seconds that one answer may take to arrive, however steadily it drips."""
SLOWEST_ANSWER = 64 << 10
"""Bytes per second for which an answer is given more time: an object may be large."""
LARGEST_ANSWER = 64 << 20
"""Bytes of an answer that doesn't say how long it is."""
_PIECE = 256 << 10
"""Bytes that are sent or received between two notes of the progress."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, read completely; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Proxy(NamedTuple):
    """Where requests go first; ``authorization`` is the header that it wants, or None."""

    host: str
    port: int
    authorization: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.host!r}, {self.port})"  # the header holds a password


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
        answer_timeout: float = ANSWER_TIMEOUT,
        largest_answer: int | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """``base_url`` has scheme and host (its path is ignored).

        ``timeout``: seconds between bytes; ``answer_timeout``: seconds for a whole answer. ``largest_answer``: bytes;
        None believes an answer that says its length, and bounds one that doesn't. ``deadline`` is told of the bytes
        that are on their way; who calls keeps it.
        """
        parts = urlsplit(base_url)
        self._secure = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._secure else 80)
        self._timeout = timeout if deadline is None else deadline.silence(timeout)
        self._connect_timeout = connect_timeout if deadline is None else deadline.silence(connect_timeout)
        self._deadline = deadline
        self._answer_timeout = answer_timeout
        self._largest_answer = largest_answer
        self._tls = tls_context(ca_file) if self._secure else None
        self._proxy = proxy_for(parts.scheme, self._host, environ)
        self._idle: list[_Connection] = []
        self._lock = Lock()

    def request(self, method: str, target: str, headers: Mapping[str, str], body: Body = b"") -> Response:
        """Send one request and read its whole answer, whatever its status; raise ``RequestFailedError`` if none
        comes.
        """
        _check_sendable(target, headers)
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is not None:
                try:
                    return self._exchange(connection, method, target, headers, body)
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    pass  # The server closed the idle connection, as it may at any time; try again on a new one.
            return self._exchange(self._connect(), method, target, headers, body)
        except ssl.SSLCertVerificationError as error:
            raise RequestFailedError(Failure(None, message=error.verify_message, certificate=True)) from error
        except (OSError, http.client.HTTPException) as error:
            raise RequestFailedError(Failure(_refused_tunnel(error), message=_reason(error))) from error

    def close(self) -> None:
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
    ) -> Response:
        sent = dict(headers)
        if self._proxy and not self._secure:
            target = f"http://{self._host}:{self._port}{target}"
            if self._proxy.authorization:
                sent["proxy-authorization"] = self._proxy.authorization
        try:
            connection.limit_time(self._timeout, self._answer_timeout)
            early = self._send(connection, method, target, sent, body)
            connection.limit_time(self._timeout, self._answer_timeout)  # sending doesn't count
            answer = early or connection.getresponse()
            response = self._read(connection, answer)
        except BaseException:
            connection.close()
            raise
        if early or answer.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append(connection)
        return response

    def _read(self, connection: _Connection, answer: http.client.HTTPResponse) -> Response:
        limit = self._largest_answer or LARGEST_ANSWER
        length = answer.length  # None when the answer is sent in chunks, or ends with the connection
        if length is not None and self._largest_answer is None:
            limit = length
            connection.limit_time(self._timeout, max(self._answer_timeout, length / SLOWEST_ANSWER))
        size, pieces = 0, []
        while (length or 0) <= limit and (piece := answer.read(_PIECE)):
            self._note(len(piece))
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                break
        if max(size, length or 0) > limit:
            raise http.client.HTTPException(f"the answer has more than {limit} bytes")
        if answer.length:  # reading by the piece doesn't raise it
            raise http.client.IncompleteRead(b"", answer.length)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)

    def _send(
        self, connection: _Connection, method: str, target: str, headers: dict[str, str], body: Body
    ) -> http.client.HTTPResponse | None:
        """Send a request. A server that refuses it may answer, and close the connection, before it has read the body:
        that answer is returned, because no repetition would end otherwise.
        """
        parts = [memoryview(part).cast("B") for part in (body if isinstance(body, list) else [body])]
        if size := sum(map(len, parts)):
            headers.setdefault("content-length", str(size))
        # The time-out of a socket is that of everything that one call sends, which is a piece.
        connection.sock.settimeout(self._timeout)
        try:
            connection.request(method, target, body=self._pieces(parts) if size else None, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            with suppress(OSError, http.client.HTTPException):
                answer = connection.getresponse()
                if answer.status >= 300:
                    return answer
            raise
        return None

    def _pieces(self, parts: Sequence[memoryview]) -> Iterator[Buffer]:
        for part in parts:
            for piece in slices(part, _PIECE):
                yield piece
                self._note(len(piece))

    def _note(self, size: int) -> None:
        if self._deadline is not None:
            self._deadline.moved(size)

    def _connect(self) -> _Connection:
        host, port, authorization = self._proxy or Proxy(self._host, self._port)
        _check_host(host)
        _check_host(self._host)
        connection = _Connection(host, port, timeout=self._connect_timeout, tls=self._tls)
        if self._proxy and self._tls is not None:
            connection.set_tunnel(
                self._host, self._port, {"Proxy-Authorization": authorization} if authorization else {}
            )
        connection.connect()
        return connection


class _Connection(http.client.HTTPConnection):
    """A connection whose answers must come within some time as a whole."""

    def __init__(self, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=timeout)
        self._tls = tls
        if tls is not None:
            self.default_port = http.client.HTTPS_PORT
        self._pause = timeout
        self._end = time.monotonic() + timeout

    def connect(self) -> None:
        super().connect()
        if self._tls is not None:
            name = getattr(self, "_tunnel_host", None) or self.host
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=name)

    def limit_time(self, pause: float, whole: float) -> None:
        """From now on fail after ``pause`` seconds of silence, and when ``whole`` seconds of answering are over."""
        self._pause = pause
        self._end = time.monotonic() + whole

    def time_left(self) -> float:
        """Return the seconds that the next bytes may take; raise ``TimeoutError`` when the answer's time is over."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        return min(self._pause, left)

    def response_class(self, sock: Any, *arguments: Any, **options: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        return http.client.HTTPResponse(_Timed(sock, self), *arguments, **options)  # type: ignore[arg-type]


class _Timed(io.RawIOBase):
    """What a connection receives, as the file that an answer is read from."""

    def __init__(self, sock: socket.socket, connection: _Connection) -> None:
        self._sock = sock
        self._received = sock.makefile("rb", buffering=0)  # keeps the socket open when the connection lets go of it
        self._connection = connection

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, 64 << 10)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._connection.time_left())
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


def _check_host(host: str) -> None:
    """Refuse a host whose name has an empty or too long part: looking it up raises no ``OSError``, but a
    ``UnicodeError``.
    """
    try:
        host.encode("idna")
    except UnicodeError:
        raise ConfigurationError(
            f"{host} can't be the name of a host",
            hint="look for two dots in a row, or a part of more than 63 characters, in the endpoint, the proxy and "
            "the name of the bucket",
        ) from None


def _check_sendable(target: str, headers: Mapping[str, str]) -> None:
    """Refuse what can't be sent before anything shows it: an error of the standard library would name the value."""
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise ConfigurationError("the request would be for an address with a character that none may have")
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(
                f"the header {name} would hold a character that no request may have",
                hint="look for one in keys, tokens and names, such as a quotation mark out of a word processor",
            )


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the system's CAs (``SSL_CERT_FILE`` included) and those in ``ca_file``."""
    context = ssl.create_default_context()
    if ca_file:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"{ca_file}: can't be used as a bundle of CA certificates ({error})") from error
    return context


def proxy_for(scheme: str, host: str, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy that the environment gives for ``host`` (``https_proxy``, ``no_proxy`` …)."""
    text = _variable(environ, f"{scheme}_proxy") or _variable(environ, "all_proxy")
    if not text or _excluded(host, _variable(environ, "no_proxy")):
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or 80
    except ValueError:
        raise ConfigurationError(
            f"the proxy of {scheme}_proxy isn't a URL", hint="write http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
        ) from None
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(
            f"the proxy {parts.scheme}://{parts.hostname} can't be used for listing and deleting objects",
            hint="only http:// proxies are supported for these requests; or set no_proxy",
        )
    authorization = None
    if parts.username is not None:
        from base64 import b64encode

        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(pair.encode()).decode()}"
    return Proxy(parts.hostname, port, authorization)


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.upper()) or ""


def _excluded(host: str, no_proxy: str) -> bool:
    for entry in no_proxy.split(","):
        suffix = entry.strip().lower().lstrip(".").partition(":")[0]
        if suffix == "*" or (suffix and (host.lower() == suffix or host.lower().endswith("." + suffix))):
            return True
    return False


def _refused_tunnel(error: Exception) -> int | None:
    """Return 407 if a proxy wants another user or password; http.client says it in words only."""
    return 407 if str(error).startswith("Tunnel connection failed: 407") else None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
