"""From a URL, options and the environment to a store; the only place that looks at the variables of the clouds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from barman_cloud.store.base import ObjectStore, StoreURL
from barman_cloud.store.url import AWS, AZURE, FILE, GOOGLE, parse_url


class StoreOptions(NamedTuple):
    """What the command line says about the store; options of another provider than the URL's mean nothing."""

    endpoint_url: str | None = None
    aws_profile: str | None = None
    read_timeout: int | None = None
    """Seconds."""
    addressing_style: str | None = None
    azure_credential: str | None = None
    encryption: str | None = None
    sse_kms_key_id: str | None = None
    sse_customer_key: str | None = None
    """URI of the file that holds the key."""
    kms_key_name: str | None = None
    encryption_scope: str | None = None
    max_block_size: int | None = None
    """Bytes, as ``max_single_put_size``."""
    max_concurrency: int | None = None
    max_single_put_size: int | None = None
    retry_budget: float = 240.0
    """Seconds that passing failures of one request are borne."""

    def __repr__(self) -> str:
        return "StoreOptions(…)"  # names of key files are in it


def open_store(
    url: str | StoreURL,
    provider: str | None = None,
    options: StoreOptions | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ObjectStore:
    """Open the store at ``url``; no request is made.

    ``provider`` is the value of ``--cloud-provider`` or None to infer it. Raises ``ConfigurationError`` for a bad URL,
    options that exclude each other, and settings or files of the provider that can't be used.
    """
    if isinstance(url, str):
        url = parse_url(url, provider)
    options = options or StoreOptions()
    if url.provider == FILE:
        from barman_cloud.store.local import LocalStore

        return LocalStore(url)
    if url.provider == AWS:
        from barman_cloud.store.aws_settings import open_s3

        return open_s3(url, options, environ)
    if url.provider == AZURE:
        from barman_cloud.store.azure_settings import open_azure

        return open_azure(url, options, environ)
    if url.provider == GOOGLE:
        from barman_cloud.store.google_settings import open_google

        return open_google(url, options, environ)
    from barman_cloud.store.memory import open_memory

    return open_memory(url)
