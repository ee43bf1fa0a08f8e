"""From a URL, options and the environment to a store; the only place that looks at the variables of the clouds."""

from __future__ import annotations

import os
from collections.abc import Mapping

from barman_cloud.store.base import ObjectStore, StoreURL
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.url import AWS, AZURE, FILE, GOOGLE, parse_url


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
        from barman_cloud.store.s3.open import open_s3

        return open_s3(url, options, environ)
    if url.provider == AZURE:
        from barman_cloud.store.azure.open import open_azure

        return open_azure(url, options, environ)
    if url.provider == GOOGLE:
        from barman_cloud.store.google.open import open_google

        return open_google(url, options, environ)
    from barman_cloud.store.memory import open_memory

    return open_memory(url)
