"""The table of providers, and all that is asked of it. A new provider is one folder and one line here.

The table names modules and imports none: ``wal-archive`` runs once per segment and pays for one provider only.
``docs/explanation/new-store.md`` describes how a provider is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barman_cloud.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barman_cloud.store.provider import Provider


class Entry(NamedTuple):
    """One line: the schemes that the provider's URLs may have, and the module whose ``PROVIDER`` it is."""

    schemes: tuple[str, ...]
    module: str
    selectable: bool = True
    """It is a value of ``--cloud-provider``; others follow from the URL alone."""


AWS = "aws-s3"
AZURE = "azure-blob-storage"
GOOGLE = "google-cloud-storage"

TABLE = {
    AWS: Entry(("s3",), "barman_cloud.store.s3.provider"),
    AZURE: Entry(("https", "http"), "barman_cloud.store.azure.provider"),
    GOOGLE: Entry(("gs", "https"), "barman_cloud.store.google.provider"),
    "file": Entry(("file",), "barman_cloud.store.local_provider", selectable=False),
}


def selectable() -> tuple[str, ...]:
    """Return the values of ``--cloud-provider``."""
    return tuple(name for name, entry in TABLE.items() if entry.selectable)


def named(name: str) -> Provider:
    """Return the provider of that name; ``ConfigurationError`` if there is none."""
    entry = TABLE.get(name)
    if entry is None:
        raise ConfigurationError(f"unknown cloud provider {name}", hint="use one of " + ", ".join(selectable()))
    provider: Provider = __import__(entry.module, fromlist=("PROVIDER",)).PROVIDER
    return provider


def inferred(url: str) -> Provider | None:
    """Return the provider that the form of ``url`` tells, or None."""
    scheme = url.partition("://")[0].lower() if "://" in url else None
    for name, entry in TABLE.items():
        if scheme in entry.schemes:
            provider = named(name)
            if provider.recognises(url):
                return provider
    return None


def every() -> Iterator[Provider]:
    """Yield all providers; each is imported for it."""
    return map(named, TABLE)
