"""Where AWS credentials come from."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.errors import AccessDeniedError, BarmanCloudError, ConfigurationError
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.s3.keys import AwsCredentials
from barman_cloud.store.s3.metadata_service import _check_host
from barman_cloud.store.s3.store import S3Store
from tests.support.http_server import HttpServer
from tests.support.servers import StoreServer

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush-hush"}


def opened(url: str = "s3://bucket/path", environ: dict[str, str] | None = None, **options: Any) -> S3Store:
    store = open_store(url, None, StoreOptions(**options), {**KEYS} if environ is None else environ)
    assert isinstance(store, S3Store)
    return store


def credentials(environ: dict[str, str], **options: Any) -> AwsCredentials:
    return opened("s3://bucket", environ, **options)._credentials()


# Credentials ----------------------------------------------------------------------------------------------------------


def test_environment_comes_first(aws_files: dict[str, str]) -> None:
    assert credentials({**aws_files, **KEYS, "AWS_SESSION_TOKEN": "T"}) == AwsCredentials("AKID", "hush-hush", "T")
    assert credentials({**aws_files, **KEYS, "AWS_PROFILE": "static"}).access_key == "AKID"


def test_a_profile_that_an_option_names_beats_the_environment(aws_files: dict[str, str]) -> None:
    assert credentials({**aws_files, **KEYS}, aws_profile="static") == AwsCredentials("STATIC", "S", "T")


def test_profiles(aws_files: dict[str, str]) -> None:
    assert credentials(aws_files).access_key == "DEFAULT"
    assert credentials({**aws_files, "AWS_PROFILE": "static"}).access_key == "STATIC"
    assert credentials({**aws_files, "AWS_DEFAULT_PROFILE": "with space"}).access_key == "SPACE"
    with pytest.raises(ConfigurationError, match="aws_secret_access_key"):
        credentials({**aws_files, "AWS_PROFILE": "half"})


def test_a_process_is_run_once(aws_files: dict[str, str], tmp_path: Path) -> None:
    store = opened("s3://bucket", aws_files, aws_profile="process")
    assert not (tmp_path / "calls").exists()
    assert [store._credentials().access_key for _ in range(3)] == ["PROC"] * 3
    assert (tmp_path / "calls").read_text() == "x"


def test_a_process_that_fails(aws_files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "process.py").write_text("raise SystemExit('SECRET')")
    with pytest.raises(AccessDeniedError) as raised:
        credentials(aws_files, aws_profile="process")
    assert "SECRET" not in str(raised.value)


def test_nothing_found() -> None:
    with pytest.raises(AccessDeniedError, match="no AWS credentials") as raised:
        credentials({"HOME": "/nonexistent", "AWS_EC2_METADATA_DISABLED": "true"})
    assert raised.value.hint


def test_a_role_by_botocore(aws_files: dict[str, str], moto: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The chain itself is botocore's; here it asks moto's STS."""
    config = Path(aws_files["AWS_CONFIG_FILE"])
    config.write_text(config.read_text().replace("https://store.example.com/", moto.endpoint))
    for name, value in {**aws_files, "AWS_ENDPOINT_URL_STS": moto.endpoint}.items():
        monkeypatch.setenv(name, value)
    key = credentials(dict(os.environ), aws_profile="role")
    assert key.access_key.startswith("ASIA")
    assert key.token
    assert key.expires is not None


def test_web_identity(moto: StoreServer, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("web-token\n")
    environ = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/backups",
        "AWS_ENDPOINT_URL_STS": moto.endpoint,
    }
    key = credentials(environ)
    assert key.token
    assert key.expires is not None
    assert key.expires > datetime.now(UTC)
    store = opened(moto.new_bucket(), {**environ, "AWS_ENDPOINT_URL_S3": moto.endpoint})
    store.put("k", b"x")
    assert store.get("k") == b"x"


class Metadata:
    """The metadata services of an instance and of a container, as much as credentials need."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.lifetime = timedelta(hours=1)
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                service.asked.append((self.command, self.path))
                self._answer("the-token" if self.headers["X-aws-ec2-metadata-token-ttl-seconds"] else None)

            def do_GET(self) -> None:
                service.asked.append((self.command, self.path))
                expires = (datetime.now(UTC) + service.lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
                key = {"AccessKeyId": "META", "SecretAccessKey": "S", "Token": "T", "Expiration": expires}
                if self.path.startswith("/container"):
                    self._answer(json.dumps(key) if self.headers["Authorization"] == "auth" else None)
                elif self.headers["X-aws-ec2-metadata-token"] != "the-token":
                    self._answer(None)
                else:
                    self._answer("the-role" if self.path.endswith("/") else json.dumps(key))

            def _answer(self, text: str | None) -> None:
                body = (text or "").encode()
                self.send_response(200 if text else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HttpServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def metadata(patient_client: None) -> Iterator[Metadata]:
    service = Metadata()
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_instance_role(metadata: Metadata) -> None:
    store = opened("s3://bucket", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url})
    assert [store._credentials().access_key for _ in range(2)] == ["META", "META"]
    assert [path.rpartition("/")[2] for _, path in metadata.asked] == ["token", "", "the-role"]


def test_keys_are_renewed_before_they_expire(metadata: Metadata) -> None:
    metadata.lifetime = timedelta(minutes=1)
    store = opened("s3://bucket", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url})
    store._credentials()
    store._credentials()
    assert len(metadata.asked) == 6


def test_container_credentials(metadata: Metadata, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("auth")
    base = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{metadata.url}/container?x=1"}
    assert credentials({**base, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "auth"}).access_key == "META"
    assert credentials({**base, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token")}).token == "T"
    with pytest.raises(AccessDeniedError, match="401"):
        credentials({**base, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"})


@pytest.mark.parametrize(
    "uri",
    [
        "http://example.com/keys",
        "http://169.254.170.2.example.com/",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[2001:db8::1]/",
        "ftp://localhost/",
        "http://localhost@example.com/",
        "file:///etc/passwd",
    ],
)
def test_keys_are_not_asked_of_any_host_without_tls(uri: str) -> None:
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "SECRET"}
    with pytest.raises(ConfigurationError, match="AWS_CONTAINER_CREDENTIALS_FULL_URI") as raised:
        credentials(environ)
    assert "SECRET" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.170.2/v2/x",
        "http://169.254.170.23/v1/credentials",
        "http://[fd00:ec2::23]/v1/credentials",
        "http://localhost:8080/get",
        "http://127.0.0.9/",
        "http://[::1]:80/",
        "https://keys.example.com/x?y=z",
    ],
)
def test_keys_are_asked_of_the_documented_addresses_and_over_tls(uri: str) -> None:
    _check_host(uri)


def test_the_relative_address_of_a_container_is_a_path() -> None:
    """``169.254.170.2`` and ``@example.com`` make another host."""
    with pytest.raises(ConfigurationError, match="isn't a path"):
        credentials({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "@example.com/keys"})


def test_a_silent_metadata_service_was_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            AccessDeniedError, match=r"no AWS credentials found: .*instance metadata: no answer"
        ) as raised:
            credentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": url, "AWS_METADATA_SERVICE_TIMEOUT": "0.2"})
    assert "127.0.0.1" in str(raised.value)
    assert "timed out" in str(raised.value)


@pytest.mark.parametrize("variable", ["AWS_METADATA_SERVICE_TIMEOUT", "AWS_METADATA_SERVICE_NUM_ATTEMPTS"])
@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", "1e9"])
def test_odd_numbers_for_the_metadata_service(metadata: Metadata, variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        credentials({"AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url, variable: value})


def test_a_metadata_service_that_never_stops(tmp_path: Path) -> None:
    """Its answers are bounded, whoever sends them: instance, container, login."""
    with endless_server() as url:
        (tmp_path / "token").write_text("web-token\n")
        identity = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": "arn:aws:iam::1:role/x"}
        for environ in (
            {"AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
            {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/keys"},
            {**identity, "AWS_ENDPOINT_URL_STS": url},
        ):
            with pytest.raises(BarmanCloudError, match="more than 1048576 bytes"):
                credentials(environ)


@contextlib.contextmanager
def endless_server() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65536)

        do_PUT = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HttpServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("endpoint", "options", "told"),
    [
        ("http://127.0.0.1:9000/bkt", {}, True),
        ("http://127.0.0.1:9000/bkt/", {}, True),
        ("https://bkt.s3.eu-west-1.amazonaws.com", {}, True),
        ("https://BKT.store.example.com", {"addressing_style": "virtual"}, True),
        ("http://127.0.0.1:9000", {}, False),
        ("http://127.0.0.1:9000/bkt2", {}, False),
        ("https://store.example.com/base/bkts", {}, False),
    ],
)
def test_an_endpoint_that_contains_the_bucket_is_said(
    endpoint: str, options: dict[str, str], told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    opened("s3://bkt/path", endpoint_url=endpoint, **options)
    assert ("contains the bucket bkt" in caplog.text) is told


def test_failing_credentials_fail_the_request_in_our_words(metadata: Metadata) -> None:
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{metadata.url}/container", "AWS_ENDPOINT_URL": metadata.url}
    with pytest.raises(BarmanCloudError, match="container credentials"):
        opened("s3://bucket", environ).get("k")
