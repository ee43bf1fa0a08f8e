"""Storage URLs: which provider, which bucket, which path.

Accepted forms (the path may be empty or have several levels; slashes at its ends mean nothing)::

    s3://bucket/path                                    Amazon S3 and compatible stores
    s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME/path    ... through an access point
    https://account.blob.core.windows.net/container/path    Azure Blob Storage, the sovereign clouds too
    http://host:port/account/container/path             ... its emulator (provider must be named)
    gs://bucket/path                                    Google Cloud Storage
    https://console.cloud.google.com/storage/browser/bucket/path    ... its legacy form
    file:///directory                                   a local directory

Each provider's own module parses its URLs; what they share is here. Nothing is percent-decoded: the path is used 1:1 as
the beginning of every key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from barman_cloud.errors import ConfigurationError
from barman_cloud.store import providers

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from barman_cloud.store.base import StoreURL
    from barman_cloud.store.provider import Provider


def parse_url(text: str, provider: str | None = None) -> StoreURL:
    """Parse ``text``; ``provider`` is the value of ``--cloud-provider``, or None to infer it from the URL.

    Raises ``ConfigurationError`` for an unknown scheme, a URL of another provider, or a missing bucket.
    """
    return provider_of(text, provider).parse(text)


def provider_of(text: str, provider: str | None = None) -> Provider:
    """Return the provider whose URL ``text`` is, or is said to be."""
    found = providers.inferred(text)
    if provider is not None:
        named = providers.named(provider)
        if found is not None and not providers.TABLE[found.name].selectable:
            refuse(text, f"isn't a URL of {provider}", f"leave out --cloud-provider, or use {named.url_form}")
        return named
    if found is None:
        forms = ", ".join(known.url_form for known in providers.every())
        emulator = f"; for Azure's emulator say --cloud-provider {providers.AZURE}" if text[:4] == "http" else ""
        refuse(text, "isn't a storage URL that we know", f"use one of {forms}{emulator}")
    return found


def split(text: str) -> SplitResult:
    """Split a URL; a malformed one, such as an IPv6 address without its bracket, has nothing in it."""
    from urllib.parse import SplitResult, urlsplit  # not needed for S3, so not paid for there

    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def refuse(text: str, reason: str, hint: str) -> NoReturn:
    raise ConfigurationError(f"{without_secrets(text)} {reason}", hint=hint)


def without_secrets(text: str) -> str:
    """Return the URL without query, fragment and user info, where people put signatures and passwords.

    A password may have any character in it, so with an ``@`` all that comes before the last one is left out; and
    somebody may have left out the ``@``.
    """
    import re

    text = re.split(r"[?#]", text, maxsplit=1)[0]
    text = re.sub(r"://.*@", "://…@", text, flags=re.DOTALL)
    return re.sub(r"://(?!arn:)[^/]*:(?![0-9]*(/|$))[^/]*", "://…", text)


def wrong_form(text: str, name: str, form: str) -> NoReturn:
    refuse(text, f"isn't a URL of {name}", f"use {form}, or the --cloud-provider that fits the URL")


def bucket_and_path(rest: str, text: str, form: str) -> tuple[str, str]:
    """Split what follows the scheme of a URL such as ``s3://bucket/path``; nobody's password is a bucket."""
    bucket, _, path = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        scheme = text.partition("://")[0]
        raise ConfigurationError(
            f"a URL of the form {scheme}://USER:PASSWORD@… isn't used",
            hint=f"put keys into variables or files of the provider, and write {form}",
        )
    if not bucket.isprintable():
        raise ConfigurationError("the bucket of the URL has a control character in its name", hint=f"use {form}")
    if not bucket:
        refuse(text, "names no bucket", f"use {form}")
    return bucket, path.strip("/")
