"""Google Cloud Storage, as an entry of the table of providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.base import StoreURL
from barman_cloud.store.provider import Provider
from barman_cloud.store.providers import GOOGLE
from barman_cloud.store.url import bucket_and_path, wrong_form

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.store.options import StoreOptions

FORM = "gs://bucket/path"
_CONSOLE = "https://console.cloud.google.com/storage/browser/"


def _recognises(text: str) -> bool:
    return text[:5].lower() == "gs://" or text.startswith(_CONSOLE)


def _parse(text: str) -> StoreURL:
    if not _recognises(text):
        wrong_form(text, GOOGLE, FORM)
    rest = text[len(_CONSOLE) :] if text.startswith(_CONSOLE) else text[5:]
    bucket, path = bucket_and_path(rest, text, FORM)
    return StoreURL(GOOGLE, bucket, path, text)


def _open(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> ObjectStore:
    from barman_cloud.store.google.open import open_google

    return open_google(url, options, environ)


PROVIDER = Provider(
    GOOGLE,
    FORM,
    _recognises,
    _parse,
    _open,
    deciding_variables=("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "STORAGE_EMULATOR_HOST"),
    snapshots="gcp",
)
