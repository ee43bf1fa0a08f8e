"""A store that the conformance suite is pointed at from outside: any server, any cloud, one bucket and one path in it.

``make test-store URL=s3://bucket/path ENDPOINT=http://host:port`` sets the variables read here; credentials come from
the environment, as for the commands. Everything that the suite writes is below ``path/conformance-…`` and is removed at
the end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from barman_cloud.store.base import StoreURL
from barman_cloud.store.providers import AZURE, GOOGLE
from barman_cloud.store.url import parse_url

URL = "BARMAN_CLOUD_TEST_STORE_URL"
ENDPOINT = "BARMAN_CLOUD_TEST_STORE_ENDPOINT"
RESULTS = "BARMAN_CLOUD_TEST_STORE_RESULTS"
"""A file to write the results to, as JSON (``results.py``)."""


@dataclass(frozen=True)
class GivenStore:
    """What ``URL=`` and ``ENDPOINT=`` say, with the environment as it was when the suite started."""

    url: StoreURL
    endpoint: str
    environ: Mapping[str, str]

    @property
    def prefix(self) -> str:
        """What a URL of this store starts with, up to the bucket."""
        if self.url.provider == AZURE:
            return f"{self.url.endpoint}/"
        return {GOOGLE: "gs://"}.get(self.url.provider, "s3://")

    @property
    def folder(self) -> str:
        """The URL below which this run of the suite may write."""
        path = "/".join(part for part in (self.url.path, f"conformance-{os.getpid()}") if part)
        return f"{self.prefix}{self.url.bucket}/{path}"


def given_store(environ: Mapping[str, str] = os.environ) -> GivenStore | None:
    """Return the store that the suite is pointed at, or None if it brings its own servers.

    Read it before any fixture runs: fixtures take the variables of the clouds out of the environment.
    """
    text = environ.get(URL)
    if not text:
        return None
    emulator = AZURE if text.startswith("http://") else None
    url = parse_url(text, emulator)
    endpoint = environ.get(ENDPOINT, "").rstrip("/")
    # What commands remember of a store belongs to no test; those that are about it name a directory of their own.
    kept = {**environ, "XDG_CACHE_HOME": os.devnull}
    if url.provider == AZURE:
        scheme, _, rest = (url.endpoint or "").partition("://")
        endpoint = f"{scheme}://{rest.partition('/')[0]}"
    elif url.provider == GOOGLE:
        endpoint = endpoint or environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
        if endpoint:
            kept["STORAGE_EMULATOR_HOST"] = endpoint
    return GivenStore(url, endpoint or environ.get("AWS_ENDPOINT_URL", "").rstrip("/"), kept)


GIVEN = given_store()
