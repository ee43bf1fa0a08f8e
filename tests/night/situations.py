"""Twenty things that are broken at night: how each comes about, and what the command says then.

In a quote, ``…`` stands for what differs. ``docs/how-to/troubleshooting.md`` has the same quotes, below the same names.
"""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from tests.faults.harness.disk import mounted
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.segments import Cluster
from tests.support.servers import StoreServer, rclone_s3, s3_environ
from tests.unit.catalog.builders import backup, fill, segment


@dataclass(frozen=True)
class Call:
    """One command line, and the variables that it is run with."""

    command: str
    words: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    code: int = 4
    names: str = ""
    """What the message has to name: the object it is about."""


@dataclass(frozen=True)
class Place:
    """What situations are made of."""

    moto: StoreServer
    rclone: StoreServer
    directory: Path

    def segment(self, number: int = 1, system: int = 7000000000000000001) -> str:
        return str(Cluster(self.directory / f"cluster-{system}-{number}", system=system).add(number))

    def catalog(self, *backups: object, wals: tuple[str, ...] = (), url: str | None = None, **how: object) -> Catalog:
        (self.directory / "store").mkdir(exist_ok=True)
        store = open_store(url or f"file://{self.directory}/store", environ=self.moto.environ)
        return fill(Catalog(store, Layout.of(store.url, "main")), backups, wals, **how)  # type: ignore[arg-type]


Arrange = Callable[[Place], "contextlib.AbstractContextManager[Call | None]"]


@dataclass(frozen=True)
class Situation:
    """``arrange`` gives the call, or None where this machine can't make it happen."""

    name: str
    quote: str
    arrange: Arrange


SITUATIONS: list[Situation] = []


def situation(name: str, quote: str) -> Callable[[Callable[[Place], Iterator[Call | None]]], None]:
    def add(arrange: Callable[[Place], Iterator[Call | None]]) -> None:
        SITUATIONS.append(Situation(name, quote, contextlib.contextmanager(arrange)))

    return add


def archive(place: Place, url: str, environ: dict[str, str], *, tried: bool = False) -> Call:
    """Archive a segment. What is ``tried`` again gets a few seconds, as many as a slow start takes; others just end."""
    how = ("--timeout", "8", "-q") if tried else ("--timeout", "50")
    return Call("wal-archive", (*how, url, "main", place.segment()), environ, names=url)


def refusal(status: int, code: str, message: str, more: str = "") -> Fault:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return Fault(status=status, body=body.encode(), times=1000)


# The store -----------------------------------------------------------------------------------------------------------


@situation(
    "Wrong key",
    "…: the store doesn't accept the credentials (…) "
    "(hint: check the access key, its secret, the region and the clock of this host)",
)
def _(place: Place) -> Iterator[Call]:
    yield archive(place, place.rclone.new_bucket(), {**place.rclone.environ, "AWS_SECRET_ACCESS_KEY": "wrong"})


@situation(
    "Expired token",
    "…: the credentials have expired (…) "
    "(hint: get new temporary credentials (key, secret and session token), or use a role or profile)",
)
def _(place: Place) -> Iterator[Call]:
    with fault_proxy(place.moto.endpoint) as proxy:
        proxy.add(refusal(400, "ExpiredToken", "The provided token has expired."))
        yield archive(place, place.moto.new_bucket(), {**s3_environ(proxy.endpoint), "AWS_SESSION_TOKEN": "old"})


@situation(
    "Wrong clock",
    "…: the clock of this host and that of the store differ (…) (hint: set the clock, such as by NTP)",
)
def _(place: Place) -> Iterator[Call]:
    with fault_proxy(place.moto.endpoint) as proxy:
        proxy.add(refusal(403, "RequestTimeTooSkewed", "The difference between the request time and now is too large."))
        yield archive(place, place.moto.new_bucket(), s3_environ(proxy.endpoint))


@situation("Bucket gone", "…: the bucket doesn't exist (hint: check the URL, or create the bucket)")
def _(place: Place) -> Iterator[Call]:
    yield archive(place, "s3://no-such-bucket-here", dict(place.moto.environ))


@situation(
    "Wrong region",
    "…: the store expects another region (…) (hint: set AWS_DEFAULT_REGION…, or the region of the profile)",
)
def _(place: Place) -> Iterator[Call]:
    with fault_proxy(place.moto.endpoint) as proxy:
        message = "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'"
        proxy.add(refusal(400, "AuthorizationHeaderMalformed", message, "<Region>eu-west-3</Region>"))
        yield archive(place, place.moto.new_bucket(), s3_environ(proxy.endpoint))


REACH = "…: can't reach the store (…) (hint: check the endpoint, DNS, proxy and network)"


@situation("Name not found", REACH)
def _(place: Place) -> Iterator[Call]:
    # A resolver that doesn't answer is asked for a moment only.
    resolver = {"RES_OPTIONS": "timeout:1 attempts:1", "LOCALDOMAIN": ""}
    yield archive(place, "s3://bucket", {**s3_environ("http://nowhere.invalid"), **resolver}, tried=True)


@situation("Connection refused", REACH)
def _(place: Place) -> Iterator[Call]:
    yield archive(place, "s3://bucket", s3_environ("http://127.0.0.1:9"), tried=True)


@situation(
    "503",
    "…: the store keeps failing (503 …) "
    "(hint: it is overloaded or down: see its status page, and run the command again as it is)",
)
def _(place: Place) -> Iterator[Call]:
    with fault_proxy(place.moto.endpoint) as proxy:
        proxy.add(refusal(503, "SlowDown", "Please reduce your request rate."))
        yield archive(place, place.moto.new_bucket(), s3_environ(proxy.endpoint), tried=True)


@situation(
    "Proxy",
    "…: the proxy refuses the connection (…) (hint: check user and password of the proxy's URL)",
)
def _(place: Place) -> Iterator[Call]:
    with fault_proxy(place.moto.endpoint) as proxy:
        proxy.add(Fault(status=407, headers={"Proxy-Authenticate": "Basic"}, times=1000))
        environ = {**s3_environ("http://store.example.org"), "http_proxy": proxy.endpoint}
        yield archive(place, "s3://bucket", environ)


@situation(
    "TLS",
    "…: the server's TLS certificate isn't trusted (…) "
    "(hint: name the CA's PEM file in AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or SSL_CERT_FILE)",
)
def _(place: Place) -> Iterator[Call]:
    with rclone_s3(tls=True) as server:
        environ = {name: value for name, value in server.environ.items() if name != "AWS_CA_BUNDLE"}
        yield archive(place, server.new_bucket(), environ)


# The archive ---------------------------------------------------------------------------------------------------------

NEEDED = {"end_xlog": "0/2000100", "xlog_segment_size": 16 << 20, "systemid": "7000000000000000001"}


@situation(
    "Missing WAL",
    "WAL file … is not in the archive … "
    "(hint: normal at the end of the archive; a standby asks again; 'barman-cloud check' tells of gaps)",
)
def _(place: Place) -> Iterator[Call]:
    place.catalog(wals=(segment(1),))
    words = (f"file://{place.directory}/store", "main", segment(2), str(place.directory / "out"))
    yield Call("wal-restore", words, code=1, names=segment(2))


@situation(
    "Gap",
    "WAL … is missing: recovery from backups before it ends there"
    " -> look for it in pg_wal of the server, and take a backup now",
)
def _(place: Place) -> Iterator[Call]:
    place.catalog(backup("20261126T030000", segment(2), **NEEDED), wals=(segment(2), segment(3), segment(5)))
    yield Call("check", (f"file://{place.directory}/store", "main"), code=1, names=segment(4))


@situation(
    "FAILED backup",
    "backup … ('…') is FAILED, not DONE (hint: name it by its id if you must)",
)
def _(place: Place) -> Iterator[Call]:
    place.catalog(backup("20261126T030000", segment(2), "FAILED", backup_name="nightly", error="disk full"))
    words = (f"file://{place.directory}/store", "main", "nightly", str(place.directory / "target"))
    yield Call("restore", words, names="20261126T030000")


@situation("Disk full", "…: No space left on device (hint: free some room there, and run the command again)")
def _(place: Place) -> Iterator[Call | None]:
    source = place.segment()
    (place.directory / "store" / "main" / "wals").mkdir(parents=True)
    store = open_store(f"file://{place.directory}/store")
    store.put(f"main/wals/{segment(0)[:16]}/{Path(source).name}", Path(source).read_bytes())
    full = place.directory / "full"
    full.mkdir()
    with mounted(full) as disk:
        if disk is None:
            yield None
            return
        disk.leave(64)
        yield Call(
            "wal-restore", (f"file://{place.directory}/store", "main", Path(source).name, f"{full}/out"),
            names=str(full),
        )  # fmt: skip


@situation(
    "No room",
    "not enough room in …: … needed, … free (hint: free some, or give another directory "
    "(--tablespace for those of tablespaces); --force begins nevertheless)",
)
def _(place: Place) -> Iterator[Call | None]:
    catalog = place.catalog(
        backup("20261126T030000", segment(2), tablespaces=[], **NEEDED), wals=(segment(2),), archives=()
    )
    archive_file = io.BytesIO()
    with tarfile.open(fileobj=archive_file, mode="w") as tar:
        entry = tarfile.TarInfo("base/1/1")
        entry.size = 4 << 20
        tar.addfile(entry, io.BytesIO(os.urandom(4 << 20)))
    catalog.store.put(f"{catalog.layout.backup_dir('20261126T030000')}data.tar", archive_file.getvalue())
    small = place.directory / "small"
    small.mkdir()
    with mounted(small) as disk:
        if disk is None:
            yield None
            return
        disk.leave(512)
        words = (f"file://{place.directory}/store", "main", "20261126T030000", f"{small}/target")
        yield Call("restore", words, code=1, names=f"{small}/target")


@situation(
    "Wrong target",
    "backup … ended at …, after the recovery target … "
    "(hint: choose an older backup, or let 'auto' choose it; --force restores nevertheless)",
)
def _(place: Place) -> Iterator[Call]:
    place.catalog(backup("20261126T030000", segment(2), **NEEDED), wals=(segment(2),))
    target = ("--write-recovery-settings", "--target-time", "2026-11-25 12:00:00+00")
    words = (*target, f"file://{place.directory}/store", "main", "20261126T030000", str(place.directory / "target"))
    yield Call("restore", words, code=1, names="2026-11-25 12:00:00")


@situation("Wrong name", "there is no server '…' below …; there are: …; is it '…'?")
def _(place: Place) -> Iterator[Call]:
    place.catalog(backup("20261126T030000", segment(2)))
    words = (f"file://{place.directory}/store", "mian")
    yield Call("check", words, code=1, names="'main'")


@situation(
    "Foreign cluster",
    "… is the archive of the cluster with system identifier …, and … is of another one, with system identifier … "
    "(hint: give this cluster a server name or a URL of its own, also after pg_upgrade; "
    "--accept-cluster=… lets it share the archive all the same)",
)
def _(place: Place) -> Iterator[Call]:
    (place.directory / "store").mkdir()
    from tests.support.commands import run_command

    url = f"file://{place.directory}/store"
    assert run_command("wal-archive", url, "main", place.segment(1)).returncode == 0
    yield Call("wal-archive", (url, "main", place.segment(2, system=7000000000000000002)), code=1, names=url)


@situation(
    "Locked object",
    "backup … is not deleted: … of its … are locked (…) "
    "(hint: nothing of this backup was deleted; repeat the command when the locks have ended)",
)
def _(place: Place) -> Iterator[Call]:
    import boto3

    url = place.moto.new_bucket(object_lock=True)
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    client = boto3.client("s3", endpoint_url=place.moto.endpoint, region_name="us-east-1", **keys)
    retention = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 3}}}
    client.put_object_lock_configuration(Bucket=url[5:], ObjectLockConfiguration=retention)
    place.catalog(backup("20261126T030000", segment(2)), wals=(segment(2),), url=f"{url}/p")
    words = ("--check-object-lock", "-b", "20261126T030000", f"{url}/p", "main")
    yield Call("backup-delete", words, dict(place.moto.environ), code=1, names="20261126T030000")


LOST_SLOT = Situation(
    "Lost slot",
    "replication slot … was invalidated by max_slot_wal_keep_size: the server doesn't keep … "
    "(hint: drop it with --drop-slot, start again with --create-slot, and take a new backup if WAL is missing)",
    lambda place: contextlib.nullcontext(None),
)
"""It needs a server; the test has its own way to it."""
EVERY = [*SITUATIONS, LOST_SLOT]
