"""What is fed with hostile bytes: each target has samples of good ones, and a function that takes any."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from barman_cloud.archive import archives_json
from barman_cloud.archive.compression import compress_bytes, decompress_stream
from barman_cloud.archive.manifest import EntrySpool, ManifestReader, WalRange, manifest_stream
from barman_cloud.archive.tar import read_members
from barman_cloud.catalog import backup_info, receiver_state
from barman_cloud.config.ini import parse_file
from barman_cloud.deadline import Deadline
from barman_cloud.incremental.file_format import MAGIC, header_size, read_blocks, read_header
from barman_cloud.postgres.wal import parse_page_header
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.url import parse_url
from barman_cloud.verify.receiver import metrics as receiver_metrics
from tests.fuzz import objects
from tests.fuzz.target import Target
from tests.support.http_server import HttpServer
from tests.support.privileges import PROJECT
from tests.support.segments import segment
from tests.support.servers import AZURITE_ACCOUNT, AZURITE_KEY

_BLOCK = 8192


def targets(directory: Path) -> Mapping[str, Target]:
    """Return all targets by name; those that read files get them below ``directory``."""
    infos = (PROJECT / "tests" / "golden" / "backup-info").glob("*.info")
    configurations = (PROJECT / "tests" / "unit" / "config" / "examples").glob("*.conf")

    def configuration(data: bytes) -> object:
        file = directory / "fuzzed.conf"
        file.write_bytes(data)
        return parse_file(file, {})

    return {
        "backup-info": Target(
            lambda data: backup_info.parse(data.decode("utf-8", "surrogateescape"), "20260101T000000"),
            tuple(path.read_bytes() for path in infos),
        ),
        "archives-json": Target(lambda data: archives_json.parse(data.decode("utf-8", "replace")), (_archives(),)),
        "manifest": Target(lambda data: list(ManifestReader([data])), (_manifest(),)),
        "tar": Target(_read_tar, (_tar(tarfile.PAX_FORMAT), _tar(tarfile.GNU_FORMAT))),
        "url": Target(
            lambda data: parse_url(data.decode("utf-8", "surrogateescape")),
            (b"s3://bucket/a/b", b"gs://b", b"https://a.blob.core.windows.net/c/p", b"file:///x"),
        ),
        "receiver-state": Target(
            lambda data: receiver_metrics(receiver_state.parse(data, "it"), datetime.now(UTC)), (_receiver_state(),)
        ),
        "wal-page": Target(parse_page_header, (segment(1)[:8192],)),
        "incremental-file": Target(_read_incremental, (_incremental(),)),
        "configuration": Target(configuration, tuple(path.read_bytes() for path in configurations)),
        **objects.targets(directory),
        **{
            f"stream-{name}": Target(functools.partial(_inflate, name), (compress_bytes(b"some text " * 500, name),))
            for name in ("gzip", "bzip2", "xz", "lz4", "zstd", "snappy")
        },
    }


def _inflate(name: str, data: bytes) -> object:
    return [len(chunk) for chunk in decompress_stream([data], name)]


def _archives() -> bytes:
    return archives_json.dump([archives_json.ArchiveRecord("data.tar.gz", 10, 5, "gzip", 2)]).encode()


def _receiver_state() -> bytes:
    now = datetime.now(UTC)
    return json.dumps(receiver_state.ReceiverState(now, now, "direct", "host", 1, "name").to_json()).encode()


def _manifest() -> bytes:
    spool = EntrySpool()
    for number in range(5):
        spool.add(f"base/1/{number}", number, 1.0, number)
    spool.add("bad\udcff", 1, 1.0, None)
    return b"".join(map(bytes, manifest_stream([spool], [WalRange(1, 1, 2)], 1)[1]))


def _tar(form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, kind in (("a" * 120, tarfile.REGTYPE), ("dir", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, 600 if kind == tarfile.REGTYPE else 0, "b" * 110
            archive.addfile(info, io.BytesIO(bytes(600)))
    return buffer.getvalue()


def _read_tar(data: bytes) -> object:
    return [(member, sum(map(len, content))) for member, content in read_members([data])]


def _incremental() -> bytes:
    header = struct.pack("<IIIII", MAGIC, 2, 5, 1, 4)
    return header.ljust(header_size(2), b"\0") + bytes(2 * _BLOCK)


def _read_incremental(data: bytes) -> object:
    chunks = iter([data])
    header, first = read_header(chunks, len(data), "fuzzed")
    return [(offset, len(content)) for offset, content in read_blocks(header, first, chunks, "fuzzed")]


@dataclass
class Listings:
    """A server whose every answer is ``answer``, and what each kind of store makes of it as a listing."""

    endpoint: str
    answer: bytes = b""

    def target(self, provider: str, seconds: float = 0.0) -> Target:
        """Return the target of one kind of store, which is asked once, or again for ``seconds``."""
        url, options, environ = self._place(provider, Deadline(seconds))

        def feed(data: bytes) -> object:
            self.answer = data
            with open_store(url, provider, options, environ) as store:
                # A page may say that there is a next one, for ever; that it ends is asked elsewhere.
                return next(store.list(""), None)

        return Target(feed, (_LISTINGS[provider],))

    def _place(self, provider: str, deadline: Deadline) -> tuple[str, StoreOptions, dict[str, str]]:
        if provider == "aws-s3":
            environ = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
            return "s3://bucket", StoreOptions(endpoint_url=self.endpoint, deadline=deadline), environ
        if provider == "azure-blob-storage":
            url = f"{self.endpoint}/{AZURITE_ACCOUNT}/container"
            return url, StoreOptions(deadline=deadline), {"AZURE_STORAGE_KEY": AZURITE_KEY}
        return "gs://bucket", StoreOptions(deadline=deadline), {"STORAGE_EMULATOR_HOST": self.endpoint}


@contextlib.contextmanager
def listings() -> Iterator[Listings]:
    """Run the server until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(place.answer)))
            self.end_headers()
            self.wfile.write(place.answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    place = Listings(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()


_LISTINGS = {
    "aws-s3": b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix></Prefix><KeyCount>1</KeyCount>
<MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>a%20b</Key>
<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;abc&quot;</ETag><Size>5</Size></Contents>
<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes></ListBucketResult>""",
    "azure-blob-storage": b"""<?xml version="1.0" encoding="utf-8"?>
<EnumerationResults ServiceEndpoint="http://127.0.0.1/devstoreaccount1" ContainerName="container"><Prefix></Prefix>
<Blobs><Blob><Name>a b</Name><Properties><Last-Modified>Thu, 01 Jan 2026 00:00:00 GMT</Last-Modified><Etag>0x8D</Etag>
<Content-Length>5</Content-Length></Properties></Blob></Blobs><NextMarker/></EnumerationResults>""",
    "google-cloud-storage": b"""{"kind": "storage#objects", "items": [{"kind": "storage#object", "name": "a b",
"bucket": "bucket", "generation": "1", "size": "5", "etag": "abc", "updated": "2026-01-01T00:00:00.000Z"}],
"prefixes": ["p/"]}""",
}
