"""Settings and credentials of AWS, from options, environment and files."""

from __future__ import annotations

import base64
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.s3.keys import AwsCredentials
from barman_cloud.store.s3.settings import S3Settings
from barman_cloud.store.s3.sigv4 import sign
from barman_cloud.store.s3.store import S3Store

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hush-hush"}


def opened(url: str = "s3://bucket/path", environ: dict[str, str] | None = None, **options: Any) -> S3Store:
    store = open_store(url, None, StoreOptions(**options), {**KEYS} if environ is None else environ)
    assert isinstance(store, S3Store)
    return store


def settings(*arguments: Any, **options: Any) -> S3Settings:
    return opened(*arguments, **options)._settings


def credentials(environ: dict[str, str], **options: Any) -> AwsCredentials:
    return opened("s3://bucket", environ, **options)._credentials()


# Where requests go ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "environ", "options", "expected"),
    [
        ("s3://bucket", {}, {}, "https://bucket.s3.us-east-1.amazonaws.com"),
        ("s3://bucket", {"AWS_DEFAULT_REGION": "eu-west-1"}, {}, "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("s3://bucket", {"AWS_REGION": "cn-north-1"}, {}, "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
        ("s3://bucket", {}, {"addressing_style": "path"}, "https://s3.us-east-1.amazonaws.com/bucket"),
        ("s3://my.dotted.bucket", {}, {}, "https://s3.us-east-1.amazonaws.com/my.dotted.bucket"),
        ("s3://Upper_Case", {}, {}, "https://s3.us-east-1.amazonaws.com/Upper_Case"),
        (
            "s3://bucket",
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            {},
            "https://bucket.s3.dualstack.us-east-1.amazonaws.com",
        ),
        ("s3://bucket", {"AWS_USE_FIPS_ENDPOINT": "true"}, {}, "https://bucket.s3-fips.us-east-1.amazonaws.com"),
        ("s3://bucket", {}, {"endpoint_url": "http://h:9000/"}, "http://h:9000/bucket"),
        ("s3://bucket", {}, {"endpoint_url": "http://h/base", "addressing_style": "auto"}, "http://h/base/bucket"),
        ("s3://bucket", {}, {"endpoint_url": "https://h", "addressing_style": "virtual"}, "https://bucket.h"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://e"}, {}, "http://e/bucket"),
        ("s3://bucket", {"AWS_ENDPOINT_URL": "http://e", "AWS_ENDPOINT_URL_S3": "http://f"}, {}, "http://f/bucket"),
        ("s3://bucket", {"AWS_ENDPOINT_URL_S3": "http://f"}, {"endpoint_url": "http://g"}, "http://g/bucket"),
        (
            "s3://bucket",
            {"AWS_ENDPOINT_URL": "http://e", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {},
            "https://bucket.s3.us-east-1.amazonaws.com",
        ),
        (
            "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/p",
            {},
            {},
            "https://ap-123456789012.s3-accesspoint.eu-west-1.amazonaws.com",
        ),
    ],
)
def test_address(url: str, environ: dict[str, str], options: dict[str, Any], expected: str) -> None:
    assert settings(url, {**KEYS, **environ}, **options).bucket_url == expected


def test_profiles_give_settings_too(aws_files: dict[str, str]) -> None:
    found = settings("s3://bucket", aws_files, aws_profile="static")
    assert (found.region, found.bucket_url) == ("ap-south-1", "https://bucket.store.example.com")
    assert found.checksums_when_required is True
    assert settings("s3://bucket", aws_files).region == "eu-north-1"
    assert settings("s3://bucket", aws_files, aws_profile="serviced").endpoint == "http://127.0.0.1:9"


def test_an_access_point_on_outposts_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened("s3://arn:aws:s3-outposts:eu-west-1:1:outpost/op-1/accesspoint/ap/p")
    assert "alias" in (raised.value.hint or "")


# Refused settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "options"),
    [
        ({}, {"sse_kms_key_id": "k"}),
        ({}, {"sse_kms_key_id": "k", "encryption": "AES256"}),
        ({}, {"encryption": "rot13"}),
        ({}, {"encryption": "AES256", "sse_customer_key": "file:///x"}),
        ({}, {"endpoint_url": "host:9000"}),
        ({}, {"endpoint_url": "http://"}),
        ({"AWS_MAX_ATTEMPTS": "many"}, {}),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "never"}, {}),
        ({"AWS_RESPONSE_CHECKSUM_VALIDATION": "never"}, {}),
        ({"AWS_SECRET_ACCESS_KEY": ""}, {}),
        ({}, {"aws_profile": "no-such-profile"}),
        ({"AWS_PROFILE": "no-such-profile"}, {}),
    ],
)
def test_refused(environ: dict[str, str], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened("s3://bucket", {**KEYS, **environ}, **options)
    assert "hush-hush" not in f"{raised.value}{raised.value.hint}"


@pytest.mark.parametrize(
    "content", [b"", b"c2hvcnQ", b"!" * 44, base64.b64encode(bytes(16)), base64.b64encode(bytes(33))]
)
def test_bad_customer_keys(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ConfigurationError) as raised:
        opened(sse_customer_key=f"file://{tmp_path}/key")
    assert content.decode() not in str(raised.value).partition("/key:")[2] or not content


@pytest.mark.parametrize("uri", ["/abs/path", "https://x/key", "file://relative", "file:///no/such/file"])
def test_bad_customer_key_uris(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        opened(sse_customer_key=uri)


def test_a_customer_key_through_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = base64.b64encode(bytes(range(32)))
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"\n" + text + b" \n"))
    writer.start()
    assert settings(sse_customer_key=f"file://{pipe}").customer_key == text.decode()
    writer.join()


def test_a_broken_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("no section = here\n")
    with pytest.raises(ConfigurationError, match="isn't a configuration file"):
        opened("s3://bucket", {**KEYS, "AWS_CONFIG_FILE": str(tmp_path / "config")})


# The signature --------------------------------------------------------------------------------------------------------


def test_the_example_of_the_documentation() -> None:
    """S3 API reference, "Signature calculations", example GET Object."""
    key = AwsCredentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    headers = sign(
        key,
        method="GET",
        host="examplebucket.s3.amazonaws.com",
        path="/test.txt",
        query="",
        headers={"Range": "bytes=0-9"},
        body=b"",
        region="us-east-1",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert headers["authorization"].endswith(
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
