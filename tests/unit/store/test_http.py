"""The small HTTP client: connections, proxies, certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import ConfigurationError, ConnectivityError
from barman_cloud.store.http import HttpClient, proxy_for
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support import servers
from tests.support.fault_proxy import Fault, fault_proxy
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
        client = HttpClient(proxy.endpoint, ca_file=None, timeout=10, environ={})
        assert client.request("GET", "/", {}).status == 200
        proxy.add(Fault(drop=True))
        assert client.request("GET", "/", {}).status == 200
        client.close()


def test_a_private_authority(tmp_path: Path) -> None:
    """Both our requests and obstore's trust the bundle, and without it both say what is wrong."""
    with servers.rclone_s3(tls=True) as server:
        url = server.new_bucket()
        options = StoreOptions(endpoint_url=server.endpoint, deadline=Deadline(5))
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
