"""Azure Blob Storage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from barman_cloud.errors import ObjectExistsError, ObjectNotFoundError, StoreError
from barman_cloud.store.azure.keys import AzureSource
from barman_cloud.store.azure.settings import AzureSettings
from barman_cloud.store.base import Capabilities, ObjectLock, PendingUpload, StoreURL
from barman_cloud.store.bucket_api import BucketApi, PartsApi
from barman_cloud.store.cloud import CloudStore
from barman_cloud.store.integrity import md5_of
from barman_cloud.store.retry import Retry

if TYPE_CHECKING:
    from barman_cloud.store.azure.api import AzureApi
    from barman_cloud.store.azure.parts import AzureParts


class AzureStore(CloudStore):
    """A container of block blobs. Tags are blob index tags."""

    etags_are_md5 = False
    capabilities = Capabilities(
        max_parts=50_000, min_part_size=64 << 10, max_delete_batch=256, object_lock=True, slash_decides=True
    )

    def __init__(
        self,
        url: StoreURL,
        settings: AzureSettings,
        credentials: AzureSource,
        *,
        retry: Retry,
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(url, retry=retry, storage_class=settings.access_tier)
        self._settings = settings
        self._credentials = credentials
        self._environ = environ
        self._api: AzureApi | None = None
        self._parts: AzureParts | None = None
        self._batches = True
        self.put_concurrency = settings.concurrency
        if settings.block_size is not None:
            self.part_size = max(settings.block_size, self.capabilities.min_part_size)
        if settings.single_put_limit is not None:
            self.single_put_limit = settings.single_put_limit

    @property
    def provider_api(self) -> BucketApi:
        return self._azure_api

    @property
    def _azure_api(self) -> AzureApi:
        if self._api is None:
            from barman_cloud.store.azure.api import AzureApi

            self._api = AzureApi(self._settings, self._credentials, self._environ, self.deadline)
        return self._api

    @property
    def parts_api(self) -> PartsApi:
        return self._azure_parts

    @property
    def _azure_parts(self) -> AzureParts:
        if self._parts is None:
            from barman_cloud.store.azure.parts import AzureParts

            self._parts = AzureParts(self._azure_api)
        return self._parts

    def writer(self, timeout: float, data: memoryview) -> Any:
        """Return a client of its own: the service compares the MD5 that it sends with what arrives."""
        import base64

        md5 = base64.b64encode(bytes.fromhex(md5_of([data]))).decode()
        return self._new_client("write", timeout, {"content-md5": md5})

    def _make_client(self, client_options: dict[str, Any], retry_config: dict[str, Any], purpose: str) -> Any:
        from obstore.store import AzureStore as Client

        client_options["allow_http"] = self._settings.endpoint.startswith("http://")
        if purpose != "read" and self._settings.encryption_scope:
            headers = client_options.setdefault("default_headers", {})
            headers["x-ms-encryption-scope"] = self._settings.encryption_scope
        if self._settings.ca_file:
            from barman_cloud.store.trust import read_bundle

            client_options["root_certificate"] = read_bundle(self._settings.ca_file)
        config = {
            "account_name": self._settings.account,
            "endpoint": self._settings.endpoint,
            "skip_signature": False,
            "use_emulator": False,
        }
        return Client(
            self._settings.container,
            config=cast(Any, config),
            client_options=cast(Any, client_options),
            retry_config=cast(Any, retry_config),
            credential_provider=cast(Any, self._provide),
        )

    def _provide(self) -> dict[str, Any]:
        """Give obstore the current credentials in its own form."""
        credentials = self._credentials()
        if credentials.sas is not None:
            return {"sas_token": credentials.sas, "expires_at": credentials.expires}
        return {"token": credentials.token, "expires_at": credentials.expires}

    def _delete_batch(self, keys: list[str]) -> dict[str, str]:
        if self._batches:
            try:
                return self.attempt("delete", None, lambda: self._azure_api.delete(keys))
            except StoreError:
                self._batches = False  # Not every kind of account takes batches; single deletions work on all.
        return self._delete_singly(keys)

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        """Yield the blobs of which there are only blocks.

        Azure lists them as empty blobs, among the others: a HEAD tells which ones aren't there. Blocks beside a blob
        that is there are in no listing.
        """
        for upload in super().list_uploads(prefix):
            try:
                self.head(upload.key)
            except ObjectNotFoundError:
                parts = self._azure_parts
                size = self.attempt("list_parts", upload.key, partial(parts.stored, upload.key, "", ""))[0]
                yield upload._replace(size=size)

    def abort_upload(self, upload: PendingUpload) -> bool:
        with suppress(ObjectExistsError):  # it was completed meanwhile
            self.attempt("abort", upload.key, lambda: self._azure_parts.drop(upload.key))
        return True

    def object_lock(self, key: str) -> ObjectLock | None:
        return self.attempt("lock", key, lambda: self._azure_api.object_lock(key))
