"""Answers that aren't the store's: whatever comes instead of a listing is an error, to every command.

An answer taken for an empty listing ends a recovery, or lets a backup be deleted. Each fault of the table is put in
front of a real server, and every command that lists is run against it.
"""

from __future__ import annotations

import itertools
import json
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

import pytest

from barman_cloud.cli.command import main as run_command
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, StoreError
from barman_cloud.store.base import DeleteFailedError, ObjectStore
from barman_cloud.store.providers import AWS, AZURE, GOOGLE
from tests.store.cases import StoreCase
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest

SERVERS = ("moto", "azurite", "fake-gcs")
HTML = b"<!DOCTYPE html><html><head><title>Please log in</title></head><body><p>&nbsp;Welcome</body></html>"
NUMBERS = itertools.count()
SEGMENT = "000000010000000000000001"


def listing(
    server: str,
    request: SeenRequest,
    keys: Sequence[str] = (),
    *,
    bucket: str | None = None,
    prefix: str | None = None,
    token: str | None = None,
    truncated: bool | None = None,
    size: str = "1",
) -> bytes:
    """Return what the service of ``server`` would answer to a request for a listing."""
    query = parse_qs(urlsplit(request.path).query)
    parts = urlsplit(request.path).path.strip("/").split("/")
    own = parts[{"moto": 0, "azurite": -1, "fake-gcs": -2}[server]]
    asked = query.get("prefix", [""])[0]
    bucket, prefix = bucket or own, asked if prefix is None else prefix
    if server == "moto":
        more = token is not None if truncated is None else truncated
        entries = "".join(f"<Contents><Key>{quote(k)}</Key><Size>{size}</Size></Contents>" for k in keys)
        following = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
        text = (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{quote(prefix)}</Prefix><EncodingType>url</EncodingType>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{entries}</ListBucketResult>"
        )
    elif server == "azurite":
        entries = "".join(
            f"<Blob><Name>{escape(k)}</Name><Properties><Content-Length>{size}</Content-Length></Properties></Blob>"
            for k in keys
        )
        text = (
            f'\ufeff<?xml version="1.0"?><EnumerationResults ServiceEndpoint="http://x/" ContainerName="{bucket}">'
            f"<Prefix>{escape(prefix)}</Prefix><Blobs>{entries}</Blobs><NextMarker>{token or ''}</NextMarker>"
            "</EnumerationResults>"
        )
    else:
        items = [{"name": key, "bucket": bucket, "size": size} for key in keys]
        page = {"kind": "storage#objects", **({"items": items} if items else {})}
        text = json.dumps({**page, **({"nextPageToken": token} if token else {})})
    return text.encode()


def error_document(server: str, code: str = "AccessDenied") -> bytes:
    if server == "fake-gcs":
        return json.dumps({"error": {"code": 403, "message": "no", "errors": [{"reason": code}]}}).encode()
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>no</Message></Error>'.encode()


def kind_of(case: StoreCase) -> str:
    """Return the server that stands for all of the kind of ``case``."""
    return _KINDS[str(case.provider)]


def under(request: SeenRequest, name: str = "x") -> str:
    return parse_qs(urlsplit(request.path).query).get("prefix", [""])[0] + name


FAULTS: dict[str, Callable[[str, SeenRequest], bytes | None]] = {
    "a login page": lambda server, request: HTML,
    "nothing": lambda server, request: b"",
    "blanks": lambda server, request: b" \n",
    "an error document": lambda server, request: error_document(server),
    "a page cut in half": lambda server, request: listing(server, request, [under(request)])[:-25],
    "a page cut between two entries": lambda server, request: listing(
        server, request, [under(request, str(n)) for n in range(9)]
    ).replace(b"</ListBucketResult>", b"")[:-1],
    "another document": lambda server, request: (
        b'{"kind": "storage#buckets"}' if server == "fake-gcs" else b"<ListAllMyBucketsResult/>"
    ),
    "binary": lambda server, request: bytes(range(256)),
    "a list": lambda server, request: b"[]",
    "a document type definition": lambda server, request: (
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + listing(server, request, [under(request)])
    ),
    "another bucket": lambda server, request: listing(server, request, [under(request)], bucket="another"),
    "another prefix": lambda server, request: (
        None if server == "fake-gcs" else listing(server, request, prefix=under(request, "other/"))
    ),
    "a key outside the prefix": lambda server, request: listing(server, request, ["elsewhere/x"]),
    "more to come without a way to go on": lambda server, request: (
        listing(server, request, [under(request)], truncated=True) if server == "moto" else None
    ),
    "a size that is no number": lambda server, request: listing(server, request, [under(request)], size="big"),
    "the same page for ever": lambda server, request: listing(server, request, [under(request)], token="t"),
    "the same objects behind a new token for ever": lambda server, request: listing(
        server, request, [under(request)], token=f"t{next(NUMBERS)}"
    ),
    "empty pages in a circle": lambda server, request: listing(server, request, token="t"),
}
COMMANDS: dict[str, list[str]] = {
    "backup-list": [],
    "backup-show": ["latest"],
    "backup-keep": ["latest", "--status"],
    "backup-delete": ["-r", "REDUNDANCY 1"],
    "check-wal-archive": [],
    "wal-restore": [SEGMENT],
}
_KINDS = {AWS: "moto", AZURE: "azurite", GOOGLE: "fake-gcs"}
LISTS = {"moto": "list-type=2", "azurite": "comp=list", "fake-gcs": "/o?"}


@pytest.fixture(scope="module", params=SERVERS)
def front(request: pytest.FixtureRequest) -> Iterator[tuple[StoreCase, FaultProxy, str]]:
    """Each provider's server behind a proxy, and the URL of an empty bucket."""
    from tests.store.conftest import _case

    case = _case(request.param, request)
    with case.proxied() as proxy:
        yield case, proxy, case.new_url(Path("/nonexistent"))


@pytest.fixture
def _own_logging() -> Iterator[None]:
    log = logging.getLogger("barman_cloud")
    interrupt = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, interrupt)
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def run(case: StoreCase, proxy: FaultProxy, url: str, command: str, *arguments: str) -> int:
    """Run a command in this process against the server behind ``proxy``; return its exit code."""
    url = url.replace(case.endpoint, proxy.endpoint)
    given = ["--cloud-provider", str(case.provider), url, "main", *arguments]
    if case.provider == "aws-s3":
        given = ["--endpoint-url", proxy.endpoint, *given]
    module = import_module(f"barman_cloud.cli.{command.replace('-', '_')}")
    try:
        return run_command(module.COMMAND, given)
    finally:
        logging.getLogger("barman_cloud").handlers.clear()


@pytest.mark.usefixtures("_own_logging")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_listing_is_an_error_to_every_command(
    front: tuple[StoreCase, FaultProxy, str],
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case, proxy, url = front
    for name, value in case.environ.items():
        monkeypatch.setenv(name, value.replace(case.endpoint, proxy.endpoint))
    made = FAULTS[fault]
    proxy.clear()

    def spoiled(seen: SeenRequest) -> bytes:
        return made(kind_of(case), seen) or b""

    probe = proxy.add(Fault("GET", LISTS[kind_of(case)], times=100_000, status=200, body=spoiled))
    if made(kind_of(case), SeenRequest("GET", f"/{url.rpartition('/')[2]}/a/b?prefix=x", {}, 0, b"")) is None:
        pytest.skip(f"{case.name} has no such answer")
    for command, more in COMMANDS.items():
        destination = (
            [str(tmp_path / "wal"), "--spool-dir", str(tmp_path / "spool")] if command == "wal-restore" else []
        )
        assert run(case, proxy, url, command, *more, *destination) == 4, command
        out, err = capfd.readouterr()
        assert out == "", command
        errors = [line for line in err.splitlines() if "ERROR" in line]
        assert len(errors) == 1, err
        assert err.count("\n") == len(err.splitlines())
        assert "Traceback" not in err
    assert not (tmp_path / "wal").exists()
    assert run(case, proxy, url, "wal-restore", SEGMENT, str(tmp_path / "wal"), "--abort-recovery-on-error") == 130
    assert run(case, proxy, url, "backup-list", "--test") == (0 if "for ever" in fault or "circle" in fault else 4)
    assert probe.times < 100_000 - 6


@pytest.mark.usefixtures("_own_logging")
def test_the_true_answers_are_what_the_commands_expect(
    front: tuple[StoreCase, FaultProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same documents without a fault are listings: an empty one, and one of two pages."""
    case, proxy, url = front
    for name, value in case.environ.items():
        monkeypatch.setenv(name, value.replace(case.endpoint, proxy.endpoint))
    proxy.clear()
    proxy.add(Fault("GET", LISTS[kind_of(case)], times=100, status=200, body=lambda r: listing(kind_of(case), r)))
    assert run(case, proxy, url, "backup-list") == 0
    assert run(case, proxy, url, "check-wal-archive") == 0
    assert run(case, proxy, url, "wal-restore", SEGMENT, str(tmp_path / "wal")) == 1
    proxy.clear()

    def page(request: SeenRequest) -> bytes:
        second = "=next" in request.path
        return listing(
            kind_of(case), request, [under(request, "2" if second else "1")], token=None if second else "next"
        )

    proxy.add(Fault("GET", LISTS[kind_of(case)], times=2, status=200, body=page))
    with case.open(url, endpoint=proxy.endpoint) as store:
        assert [info.key for info in store.list("p/")] == ["p/1", "p/2"]


# Other answers --------------------------------------------------------------------------------------------------------

REQUESTS: dict[str, Callable[[ObjectStore], object]] = {
    "get": lambda store: store.get("k"),
    "head": lambda store: store.head("k"),
    "read": lambda store: list(store.read("k")),
    "put": lambda store: store.put("k", b"x"),
    "create": lambda store: store.put("new", b"x", if_absent=True),
    "odd put": lambda store: store.put("a//k", b"x"),
    "odd get": lambda store: store.get("a//k"),
    "odd head": lambda store: store.head("a//k"),
    "stream": lambda store: store.put_stream("k", iter([bytes(6 << 20)]), part_size=5 << 20),
    "odd stream": lambda store: store.put_stream("a//k", iter([bytes(6 << 20)]), part_size=5 << 20),
    "delete": lambda store: store.delete(["k", "l"]),
    "lock": lambda store: store.object_lock("k"),
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("with_etag", [False, True], ids=["plain", "with-etag"])
def test_a_login_page_is_no_answer_to_anything(
    front: tuple[StoreCase, FaultProxy, str], kind: str, with_etag: bool
) -> None:
    """As of a captive portal, which answers everything with 200; web servers send ETags with their pages."""
    case, proxy, url = front
    proxy.clear()
    headers: dict[str, str] = {"Content-Type": "text/html; charset=utf-8"}
    if with_etag:
        if kind in ("put", "create", "stream", "odd get"):
            pytest.skip("an upload is compared by other means; a page that is stored as an object is one")
        headers |= {"ETag": '"abc"', "Last-Modified": "Sat, 28 Nov 2026 12:00:00 GMT"}
    with case.open(url, endpoint=proxy.endpoint, deadline=Deadline(1)) as store:
        proxy.add(Fault(times=1000, status=200, headers=headers, body=HTML))
        with pytest.raises(BarmanCloudError) as raised:
            REQUESTS[kind](store)
        assert raised.value.exit_code in (2, 4) or isinstance(raised.value, DeleteFailedError)


@pytest.mark.parametrize("kind", [kind for kind in REQUESTS if kind != "delete"])
@pytest.mark.parametrize("body", [b"", b"OK"], ids=["nothing", "OK"])
def test_success_without_an_etag_is_no_answer_about_an_object(
    front: tuple[StoreCase, FaultProxy, str], kind: str, body: bytes
) -> None:
    """As of a load balancer's own page of health: nothing is taken for stored or for an empty object."""
    case, proxy, url = front
    proxy.clear()
    with case.open(url, endpoint=proxy.endpoint, deadline=Deadline(1)) as store:
        proxy.add(Fault(times=1000, status=200, body=body))
        with pytest.raises(BarmanCloudError) as raised:
            REQUESTS[kind](store)
        assert raised.value.exit_code in (2, 4)


def test_a_deletion_that_nobody_confirms_is_none(front: tuple[StoreCase, FaultProxy, str]) -> None:
    case, proxy, url = front
    proxy.clear()
    with case.open(url, endpoint=proxy.endpoint) as store:
        for key in ("a", "b"):
            store.put(key, b"x")
        bodies = (b"", b"<Other/>", b"<DeleteResult>", HTML)
        for body in bodies if case.provider != GOOGLE else (b"<Other/>", HTML):
            proxy.add(Fault(times=1000, status=200, body=body))
            with pytest.raises((StoreError, DeleteFailedError)):
                store.delete(["a", "b"])
            proxy.clear()
        assert [info.key for info in store.list("")] == ["a", "b"]
        store.delete(["a", "b"])
        assert list(store.list("")) == []


def test_an_azure_batch_that_leaves_out_a_key_has_not_deleted_it(azure: StoreCase, tmp_path: Path) -> None:
    with azure.proxied() as proxy:
        store = azure.open(azure.new_url(tmp_path), endpoint=proxy.endpoint)
        part = b"--x\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n--x--"
        proxy.add(Fault("POST", "comp=batch", status=202, body=part))
        with pytest.raises(DeleteFailedError) as raised:
            store.delete(["a", "b"])
        assert set(raised.value.failures) == {"b"}


def answered(case: StoreCase, url: str, proxy: FaultProxy, fault: Fault, ask: Callable[[ObjectStore], Any]) -> Any:
    proxy.clear()
    proxy.add(fault)
    with case.open(url, endpoint=proxy.endpoint) as store:
        return ask(store)


def test_not_found_by_a_web_server_is_no_missing_object(front: tuple[StoreCase, FaultProxy, str]) -> None:
    case, proxy, url = front
    page = Fault("GET", times=1000, status=404, body=b"<html><h1>404 Not Found</h1></html>")
    for ask in (lambda store: store.get("k"), lambda store: list(store.read("k")), lambda store: list(store.list(""))):
        with pytest.raises(StoreError, match="HTML"):
            answered(case, url, proxy, page, ask)
