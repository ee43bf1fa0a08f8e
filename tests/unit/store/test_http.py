"""The small HTTP client: connections, proxies, certificates."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import AccessDeniedError, ConfigurationError, ConnectivityError
from barman_cloud.store.failures import RequestFailedError, to_error
from barman_cloud.store.http import HttpClient, proxy_for
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support import servers
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.http_server import HttpServer
from tests.support.servers import StoreServer


@pytest.mark.parametrize(
    ("environ", "host", "expected"),
    [
        ({}, "h", None),
        ({"https_proxy": "http://p:3128"}, "h", ("p", 3128)),
        ({"HTTPS_PROXY": "p:3128"}, "h", ("p", 3128)),
        ({"ALL_PROXY": "http://p"}, "h", ("p", 80)),
        ({"http_proxy": "http://p:1"}, "h", None),
        ({"https_proxy": "http://p:1", "no_proxy": "x,h"}, "h", None),
        ({"https_proxy": "http://p:1", "NO_PROXY": ".example.com"}, "a.example.com", None),
        ({"https_proxy": "http://p:1", "no_proxy": "example.com"}, "notexample.com", ("p", 1)),
        ({"https_proxy": "http://p:1", "no_proxy": "*"}, "h", None),
    ],
)
def test_proxies(environ: dict[str, str], host: str, expected: tuple[str, int] | None) -> None:
    found = proxy_for("https", host, environ)
    assert (found and found[:2]) == expected


@pytest.mark.parametrize("text", ["socks5://p:1", "https://p:1"])
def test_other_proxies_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        proxy_for("https", "h", {"https_proxy": text})


def test_a_closed_idle_connection_is_no_failure(moto: StoreServer) -> None:
    with fault_proxy(moto.endpoint) as proxy:
        client = HttpClient(proxy.endpoint, ca_file=None, timeout=60, environ={})
        assert client.request("GET", "/", {}).status == 200
        proxy.add(Fault(drop=True))
        assert client.request("GET", "/", {}).status == 200
        client.close()


def test_a_private_authority(tmp_path: Path) -> None:
    """Both our requests and obstore's trust the bundle, and without it both say what is wrong."""
    with servers.rclone_s3(tls=True) as server:
        url = server.new_bucket()
        options = StoreOptions(endpoint_url=server.endpoint, deadline=Deadline(30))
        store = open_store(url, None, options, server.environ)
        store.put("k", b"x")
        assert [info.key for info in store.list("")] == ["k"]
        assert store.get("k") == b"x"
        environ = {name: value for name, value in server.environ.items() if name != "AWS_CA_BUNDLE"}
        blind = open_store(url, None, options, environ)
        for ask in (lambda: blind.put("k", b"x"), lambda: blind.check()):
            with pytest.raises(ConnectivityError, match="certificate isn't trusted") as raised:
                ask()
            assert "AWS_CA_BUNDLE" in (raised.value.hint or "")
        wrong = open_store(url, None, options, {**environ, "AWS_CA_BUNDLE": str(tmp_path / "missing")})
        for ask in (lambda: wrong.put("k", b"x"), lambda: wrong.check()):
            with pytest.raises(ConfigurationError, match="missing"):
                ask()


# Proxies with a password ----------------------------------------------------------------------------------------------

PAIR = "Basic " + base64.b64encode(b"user:p@ss word").decode()


def test_the_password_of_a_proxy_is_shown_nowhere() -> None:
    found = proxy_for("https", "h", {"https_proxy": "http://user:p%40ss%20word@p:3128"})
    assert found == ("p", 3128, PAIR)
    assert "pass" not in repr(found)
    assert PAIR not in repr(found)
    with pytest.raises(ConfigurationError) as raised:
        proxy_for("https", "h", {"https_proxy": "socks5://user:SECRET@p:1"})
    assert "SECRET" not in str(raised.value)
    with pytest.raises(ConfigurationError) as raised:
        proxy_for("https", "h", {"https_proxy": "http://user:SECRET@p:port"})
    assert "SECRET" not in str(raised.value)


def test_plain_requests_go_through_a_proxy_with_a_password(moto: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request of a command, obstore's as well as ours."""
    url = moto.new_bucket()
    with proxy_server() as proxy:
        environ = {**moto.environ, "http_proxy": proxy.url}
        monkeypatch.setenv("http_proxy", proxy.url)  # obstore looks there
        with open_store(url, None, None, environ) as store:
            store.put("k", b"x")
            store.put("odd//k", b"x")
            assert store.get("k") == b"x"
            assert [info.key for info in store.list("")] == ["k", "odd//k"]
            store.delete(["k"])
        assert len(proxy.asked) >= 5
        assert set(proxy.asked) == {PAIR}


def test_tls_goes_through_a_proxy_with_a_password() -> None:
    with servers.rclone_s3(tls=True) as server, proxy_server() as proxy:
        client = HttpClient(
            server.endpoint, ca_file=str(server.certificate), timeout=60, environ={"https_proxy": proxy.url}
        )
        assert b"<Error>" in client.request("GET", "/", {}).body
        assert proxy.asked == [PAIR]
        client.close()
        wrong = {"https_proxy": proxy.url.replace("p%40", "")}
        other = HttpClient(server.endpoint, ca_file=None, timeout=60, environ=wrong)
        with pytest.raises(RequestFailedError) as raised:
            other.request("GET", "/", {})
        error = to_error(raised.value.failure, "s3://b", None)
        assert isinstance(error, AccessDeniedError)
        assert "proxy" in (error.hint or "")


# Answers without end, and early ones ----------------------------------------------------------------------------------


def test_an_answer_without_end_is_cut_off() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(chunk)

    with raw_server(serve) as url:
        client = HttpClient(url, ca_file=None, timeout=60, environ={}, largest_answer=1 << 20)
        with pytest.raises(RequestFailedError, match="more than 1048576 bytes"):
            client.request("GET", "/", {})


@pytest.mark.parametrize("length", [b"Content-Length: 99999999999\r\n\r\n", b"\r\n"], ids=["claimed", "unsaid"])
def test_an_answer_larger_than_its_kind_is_refused(length: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length)
        with contextlib.suppress(OSError):
            for _ in range(64):
                connection.sendall(bytes(65536))

    with raw_server(serve) as url:
        client = HttpClient(url, ca_file=None, timeout=60, environ={}, largest_answer=1 << 20)
        with pytest.raises(RequestFailedError, match="more than 1048576 bytes"):
            client.request("GET", "/", {})


@pytest.mark.parametrize("dripping", [b"X-Header: ", b"\r\n"], ids=["headers", "body"])
def test_an_answer_that_drips_ends_in_time(dripping: bytes) -> None:
    """Each byte comes well before the time-out of silence, and the whole answer never."""

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + dripping)
        with contextlib.suppress(OSError):
            for _ in range(600):
                connection.sendall(b"x")
                time.sleep(0.05)

    with raw_server(serve) as url:
        client = HttpClient(url, ca_file=None, timeout=60, environ={}, answer_timeout=0.5)
        began = time.monotonic()
        with pytest.raises(RequestFailedError, match="timed out"):
            client.request("GET", "/", {})
        assert time.monotonic() - began < 25  # the whole of it would take 30


def test_an_answer_that_came_before_a_reset_is_read() -> None:
    """As MinIO answers a body for a path that it doesn't take."""
    body = b"<Error><Code>XMinioInvalidResourceName</Code></Error>"

    def serve(connection: socket.socket) -> None:
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with raw_server(serve) as url:
        client = HttpClient(url, ca_file=None, timeout=60, environ={})
        answer = client.request("PUT", "/b/a/./k", {}, bytes(16 << 20))
        assert (answer.status, answer.body) == (400, body)


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("host", [".h", "a..b", f"{'h' * 64}.example"])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str, secure: bool) -> None:
    """Whether it is the store's, as of a bucket whose name becomes a part of it, or the proxy's."""
    scheme = "https" if secure else "http"
    for url, environ in ((f"{scheme}://{host}", {}), (f"{scheme}://store", {f"{scheme}_proxy": f"http://{host}:9"})):
        client = HttpClient(url, ca_file=None, timeout=1, environ=environ)
        with pytest.raises(ConfigurationError, match="can't be the name of a host"):
            client.request("GET", "/", {})


@pytest.mark.parametrize(
    ("target", "name", "value"), [("/a b", "x", "y"), ("/é", "x", "y"), ("/", "token", "SEC\nRET")]
)
def test_what_cannot_be_sent_is_refused_without_showing_it(target: str, name: str, value: str) -> None:
    client = HttpClient("http://127.0.0.1:9", ca_file=None, timeout=1, environ={})
    with pytest.raises(ConfigurationError) as raised:
        client.request("GET", target, {name: value})
    assert "RET" not in str(raised.value)


# Small servers --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads the head of one request, and leaves the rest to ``serve``."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(4096)
                serve(connection)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    thread.join(60)


class ProxyServer:
    """A forwarding proxy that wants ``user`` and ``p@ss word``; ``asked`` are the headers that came with that."""

    def __init__(self) -> None:
        self.asked: list[str | None] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not self._admitted():
                    return
                parts = urlsplit(self.path)
                upstream = http.client.HTTPConnection(parts.netloc, timeout=30)
                headers = {k: v for k, v in self.headers.items() if not k.lower().startswith(("proxy-", "connection"))}
                target = f"{parts.path}?{parts.query}" if parts.query else parts.path
                upstream.request(self.command, target, body=body, headers=headers)
                answer = upstream.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                upstream.close()

            do_GET = do_PUT = do_POST = do_DELETE = _forward

            def do_CONNECT(self) -> None:
                if not self._admitted():
                    return
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port))) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.flush()
                    back = threading.Thread(target=_copy, args=(upstream, self.connection), daemon=True)
                    back.start()
                    _copy(self.connection, upstream)
                    back.join(10)
                self.close_connection = True

            def _admitted(self) -> bool:
                proxy.asked.append(self.headers.get("Proxy-Authorization"))
                if proxy.asked[-1] == PAIR:
                    return True
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HttpServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://user:p%40ss%20word@127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextlib.contextmanager
def proxy_server() -> Iterator[ProxyServer]:
    proxy = ProxyServer()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def test_the_time_for_an_answer_begins_when_the_request_is_sent() -> None:
    """A large part may take longer to send than any answer may take to come."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            left = int(self.headers["Content-Length"])
            time.sleep(5.5)  # no buffer on the way takes all of it
            while left:
                left -= len(self.rfile.read(min(left, 1 << 20)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    client = HttpClient(url, ca_file=None, timeout=60, answer_timeout=5, environ={})
    try:
        assert client.request("PUT", "/", {}, [bytes(1 << 20)] * 32).status == 200
    finally:
        client.close()
        server.shutdown()
        server.server_close()
