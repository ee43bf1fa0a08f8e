"""Options and environment become the settings of one bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Mapping

from barman_cloud.store.base import StoreURL
from barman_cloud.store.environment import clean_url
from barman_cloud.store.google.keys import GoogleCredentials, GoogleSource
from barman_cloud.store.google.settings import GoogleSettings
from barman_cloud.store.google.store import GoogleStore
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.retry import Retry
from barman_cloud.store.storage_class import checked_class


def open_google(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> GoogleStore:
    """Return the store; no request is made. ``STORAGE_EMULATOR_HOST`` names an emulator, which needs no credentials."""
    source: GoogleSource
    project: str | None = None
    emulator = environ.get("STORAGE_EMULATOR_HOST")
    if emulator:
        endpoint = emulator if "://" in emulator else f"http://{emulator}"
        anonymous = GoogleCredentials("anonymous")
        source = lambda: anonymous  # noqa: E731
        origin = "none: STORAGE_EMULATOR_HOST names an emulator"
    else:
        from barman_cloud.store.expiring import Refreshing
        from barman_cloud.store.google.identity import find_identity, origin_of

        endpoint = f"https://storage.{environ.get('GOOGLE_CLOUD_UNIVERSE_DOMAIN') or 'googleapis.com'}"
        found, project = find_identity(environ)
        source = Refreshing(found)
        origin = origin_of(environ)
    settings = GoogleSettings(
        bucket=url.bucket,
        endpoint=clean_url(endpoint, "STORAGE_EMULATOR_HOST" if emulator else "GOOGLE_CLOUD_UNIVERSE_DOMAIN"),
        kms_key_name=options.kms_key_name,
        ca_file=environ.get("REQUESTS_CA_BUNDLE") or None,
        storage_class=checked_class(options.storage_class, "Google", ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")),
        project=environ.get("GOOGLE_CLOUD_PROJECT") or project,
        origin=origin,
    )
    return GoogleStore(url, settings, source, retry=Retry(options.retry_until()), environ=environ)
