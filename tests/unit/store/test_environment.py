"""Settings with white space at their ends work; with a control character inside they are refused by name."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, ConfigurationError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.environment import clean, clean_process, clean_secret, clean_url
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.fault_proxy import fault_proxy
from tests.support.servers import StoreServer

KEY = base64.b64encode(b"k" * 64).decode()
AWS = {"AWS_ACCESS_KEY_ID": "AKIDHUSH", "AWS_SECRET_ACCESS_KEY": "hush-HUSH", "AWS_SESSION_TOKEN": "token-HUSH"}
S3_SETTINGS = {
    **AWS,
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_REGION": "eu-west-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
    "AWS_MAX_ATTEMPTS": "11",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_CA_BUNDLE": "/nonexistent",
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported",
    "AWS_USE_FIPS_ENDPOINT": "false",
}
AZURE_SETTINGS = {
    "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=acc;AccountKey={KEY}",
    "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=HUSH",
    "AZURE_STORAGE_KEY": KEY,
    "AZURE_STORAGE_ACCOUNT": "acc",
    "REQUESTS_CA_BUNDLE": "/nonexistent",
}
GOOGLE_SETTINGS = {
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.com",
    "GOOGLE_CLOUD_PROJECT": "project",
}
URLS = {"s3": "s3://bucket/p", "azure": "https://acc.blob.core.windows.net/c/p", "google": "gs://bucket/p"}
TABLE = [
    *(("s3", name) for name in S3_SETTINGS),
    *(("azure", name) for name in AZURE_SETTINGS),
    *(("google", name) for name in GOOGLE_SETTINGS),
]
SETTINGS = {"s3": S3_SETTINGS, "azure": AZURE_SETTINGS, "google": GOOGLE_SETTINGS}


def environment(provider: str, name: str, value: str) -> dict[str, str]:
    """Return what is needed to open a store of the provider, and ``name`` set to ``value``."""
    base: dict[str, str] = {"HOME": "/nonexistent"}
    if provider == "s3":
        base |= AWS
    elif provider == "azure" and name in ("AZURE_STORAGE_ACCOUNT", "REQUESTS_CA_BUNDLE"):
        base["AZURE_STORAGE_KEY"] = KEY
    elif provider == "google" and not name.startswith("STORAGE"):
        base["GOOGLE_APPLICATION_CREDENTIALS"] = ""
    return {**base, name: value}


def stored(provider: str, environ: Mapping[str, str]) -> tuple[Any, Any]:
    """Return the settings and credentials that a store was opened with."""
    store: Any = open_store(URLS[provider], None, StoreOptions(deadline=Deadline(0.1)), environ)
    credentials = store._credentials() if provider != "google" or "STORAGE_EMULATOR_HOST" in environ else None
    if provider == "azure":  # derived signatures have the time in them
        credentials = credentials.sas if "SAS_TOKEN" in "".join(environ) else None
    return store._settings, credentials


@pytest.mark.parametrize(("provider", "name"), TABLE)
@pytest.mark.parametrize(("before", "behind"), [("", "\n"), ("", "\r\n"), (" ", " "), ("\t", "\n\n")])
def test_white_space_at_the_ends_means_nothing(provider: str, name: str, before: str, behind: str) -> None:
    value = SETTINGS[provider][name]
    plain = stored(provider, environment(provider, name, value))
    assert stored(provider, environment(provider, name, f"{before}{value}{behind}")) == plain


@pytest.mark.parametrize(("provider", "name"), TABLE)
@pytest.mark.parametrize("inside", ["\n", "\r", "\0", "\x1b", "\x7f", "\u2028", "\x85"])
def test_a_control_character_inside_is_refused_by_name(
    provider: str, name: str, inside: str, capfd: pytest.CaptureFixture[str]
) -> None:
    value = SETTINGS[provider][name]
    middle = len(value) // 2
    environ = environment(provider, name, value[:middle] + inside + value[middle:])
    if name == "AWS_REGION":
        environ.pop("AWS_DEFAULT_REGION", None)
    with pytest.raises(ConfigurationError, match=name) as raised:
        stored(provider, environ)
    assert raised.value.hint
    for part in ("HUSH", KEY[:12], inside):
        assert part not in f"{raised.value} {raised.value.hint}"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", AWS)
@pytest.mark.parametrize("inside", ["“", "é", "\ud8ff"])
def test_what_cannot_be_sent_is_refused_by_name(name: str, inside: str) -> None:
    with pytest.raises(ConfigurationError, match=name) as raised:
        stored("s3", {**AWS, name: f"SEC{inside}RET"})
    assert "SEC" not in str(raised.value).replace("AWS_SECRET_ACCESS_KEY", "")


@pytest.mark.parametrize("option", ["endpoint_url", "encryption", "sse_kms_key_id", "kms_key_name", "encryption_scope"])
def test_options_are_settings_too(option: str) -> None:
    value = {"endpoint_url": "http://127.0.0.1:9", "encryption": "aws:kms"}.get(option, "key-1")
    more = {"encryption": "aws:kms"} if option == "sse_kms_key_id" else {}
    provider = {"kms_key_name": "google", "encryption_scope": "azure"}.get(option, "s3")
    environ = {**AWS, "AZURE_STORAGE_KEY": KEY, "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}

    def opened(text: str) -> Any:
        store: Any = open_store(URLS[provider], None, StoreOptions(**{**more, option: text}), environ)
        return store._settings

    assert opened(f" {value}\n") == opened(value)
    with pytest.raises(ConfigurationError, match=f"--{option.replace('_', '-')}"):
        opened(f"{value[:3]}\n{value[3:]}")


def test_the_name_of_a_profile_is_a_setting_too(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile p]\naws_access_key_id = AK\naws_secret_access_key = S\n")
    environ = {"AWS_CONFIG_FILE": f" {tmp_path}/config\n", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    for options, more in ((StoreOptions(aws_profile="p\n"), {}), (StoreOptions(), {"AWS_PROFILE": "p\r\n"})):
        store: Any = open_store("s3://bucket", None, options, {**environ, **more})
        assert store._credentials()[:2] == ("AK", "S")


def test_profiles_are_settings_too(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[profile p]\naws_access_key_id = AK \naws_secret_access_key = SE\x1bCRET\n")
    environ = {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    with pytest.raises(ConfigurationError, match="aws_secret_access_key of the AWS profile p") as raised:
        open_store("s3://bucket", None, StoreOptions(aws_profile="p"), environ)
    assert "CRET" not in str(raised.value)


def test_a_session_token_of_another_key_is_not_sent(moto: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore would take it from the environment of the process."""
    url = moto.new_bucket()
    with fault_proxy(moto.endpoint) as proxy:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "STRAY\n")
        environ = {name: value for name, value in moto.environ.items() if "ENDPOINT" not in name}
        with open_store(url, None, StoreOptions(endpoint_url=proxy.endpoint, deadline=Deadline(5)), environ) as store:
            store.put("k", b"x")
            assert store.get("k") == b"x"
            assert [info.key for info in store.list("")] == ["k"]
        assert len(proxy.seen) >= 3
        assert not any("x-amz-security-token" in seen.headers for seen in proxy.seen)


def test_proxies_of_the_process_are_cleaned_for_the_libraries_that_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9\n")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    clean_process()
    assert os.environ["http_proxy"] == "http://127.0.0.1:9"
    assert os.environ["NO_PROXY"] == "127.0.0.1"
    monkeypatch.setenv("HTTPS_PROXY", "http://user:SEC\nRET@h")
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as raised:
        clean_process()
    assert "RET" not in str(raised.value)


NO_ADDRESSES = ["h:9000", "ftp://h", "http://", "http:///x", "http://h:port", "http://h:99999", "http://u:p@h", "//h"]
NO_ADDRESSES += ["http://h?x=1", "http://h#f", "http://h/?x", "http://[::1", "http://h:0", "https://h/ü", "http://ü"]
NO_ADDRESSES += ["http://.", "http://.h", "http://a..b", "https://h..", f"http://{'h' * 64}"]


@pytest.mark.parametrize("text", [*NO_ADDRESSES, "http://h h", "https://h/a b"])
def test_addresses_that_cannot_be_used(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the endpoint") as raised:
        clean_url(text, "the endpoint")
    assert "p@" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "http://h",
        "https://h:443/",
        "http://127.0.0.1:9000/base",
        "http://[::1]:9",
        "HTTP://H",
        "http://h.",
        f"http://{'h' * 63}.h",
    ],
)
def test_addresses_that_can(text: str) -> None:
    assert clean_url(f" {text}\n", "x") == text.rstrip("/")


@given(st.text(max_size=20), st.sampled_from([clean, clean_secret]))
def test_whatever_passes_can_be_sent_in_one_line(text: str, check: Callable[[str, str], str]) -> None:
    try:
        passed = check(text, "NAME")
    except ConfigurationError as error:
        assert "NAME" in str(error)
        return
    assert passed == text.strip()
    assert len(passed.splitlines()) <= 1
    if check is clean_secret:
        passed.encode("ascii")


@pytest.mark.parametrize("provider", URLS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_setting_makes_the_client_library_panic(provider: str, data: st.DataObject) -> None:
    """Whatever a variable holds, a request ends with one of our errors."""
    names = list(SETTINGS[provider])
    name = data.draw(st.sampled_from(names))
    value = data.draw(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12))
    environ = environment(provider, name, value)
    if provider == "s3" and "ENDPOINT" not in name:
        environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
    if provider == "azure" and "CONNECTION" not in name:
        environ["AZURE_STORAGE_CONNECTION_STRING"] = (
            f"BlobEndpoint=http://127.0.0.1:9/acc;AccountName=acc;AccountKey={KEY}"
        )
    if provider == "google" and name != "STORAGE_EMULATOR_HOST":
        environ["STORAGE_EMULATOR_HOST"] = "http://127.0.0.1:9"
    environ |= {"AWS_EC2_METADATA_DISABLED": "true", "no_proxy": "*"}
    for ask in (lambda store: store.put("k", b"x"), lambda store: list(store.list(""))):
        with pytest.raises(BarmanCloudError):
            asked(provider, environ, ask)


def asked(provider: str, environ: Mapping[str, str], ask: Callable[[ObjectStore], object]) -> None:
    with open_store(URLS[provider], None, StoreOptions(deadline=Deadline(0.01)), environ) as store:
        ask(store)


def test_tokens_of_services_are_settings_too(tmp_path: Path) -> None:
    script = tmp_path / "process"
    answer = {"Version": 1, "AccessKeyId": "AK\n", "SecretAccessKey": " S", "SessionToken": "T\r\n"}
    script.write_text(f"#!/bin/sh\ncat <<'E'\n{json.dumps(answer)}\nE\n")
    script.chmod(0o755)
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {script}\n")
    store: Any = open_store(
        "s3://bucket", None, None, {"AWS_CONFIG_FILE": str(tmp_path / "config"), "HOME": "/nonexistent"}
    )
    assert store._credentials()[:3] == ("AK", "S", "T")
