"""Google Cloud Storage.

Bytes travel through the XML API, which is what obstore speaks; listing, deletion and holds through the JSON API.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from barman_cloud.store.base import Capabilities, ObjectLock, StoreURL
from barman_cloud.store.bucket_api import Attributes, BucketApi, PartsApi
from barman_cloud.store.cloud import CloudStore
from barman_cloud.store.google.keys import GoogleSource
from barman_cloud.store.google.settings import GoogleSettings
from barman_cloud.store.retry import Retry

if TYPE_CHECKING:
    from barman_cloud.store.google.api import GoogleApi
    from barman_cloud.store.google.facts import GoogleFacts


class GoogleStore(CloudStore):
    """A bucket of Google Cloud Storage, which has no tags: they become custom metadata, as Barman has it."""

    capabilities = Capabilities(max_delete_batch=100, object_lock=True)

    def __init__(
        self,
        url: StoreURL,
        settings: GoogleSettings,
        credentials: GoogleSource,
        *,
        retry: Retry,
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(url, retry=retry, storage_class=settings.storage_class)
        self._settings = settings
        self._credentials = credentials
        self._environ = environ
        self._api: GoogleApi | None = None

    @property
    def provider_api(self) -> BucketApi:
        return self._google_api

    @property
    def _google_api(self) -> GoogleApi:
        if self._api is None:
            from barman_cloud.store.google.api import GoogleApi

            self._api = GoogleApi(self._settings, self._credentials, self._environ, self.deadline)
        return self._api

    @property
    def parts_api(self) -> PartsApi:
        from barman_cloud.store.google.parts import GoogleParts

        return GoogleParts(self._google_api, self._settings)

    def _make_client(self, client_options: dict[str, Any], retry_config: dict[str, Any], purpose: str) -> Any:
        from obstore.store import GCSStore

        client_options["allow_http"] = self._settings.endpoint.startswith("http://")
        if purpose != "read" and self._settings.kms_key_name:
            client_options["default_headers"] = {"x-goog-encryption-kms-key-name": self._settings.kms_key_name}
        if self._settings.ca_file:
            from barman_cloud.store.trust import read_bundle

            client_options["root_certificate"] = read_bundle(self._settings.ca_file)
        return GCSStore(
            self._settings.bucket,
            config=cast(Any, {"base_url": self._settings.endpoint, "skip_signature": False}),
            client_options=cast(Any, client_options),
            retry_config=cast(Any, retry_config),
            credential_provider=cast(Any, self._provide),
        )

    def _provide(self) -> dict[str, Any]:
        """Give obstore the current token in its own form."""
        credentials = self._credentials()
        return {"token": credentials.token, "expires_at": credentials.expires}

    def obstore_arguments(self, attributes: Attributes) -> dict[str, Any]:
        metadata = {**attributes.metadata, **(attributes.tags or {})}
        return super().obstore_arguments(Attributes(None, metadata, attributes.storage_class))

    def _delete_batch(self, keys: list[str]) -> dict[str, str]:
        return self._delete_singly(keys)

    def object_lock(self, key: str) -> ObjectLock | None:
        return self.attempt("lock", key, lambda: self._google_api.object_lock(key))

    def facts(self) -> GoogleFacts:
        from barman_cloud.store.google.facts import GoogleFacts

        attempt = lambda action: self.attempt("facts", None, action)  # noqa: E731
        return GoogleFacts(self._settings, self.url.path, self._credentials, lambda: self._google_api, attempt)
