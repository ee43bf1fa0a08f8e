"""Storage URLs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.open import open_store
from barman_cloud.store.providers import AWS, AZURE, GOOGLE
from barman_cloud.store.url import parse_url

AP = "arn:aws:s3:eu-west-1:123456789012:accesspoint/backups"
OUTPOST = "arn:aws:s3-outposts:eu-west-1:123456789012:outpost/op-1/accesspoint/backups"


@pytest.mark.parametrize(
    ("text", "provider", "bucket", "path"),
    [
        ("s3://b", AWS, "b", ""),
        ("s3://b/", AWS, "b", ""),
        ("s3://b/p/q/", AWS, "b", "p/q"),
        ("S3://B/p", AWS, "B", "p"),
        ("s3://b//p//", AWS, "b", "p"),
        ("s3://b/p%20q", AWS, "b", "p%20q"),
        ("s3://b/p?x=y#z", AWS, "b", "p"),
        (f"s3://{AP}", AWS, AP, ""),
        (f"s3://{AP}/p/q/", AWS, AP, "p/q"),
        (f"s3://{AP.replace('/', ':')}/p", AWS, AP.replace("/", ":"), "p"),
        (f"s3://{OUTPOST}/p", AWS, OUTPOST, "p"),
        ("gs://b/p/", GOOGLE, "b", "p"),
        ("https://console.cloud.google.com/storage/browser/b/p/q", GOOGLE, "b", "p/q"),
        ("file:///srv/backup/", "file", "/srv/backup", ""),
        ("file://localhost/srv", "file", "/srv", ""),
        ("memory://m/p", "memory", "m", "p"),
    ],
)
def test_inferred(text: str, provider: str, bucket: str, path: str) -> None:
    url = parse_url(text)
    assert (url.provider, url.bucket, url.path) == (provider, bucket, path)


@pytest.mark.parametrize(
    ("text", "endpoint", "account", "container", "path"),
    [
        ("https://acc.blob.core.windows.net/c/p/q/", "https://acc.blob.core.windows.net", "acc", "c", "p/q"),
        ("https://acc.blob.core.usgovcloudapi.net/c", "https://acc.blob.core.usgovcloudapi.net", "acc", "c", ""),
        ("https://acc.blob.core.chinacloudapi.cn/c/p", "https://acc.blob.core.chinacloudapi.cn", "acc", "c", "p"),
        ("http://127.0.0.1:10000/acc/c/p", "http://127.0.0.1:10000/acc", "acc", "c", "p"),
        ("https://emulator/acc/c", "https://emulator/acc", "acc", "c", ""),
    ],
)
def test_azure(text: str, endpoint: str, account: str, container: str, path: str) -> None:
    url = parse_url(text, AZURE)
    assert (url.provider, url.endpoint, url.account) == (AZURE, endpoint, account)
    assert (url.bucket, url.path) == (container, path)
    if "blob" in text:
        assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("", None),
        ("bucket/path", None),
        ("/srv/backup", None),
        ("ftp://b/p", None),
        ("s3:b", None),
        ("s3://", None),
        ("s3:///p", None),
        ("s3://arn:aws:iam::1:role/x", None),
        (f"s3://{AP}x:y", None),
        ("gs://", None),
        ("https://console.cloud.google.com/storage/browser/", None),
        ("file://", None),
        ("file:///", None),
        ("file://relative/dir", None),
        ("memory://", None),
        ("https://acc.blob.core.windows.net", None),
        ("https://acc.blob.core.windows.net/", None),
        ("http://127.0.0.1:10000/acc/c", None),
        ("http://127.0.0.1:10000/acc", AZURE),
        ("gs://b/p", AWS),
        ("s3://b/p", GOOGLE),
        ("s3://b/p", AZURE),
        ("https://acc.blob.core.windows.net/c", AWS),
        ("file:///srv", AWS),
        ("s3://b/p", "nimbus"),
    ],
)
def test_refused(text: str, provider: str | None) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_url(text, provider)
    assert raised.value.exit_code == 4
    assert raised.value.hint
    assert text.partition("?")[0] in str(raised.value) or provider == "nimbus"


@pytest.mark.parametrize(
    "text", ["https://acc.blob.core.windows.net/c?sv=1&sig=SECRET", "https://user:SECRET@acc.blob.core.windows.net/c"]
)
def test_secrets_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigurationError, match="holds a secret") as raised:
        parse_url(text)
    assert "SECRET" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKID:SECRET@bucket/path",
        "s3://AKID:SEC/RET@bucket/path",
        "S3://SECRET@bucket",
        "s3://AKID:SECRET/path",
        "gs://user:SECRET@bucket",
        "https://console.cloud.google.com/storage/browser/u:SECRET@b",
        "http://user:SECRET@127.0.0.1:10000/acc/c",
        "ftp://user:SECRET@host/path",
        "https://user:SEC@RET@host",
    ],
)
@pytest.mark.parametrize("provider", [None, AWS, AZURE, GOOGLE])
def test_a_password_in_any_url_is_refused_and_not_repeated(text: str, provider: str | None) -> None:
    if provider == AZURE and "console" in text:
        pytest.skip("an account called console, to Azure")
    with pytest.raises(ConfigurationError) as raised:
        parse_url(text, provider)
    for part in ("SEC", "RET", "AKID"):
        assert part not in f"{raised.value} {raised.value.hint}"


def test_an_at_sign_in_the_path_is_part_of_the_key() -> None:
    assert parse_url("s3://b/p@q:r").path == "p@q:r"
    assert parse_url("gs://b/p@q:r").path == "p@q:r"


def test_a_line_break_at_the_end_means_nothing() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "S"}
    with open_store("s3://bucket/path\r\n", environ=environ) as store:
        assert (store.url.bucket, store.url.path) == ("bucket", "path")
    with pytest.raises(ConfigurationError, match="control character"):
        open_store("s3://buc\nket/path", environ=environ)


@given(st.text(max_size=40), st.sampled_from(["", "s3://", "gs://", "file://", "https://", "s3://arn:aws:s3:"]))
def test_anything_else_is_a_configuration_error(rest: str, start: str) -> None:
    try:
        url = parse_url(start + rest)
    except ConfigurationError:
        return
    assert url.bucket
    assert not url.path.startswith("/")
    assert not url.path.endswith("/")
