"""Settings and credentials of Azure and Google Cloud."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from barman_cloud.errors import AccessDeniedError, ConfigurationError
from barman_cloud.store.azure.keys import derive_sas
from barman_cloud.store.azure.store import AzureStore
from barman_cloud.store.google.keys import self_signed_token
from barman_cloud.store.google.store import GoogleStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.http_server import HttpServer

AZURE_URL = "https://acc.blob.core.windows.net/cont/path"
KEY = base64.b64encode(b"k" * 64).decode()
NOWHERE = {"HOME": "/nonexistent", "PATH": "/nonexistent", "AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://127.0.0.1:9"}


def azure(environ: Mapping[str, str], url: str = AZURE_URL, **options: Any) -> AzureStore:
    store = open_store(url, "azure-blob-storage", StoreOptions(**options), dict(environ))
    assert isinstance(store, AzureStore)
    return store


def google(environ: Mapping[str, str], **options: Any) -> GoogleStore:
    store = open_store("gs://bucket/path", None, StoreOptions(**options), dict(environ))
    assert isinstance(store, GoogleStore)
    return store


Answer = tuple[int, dict[str, Any]]


class TokenService:
    """Answers every request by a function; for login, metadata and identity endpoints."""

    def __init__(self) -> None:
        self.answer: Callable[[str, str, Mapping[str, str], str], Answer] = lambda *_: (404, {})
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, content = service.answer(self.command, self.path, headers, body)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = HttpServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"http://{self.host}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service(patient_client: None) -> Iterator[TokenService]:
    running = TokenService()
    yield running
    running.server.shutdown()
    running.server.server_close()


# Azure ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "endpoint", "account"),
    [
        (f"AccountName=acc;AccountKey={KEY}", "https://acc.blob.core.windows.net", "acc"),
        (
            f"DefaultEndpointsProtocol=http;AccountName=x;AccountKey={KEY};EndpointSuffix=example.net;",
            "http://x.blob.example.net",
            "x",
        ),
        (f"BlobEndpoint=https://h/acc/;AccountName=acc;AccountKey={KEY}", "https://h/acc", "acc"),
        ("BlobEndpoint=https://h;SharedAccessSignature=sv=1&sig=x", "https://h", "acc"),
        ("SharedAccessSignature=?sv=1&sig=x", "https://acc.blob.core.windows.net", "acc"),
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
    ],
)
def test_connection_strings(text: str, endpoint: str, account: str) -> None:
    store = azure({"AZURE_STORAGE_CONNECTION_STRING": text})
    assert (store._settings.endpoint, store._settings.account) == (endpoint, account)
    sas = store._credentials().sas
    assert sas
    assert not sas.startswith("?")


@pytest.mark.parametrize("text", ["nonsense", "AccountName=acc", f"AccountKey={KEY[:-3]}", ";"])
def test_bad_connection_strings(text: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        azure({"AZURE_STORAGE_CONNECTION_STRING": text})
    assert raised.value.hint
    assert KEY[:10] not in str(raised.value)


def test_order_of_azure_credentials(service: TokenService) -> None:
    environ = {
        "AZURE_STORAGE_CONNECTION_STRING": "SharedAccessSignature=sig=connection",
        "AZURE_STORAGE_SAS_TOKEN": "?sig=token",
        "AZURE_STORAGE_KEY": KEY,
        "IDENTITY_ENDPOINT": f"{service.url}/msi",
        "IDENTITY_HEADER": "secret",
    }
    service.answer = lambda *_: (200, {"access_token": "TOKEN", "expires_on": "4102444800"})
    assert azure(environ, azure_credential="managed-identity")._credentials().token == "TOKEN"
    assert azure(environ)._credentials().sas == "sig=connection"
    del environ["AZURE_STORAGE_CONNECTION_STRING"]
    assert azure(environ)._credentials().sas == "sig=token"
    del environ["AZURE_STORAGE_SAS_TOKEN"]
    assert "sr=c" in (azure(environ)._credentials().sas or "")
    del environ["AZURE_STORAGE_KEY"]
    assert azure(environ)._credentials().token == "TOKEN"


def test_an_emulator_needs_credentials() -> None:
    with pytest.raises(ConfigurationError, match="emulator"):
        azure({}, "http://127.0.0.1:10000/acc/cont")


def test_derived_signatures_have_a_beginning_and_an_end() -> None:
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    credentials = derive_sas("acc", "cont", KEY, moment)
    fields = parse_qs(credentials.sas or "")
    assert (fields["st"], fields["se"]) == (["2026-11-22T11:45:00Z"], ["2026-11-22T18:00:00Z"])
    assert fields["sr"] == ["c"]
    assert credentials.expires == moment + timedelta(hours=6)
    assert parse_qs(credentials.account_sas or "")["srt"] == ["c"]


def test_unknown_azure_credential() -> None:
    with pytest.raises(ConfigurationError, match="unknown Azure credential"):
        azure({}, azure_credential="magic")


def test_managed_identity_of_an_instance(service: TokenService) -> None:
    def answer(method: str, path: str, headers: Mapping[str, str], body: str) -> Answer:
        query = parse_qs(urlsplit(path).query)
        assert (method, headers["metadata"]) == ("GET", "true")
        assert query["resource"] == ["https://storage.azure.com/"]
        assert query["client_id"] == ["me"]
        return 200, {"access_token": "TOKEN", "expires_in": "3600"}

    service.answer = answer
    environ = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": service.url, "AZURE_CLIENT_ID": "me"}
    credentials = azure(environ, azure_credential="managed-identity")._credentials()
    assert credentials.token == "TOKEN"
    assert credentials.expires is not None


def test_workload_identity_and_client_secret(service: TokenService, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("assertion\n")
    asked: list[dict[str, list[str]]] = []

    def answer(method: str, path: str, headers: Mapping[str, str], body: str) -> Answer:
        assert (method, path) == ("POST", "/tenant/oauth2/v2.0/token")
        asked.append(parse_qs(body))
        return 200, {"access_token": "TOKEN", "expires_in": 3600}

    service.answer = answer
    base = {"AZURE_TENANT_ID": "tenant", "AZURE_CLIENT_ID": "me", "AZURE_AUTHORITY_HOST": f"{service.url}/"}
    assert azure({**base, "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token")})._credentials().token == "TOKEN"
    assert azure({**base, "AZURE_CLIENT_SECRET": "hush"})._credentials().token == "TOKEN"
    assert [form.get("client_assertion") for form in asked] == [["assertion"], None]
    assert asked[1]["client_secret"] == ["hush"]
    assert asked[1]["scope"] == ["https://storage.azure.com/.default"]


def test_azure_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "az"
    program.write_text(
        '#!/bin/sh\necho \'{"accessToken": "CLI", "expires_on": 4102444800, "expiresOn": "whenever"}\'\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert azure({}, azure_credential="azure-cli")._credentials().token == "CLI"


def test_no_azure_credentials_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(AccessDeniedError, match="no Azure credentials found") as raised:
        azure(NOWHERE)._credentials()
    assert raised.value.hint


def test_azure_sizes() -> None:
    store = azure({"AZURE_STORAGE_KEY": KEY}, max_block_size=1 << 20, max_single_put_size=5 << 20, max_concurrency=3)
    assert (store.part_size, store.single_put_limit, store.put_concurrency) == (1 << 20, 5 << 20, 3)


# Google ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A service account key as the console gives it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    content = {
        "type": "service_account",
        "project_id": "the-project",
        "private_key_id": "kid",
        "private_key": pem,
        "client_email": "backup@the-project.iam.gserviceaccount.com",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(content))
    return path


def test_a_service_account_signs_its_own_token(key_file: Path) -> None:
    """Checked with the library that we do without."""
    import jwt
    from cryptography.hazmat.primitives import serialization

    store = google({"GOOGLE_APPLICATION_CREDENTIALS": str(key_file)})
    token = store._credentials().token
    private = serialization.load_pem_private_key(json.loads(key_file.read_text())["private_key"].encode(), None)
    claims = jwt.decode(token, private.public_key(), algorithms=["RS256"])
    assert claims["iss"] == claims["sub"] == "backup@the-project.iam.gserviceaccount.com"
    assert "devstorage" in claims["scope"]
    assert jwt.get_unverified_header(token)["kid"] == "kid"
    assert store._settings.project == "the-project"


def test_tokens_end_after_an_hour(key_file: Path) -> None:
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    assert self_signed_token(json.loads(key_file.read_text()), moment).expires == moment + timedelta(hours=1)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}x",
        '{"type": "service_account"}',
        '{"type": "service_account", "private_key_id": "x", "client_email": "y", "private_key": "z"}',
    ],
)
def test_bad_key_files(content: str, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"key\.json"):
        google({"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json")})


def test_a_missing_key_file() -> None:
    with pytest.raises(ConfigurationError, match="can't read"):
        google({"GOOGLE_APPLICATION_CREDENTIALS": "/no/such/file"})


def test_a_login_is_refreshed(service: TokenService, tmp_path: Path) -> None:
    def answer(method: str, path: str, headers: Mapping[str, str], body: str) -> Answer:
        assert parse_qs(body)["refresh_token"] == ["R"]
        return 200, {"access_token": "USER", "expires_in": 3599}

    service.answer = answer
    content = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "R"}
    folder = tmp_path / "gcloud"
    folder.mkdir()
    file = folder / "application_default_credentials.json"
    file.write_text(json.dumps({**content, "token_uri": f"{service.url}/token"}))
    assert google({"CLOUDSDK_CONFIG": str(folder)})._credentials().token == "USER"


def test_the_metadata_server(service: TokenService) -> None:
    def answer(method: str, path: str, headers: Mapping[str, str], body: str) -> Answer:
        assert headers["metadata-flavor"] == "Google"
        assert path.endswith("/service-accounts/default/token")
        return 200, {"access_token": "GCE", "expires_in": 1000}

    service.answer = answer
    assert google({"HOME": "/nonexistent", "GCE_METADATA_HOST": service.host})._credentials().token == "GCE"


def test_no_google_credentials_at_all() -> None:
    with pytest.raises(AccessDeniedError, match="no Google Cloud credentials") as raised:
        google({"HOME": "/nonexistent", "GCE_METADATA_HOST": "127.0.0.1:9"})._credentials()
    assert raised.value.hint


def test_emulator_and_universe(key_file: Path) -> None:
    assert google({"STORAGE_EMULATOR_HOST": "127.0.0.1:4443"})._settings.endpoint == "http://127.0.0.1:4443"
    assert google({"STORAGE_EMULATOR_HOST": "https://h:1/"})._settings.endpoint == "https://h:1"
    environ = {"GOOGLE_APPLICATION_CREDENTIALS": str(key_file)}
    assert google(environ)._settings.endpoint == "https://storage.googleapis.com"
    environ["GOOGLE_CLOUD_UNIVERSE_DOMAIN"] = "example.cloud"
    assert google(environ)._settings.endpoint == "https://storage.example.cloud"


# Silence --------------------------------------------------------------------------------------------------------------


def test_a_silent_metadata_service_is_named() -> None:
    """On Azure and Google as on AWS: that it was asked, where, and that it didn't answer."""
    with socket.socket() as nobody:  # has the port, and doesn't listen
        nobody.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(
            AccessDeniedError, match=r"no Google Cloud credentials found: .*no answer from 127\.0\.0\.1"
        ):
            google({**NOWHERE, "GCE_METADATA_HOST": nowhere})._credentials()
        environ = {**NOWHERE, "AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{nowhere}"}
        with pytest.raises(
            AccessDeniedError, match=r"no Azure credentials found \(managed identity: no answer from 127"
        ):
            azure(environ)._credentials()
