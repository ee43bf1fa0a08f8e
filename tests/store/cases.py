"""The stores that the conformance suite runs against, and how each is opened."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from barman_cloud.deadline import Deadline
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.servers import StoreServer

ON_FILES = ("rclone", "fake-gcs", "local")
"""Stores that keep objects as files: they can't have an object and a folder of one name."""
STORES = ("moto", "rclone", "azurite", "fake-gcs", "local", "memory")
CLOUDS = STORES[:4]


@dataclass(frozen=True)
class StoreCase:
    """One kind of store, running."""

    name: str
    prefix: str
    """What a URL starts with, up to the bucket."""
    provider: str | None
    endpoint: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    server: StoreServer | None = None

    def new_url(self, tmp_path: Path) -> str:
        """Return the URL of a new and empty bucket with a path in it."""
        if self.server is not None:
            return f"{self.server.new_bucket()}/some/path"
        if self.name == "local":
            (tmp_path / "bucket").mkdir(exist_ok=True)
            return f"file://{tmp_path}/bucket"
        return f"memory://{tmp_path.name}-{os.getpid()}"

    def open(
        self, url: str, *, environ: Mapping[str, str] | None = None, endpoint: str | None = None, **options: Any
    ) -> ObjectStore:
        """Open a store of this kind; ``endpoint`` replaces the server's, as a proxy in front of it does."""
        environ = dict(self.environ if environ is None else environ)
        if endpoint is not None:
            url = url.replace(self.endpoint, endpoint)
            environ = {name: value.replace(self.endpoint, endpoint) for name, value in environ.items()}
        options.setdefault("deadline", Deadline(10.0))
        if self.provider == "aws-s3":
            options.setdefault("endpoint_url", endpoint or self.endpoint)
        return open_store(url, self.provider, StoreOptions(**options), environ)

    @contextlib.contextmanager
    def proxied(self, **arguments: Any) -> Iterator[FaultProxy]:
        """Run a proxy that can spoil requests in front of the server."""
        host = self.endpoint.partition("://")[2].partition("/")[0]
        scheme = self.endpoint.partition("://")[0]
        with fault_proxy(f"{scheme}://{host}", **arguments) as proxy:
            yield proxy

    def wrong_credentials(self) -> Mapping[str, str]:
        """Return the environment with a secret that the server doesn't know."""
        environ = dict(self.environ)
        if self.provider == "aws-s3":
            environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
        elif self.provider == "azure-blob-storage":
            connection = environ["AZURE_STORAGE_CONNECTION_STRING"]
            start, _, rest = connection.partition("AccountKey=")
            environ["AZURE_STORAGE_CONNECTION_STRING"] = f"{start}AccountKey=d3Jvbmc=;{rest.partition(';')[2]}"
        return environ


def remove_bucket(store: ObjectStore) -> None:
    """Take the bucket away that a local or memory store lies on."""
    if store.url.provider == "file":
        shutil.rmtree(store.url.bucket)
    else:
        store.drop_bucket()  # type: ignore[attr-defined]
