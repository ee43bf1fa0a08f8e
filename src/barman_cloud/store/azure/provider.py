"""Azure Blob Storage, as an entry of the table of providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.base import StoreURL
from barman_cloud.store.provider import Provider
from barman_cloud.store.providers import AZURE
from barman_cloud.store.url import refuse, split, without_secrets, wrong_form

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.store.options import StoreOptions

FORM = "https://account.blob.core.windows.net/container/path"
_HOST = (
    r"\.blob\.(core\.windows\.net|core\.usgovcloudapi\.net|core\.chinacloudapi\.cn|core\.cloudapi\.de"
    r"|storage\.azure\.net)"
)


def _recognises(text: str) -> bool:
    host = split(text).hostname or ""
    return text[:4].lower() == "http" and re.search(_HOST + r"\Z", host) is not None


def _parse(text: str) -> StoreURL:
    parts = split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        wrong_form(text, AZURE, FORM)
    if "@" in parts.netloc or "sig=" in parts.query:
        refuse(text, "holds a secret", "give a signature in AZURE_STORAGE_SAS_TOKEN, not in the URL")
    endpoint = f"{parts.scheme}://{parts.netloc}"
    path = parts.path.strip("/")
    if re.search(_HOST + r"\Z", parts.hostname):
        account = parts.hostname.partition(".")[0]
    else:
        account, _, path = path.partition("/")
        endpoint += f"/{account}"
    container, _, path = path.strip("/").partition("/")
    if not account or not container:
        refuse(text, "names no container", f"use {FORM}")
    return StoreURL(AZURE, container, path.strip("/"), without_secrets(text), endpoint=endpoint, account=account)


def _open(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> ObjectStore:
    from barman_cloud.store.azure.open import open_azure

    return open_azure(url, options, environ)


PROVIDER = Provider(
    AZURE,
    FORM,
    _recognises,
    _parse,
    _open,
    deciding_variables=("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_CONNECTION_STRING"),
    snapshots="azure",
)
