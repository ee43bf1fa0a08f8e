"""Storage URLs: which store, which bucket, which path.

Accepted forms (the path may be empty or have several levels; slashes at its ends mean nothing)::

    s3://bucket/path                                    Amazon S3 and compatible stores
    s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path    ... through an access point
    https://account.blob.core.windows.net/container/path    Azure Blob Storage, the sovereign clouds too
    http://host:port/account/container/path             ... its emulator (provider must be named)
    gs://bucket/path                                    Google Cloud Storage
    https://console.cloud.google.com/storage/browser/bucket/path    ... its legacy form
    file:///directory                                   a local directory
    memory://name                                       memory of this process, for tests

Nothing is percent-decoded: the path is used 1:1 as the beginning of every key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from barman_cloud.errors import ConfigurationError
from barman_cloud.store.base import StoreURL

if TYPE_CHECKING:
    from urllib.parse import SplitResult

AWS = "aws-s3"
AZURE = "azure-blob-storage"
GOOGLE = "google-cloud-storage"
FILE = "file"
MEMORY = "memory"

CLOUD_PROVIDERS = (AWS, AZURE, GOOGLE)
"""What ``--cloud-provider`` accepts; ``file`` and ``memory`` follow from the URL alone."""

# Patterns are text, compiled when a URL needs them: importing this module is on the path of wal-archive.
_AZURE_HOST = (
    r"\.blob\.(core\.windows\.net|core\.usgovcloudapi\.net|core\.chinacloudapi\.cn|core\.cloudapi\.de"
    r"|storage\.azure\.net)$"
)
_GOOGLE_CONSOLE = "https://console.cloud.google.com/storage/browser/"
_ACCESS_POINT = (
    r"arn:[^:/]+:(s3:[^:/]*:[^:/]*:accesspoint[:/][^:/]+"
    r"|s3-outposts:[^:/]*:[^:/]*:outpost[:/][^:/]+[:/]accesspoint[:/][^:/]+)"
)

_FORMS = {
    AWS: "s3://bucket/path",
    AZURE: "https://account.blob.core.windows.net/container/path",
    GOOGLE: "gs://bucket/path",
    FILE: "file:///directory",
    MEMORY: "memory://name",
}


def parse_url(text: str, provider: str | None = None) -> StoreURL:
    """Parse ``text``; ``provider`` is the value of ``--cloud-provider``, or None to infer it from the URL.

    Raises ``ConfigurationError`` for an unknown scheme, a URL of another provider, or a missing bucket.
    """
    inferred = infer_provider(text)
    if inferred in (FILE, MEMORY):
        if provider is not None:
            _refuse(text, f"isn't a URL of {provider}", f"leave out --cloud-provider, or use {_FORMS[provider]}")
        return _parse_file(text) if inferred == FILE else _parse_memory(text)
    if provider is None:
        provider = inferred
    if provider is None:
        if text[:7].lower() in ("http://", "https:/"):
            hint = f"Azure looks like {_FORMS[AZURE]}; for its emulator say --cloud-provider {AZURE}"
        else:
            hint = "use one of " + ", ".join(form for name, form in _FORMS.items() if name != MEMORY)
        _refuse(text, "isn't a storage URL that we know", hint)
    parse = {AWS: _parse_s3, AZURE: _parse_azure, GOOGLE: _parse_google}.get(provider)
    if parse is None:
        raise ConfigurationError(f"unknown cloud provider {provider}", hint="use one of " + ", ".join(CLOUD_PROVIDERS))
    return parse(text)


def infer_provider(text: str) -> str | None:
    """Return the provider that the form of the URL tells, or None."""
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("s3", "gs", "file", "memory"):
        return {"s3": AWS, "gs": GOOGLE, "file": FILE, "memory": MEMORY}[scheme]
    if text.startswith(_GOOGLE_CONSOLE):
        return GOOGLE
    if scheme in ("http", "https") and re.search(_AZURE_HOST, _split(text).hostname or ""):
        return AZURE
    return None


def _split(text: str) -> SplitResult:
    from urllib.parse import SplitResult, urlsplit  # not needed for S3, so not paid for there

    try:
        return urlsplit(text)
    except ValueError:  # such as an IPv6 address without its bracket
        return SplitResult("", "", "", "", "")


def _refuse(text: str, reason: str, hint: str) -> NoReturn:
    raise ConfigurationError(f"{_without_secrets(text)} {reason}", hint=hint)


def _without_secrets(text: str) -> str:
    """Return the URL without query, fragment and user info, where people put signatures and passwords."""
    text = re.split(r"[?#]", text, maxsplit=1)[0]
    return re.sub(r"(?<=://)[^/@]*@", "", text)


def _wrong_form(text: str, provider: str) -> NoReturn:
    _refuse(text, f"isn't a URL of {provider}", f"use {_FORMS[provider]}, or the --cloud-provider that fits the URL")


def _no_bucket(text: str, provider: str) -> NoReturn:
    _refuse(text, "names no bucket" if provider != AZURE else "names no container", f"use {_FORMS[provider]}")


def _parse_s3(text: str) -> StoreURL:
    if text[:5].lower() != "s3://":
        _wrong_form(text, AWS)
    text = text.partition("?")[0].partition("#")[0]
    rest = text[5:]
    if arn := rest.startswith("arn:") and re.match(_ACCESS_POINT, rest):
        bucket, path = arn[0], rest[arn.end() :]
        if path and not path.startswith("/"):
            _refuse(text, "isn't an access point ARN that we know", "use arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME")
    elif rest.startswith("arn:"):
        _refuse(text, "isn't an access point ARN that we know", "use arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME")
    else:
        bucket, _, path = rest.partition("/")
    if not bucket:
        _no_bucket(text, AWS)
    return StoreURL(AWS, bucket, path.strip("/"), text)


def _parse_azure(text: str) -> StoreURL:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        _wrong_form(text, AZURE)
    if parts.username or "sig=" in parts.query:
        _refuse(text, "holds a secret", "give a signature in AZURE_STORAGE_SAS_TOKEN, not in the URL")
    clean = _without_secrets(text)
    endpoint = f"{parts.scheme}://{parts.netloc}"
    path = parts.path.strip("/")
    if re.search(_AZURE_HOST, parts.hostname):
        account = parts.hostname.partition(".")[0]
    else:
        account, _, path = path.partition("/")
        endpoint += f"/{account}"
    container, _, path = path.strip("/").partition("/")
    if not account or not container:
        _no_bucket(text, AZURE)
    return StoreURL(AZURE, container, path.strip("/"), clean, endpoint=endpoint, account=account)


def _parse_google(text: str) -> StoreURL:
    if text[:5].lower() == "gs://":
        rest = text[5:]
    elif text.startswith(_GOOGLE_CONSOLE):
        rest = text[len(_GOOGLE_CONSOLE) :]
    else:
        _wrong_form(text, GOOGLE)
    bucket, _, path = rest.partition("/")
    if not bucket:
        _no_bucket(text, GOOGLE)
    return StoreURL(GOOGLE, bucket, path.strip("/"), text)


def _parse_file(text: str) -> StoreURL:
    rest = text[len("file://") :]
    if rest.startswith("localhost/"):
        rest = rest[len("localhost") :]
    if not rest.startswith("/"):
        _refuse(text, "isn't an absolute path", "use three slashes, as in file:///var/backups/postgresql")
    directory = rest.rstrip("/")
    if not directory:
        _refuse(text, "names no directory", f"use {_FORMS[FILE]}")
    return StoreURL(FILE, directory, "", text)


def _parse_memory(text: str) -> StoreURL:
    name, _, path = text[len("memory://") :].partition("/")
    if not name:
        _refuse(text, "has no name", f"use {_FORMS[MEMORY]}")
    return StoreURL(MEMORY, name, path.strip("/"), text)
