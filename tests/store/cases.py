"""The stores that the conformance suite runs against, and how each is opened."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.cloud import CloudStore
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.providers import AWS, AZURE
from barman_cloud.store.url import parse_url
from tests.store.answers import Answers, answers_of
from tests.store.given import GIVEN, GivenStore
from tests.store.scoped import ScopedStore, plain
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.servers import REGION, StoreServer, fresh_name

OWN = ("moto", "rclone", "azurite", "fake-gcs", "local", "memory")
"""What ``make test`` runs the suite against."""
STORES = OWN if GIVEN is None else ("given",)
CLOUDS = OWN[:4] if GIVEN is None else ("given",)

PATIENCE = 90.0
"""Seconds that a request may take; machines are slow."""
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class StoreCase:
    """One kind of store, running."""

    name: str
    prefix: str
    """What a URL starts with, up to the bucket."""
    provider: str | None
    endpoint: str = ""
    """``scheme://host:port``; empty for a cloud's own."""
    environ: Mapping[str, str] = field(default_factory=dict, hash=False)
    server: StoreServer | None = field(default=None, hash=False)
    folder: str = ""
    """The URL below which everything has to stay, in a bucket that is not ours alone."""

    # URLs and stores ----------------------------------------------------------------------------------------------

    def new_url(self, tmp_path: Path | None = None) -> str:
        """Return the URL of a new bucket with a path in it, or of a new folder in a bucket that isn't ours alone."""
        if self.folder:
            return f"{self.folder}/{next(_NUMBERS)}/some/path"
        if self.server is not None:
            return f"{self.server.new_bucket()}/some/path"
        place = tmp_path or Path(tempfile.mkdtemp(prefix="barman-cloud-case-"))
        if self.name == "local":
            (place / "bucket").mkdir(exist_ok=True)
            return f"file://{place}/bucket"
        return f"memory://{place.name}-{os.getpid()}"

    def missing_bucket(self) -> str:
        """Return a URL in a bucket that doesn't exist."""
        return f"{self.prefix}no-such-bucket-here-{os.getpid()}/some/path"

    def bucket_url(self, url: str) -> str:
        """Return the part of a URL that names the bucket."""
        bucket = parse_url(url, self.provider).bucket
        return url[: url.index(bucket) + len(bucket)]

    def open(
        self, url: str, *, environ: Mapping[str, str] | None = None, endpoint: str | None = None, **options: Any
    ) -> ObjectStore:
        """Open a store of this kind; ``endpoint`` replaces the server's, as a proxy in front of it does."""
        environ = dict(self.environ if environ is None else environ)
        if endpoint is not None:
            url = url.replace(self.endpoint, endpoint)
            environ = {name: value.replace(self.endpoint, endpoint) for name, value in environ.items()}
        options.setdefault("deadline", Deadline(PATIENCE))
        if self.provider == AWS and (endpoint or self.endpoint):
            options.setdefault("endpoint_url", endpoint or self.endpoint)
        store = open_store(url, self.provider, StoreOptions(**options), environ)
        if self.folder and "/some/path" in store.url.path:
            return ScopedStore(store, store.url.path.removesuffix("some/path"))  # type: ignore[return-value]
        return store

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Any]:
        """A store on a new bucket or folder, emptied at the end; a request that fails is tried three times."""
        with self.open(self.new_url()) as store:
            limit_tries(store)
            yield store
            with contextlib.suppress(BarmanCloudError):
                store.delete([info.key for info in store.list("")])

    @contextlib.contextmanager
    def proxied(self, **arguments: Any) -> Iterator[FaultProxy]:
        """Run a proxy that can spoil requests in front of the server."""
        scheme, _, host = self.endpoint.partition("://")
        if scheme != "http":
            pytest.skip("a proxy can't stand in front of TLS")
        with fault_proxy(f"http://{host}", **arguments) as proxy:
            yield proxy

    def wrong_credentials(self) -> Mapping[str, str] | None:
        """Return the environment with a secret that the server doesn't know; None if there is none to replace."""
        environ = dict(self.environ)
        if self.provider == AWS and "AWS_SECRET_ACCESS_KEY" in environ:
            return {**environ, "AWS_SECRET_ACCESS_KEY": "wrong"}
        if self.provider == AZURE and "AZURE_STORAGE_CONNECTION_STRING" in environ:
            start, _, rest = environ["AZURE_STORAGE_CONNECTION_STRING"].partition("AccountKey=")
            connection = f"{start}AccountKey=d3Jvbmc=;{rest.partition(';')[2]}"
            return {**environ, "AZURE_STORAGE_CONNECTION_STRING": connection}
        if self.provider == AZURE and "AZURE_STORAGE_KEY" in environ:
            return {**environ, "AZURE_STORAGE_KEY": "d3Jvbmc="}
        return None

    @property
    def secrets(self) -> list[str]:
        """What must stand in no message."""
        environ = self.environ
        found = [environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_KEY")]
        found.append(environ.get("AZURE_STORAGE_CONNECTION_STRING", "").partition("AccountKey=")[2].partition(";")[0])
        return [secret for secret in found if secret]

    # What the server does -----------------------------------------------------------------------------------------

    @property
    def answers(self) -> Answers:
        """What this server does; asked of it once."""
        return answers_of(self)

    @property
    def region(self) -> str:
        """The region that requests to this S3 server are signed for."""
        for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
            if self.environ.get(name):
                return self.environ[name]
        return REGION

    def boto(self, region: str | None = None) -> Any:
        """Return a client of boto3 for this S3 server, the independent second opinion."""
        from botocore.config import Config

        config = Config(
            s3={"addressing_style": "path" if self.endpoint else "auto"},
            retries={"max_attempts": 2},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        place = {"endpoint_url": self.endpoint or None, "region_name": region or self.region}
        return self.boto_session().client("s3", **place, config=config)

    def boto_session(self) -> Any:
        """Return boto3's view of the credentials for this server."""
        import boto3

        return boto3.Session(
            aws_access_key_id=self.environ.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.environ.get("AWS_SECRET_ACCESS_KEY"),
            aws_session_token=self.environ.get("AWS_SESSION_TOKEN"),
            profile_name=self.environ.get("AWS_PROFILE"),
        )

    def new_locked_bucket(self) -> str | None:
        """Create a bucket with object lock, and return its name; None where that can't be."""
        from botocore.exceptions import ClientError

        name = fresh_name("locked")
        try:
            self.boto().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
            found = self.boto().get_object_lock_configuration(Bucket=name)
        except ClientError:
            return None
        return name if found["ObjectLockConfiguration"].get("ObjectLockEnabled") == "Enabled" else None

    def drop_locked_bucket(self, name: str) -> None:
        """Remove such a bucket with everything in it, as far as the server lets us."""
        from botocore.exceptions import BotoCoreError, ClientError

        client = self.boto()
        with contextlib.suppress(BotoCoreError, ClientError):
            for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
                for version in [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]:
                    place = {"Bucket": name, "Key": version["Key"], "VersionId": version["VersionId"]}
                    with contextlib.suppress(ClientError):
                        client.put_object_legal_hold(**place, LegalHold={"Status": "OFF"})
                    with contextlib.suppress(ClientError):
                        client.delete_object(**place, BypassGovernanceRetention=True)
            client.delete_bucket(Bucket=name)


def limit_tries(store: Any, tries: int = 3) -> None:
    """Let a store that is reached through the network give up after so many tries, not only when time is over."""
    if isinstance(inner := plain(store), CloudStore):
        inner._retry.max_attempts = tries


def own_case(name: str, server: StoreServer | None) -> StoreCase:
    """Return the case of a server that runs here, or of a store without one."""
    if server is None:
        return StoreCase(name, "file://" if name == "local" else "memory://", None)
    environ = {k: v for k, v in server.environ.items() if "ENDPOINT" not in k}
    host = server.endpoint.partition("://")[2].partition("/")[0]
    return StoreCase(name, server.prefix, server.provider, f"http://{host}", environ, server)


def given_case(given: GivenStore) -> StoreCase:
    """Return the case of the store that the suite is pointed at."""
    return StoreCase("given", given.prefix, given.url.provider, given.endpoint, given.environ, folder=given.folder)


def remove_bucket(store: ObjectStore) -> None:
    """Take the bucket away that a local or memory store is on."""
    if store.url.provider == "file":
        shutil.rmtree(store.url.bucket)
    else:
        store.drop_bucket()  # type: ignore[attr-defined]
