"""What can be asked about a bucket and the way to it, beside its objects; for ``barman-cloud doctor``.

A provider has a class with these methods in its folder (``facts.py``), and its store returns one by ``facts()``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from barman_cloud.errors import BarmanCloudError, BucketNotFoundError, ConnectivityError

T = TypeVar("T")


class Untold(NamedTuple):
    """An answer that isn't given; ``reason`` is one phrase."""

    reason: str


class CredentialFacts(NamedTuple):
    """Whose word requests are made on."""

    origin: str
    """Where the credentials were found, without anything secret: ``AWS_ACCESS_KEY_ID of the environment``."""
    expires: datetime | None = None
    """None: they don't, or nobody knows."""
    renewed: bool = False
    """New ones are asked for before these expire."""
    temporary: bool = False
    """They do expire, whether it is known when or not."""


class BucketSettings(NamedTuple):
    """What the bucket's own configuration says about objects below the URL's path."""

    versioning: bool | Untold
    """Deleted and overwritten objects are kept as old versions."""
    old_versions_days: int | Untold
    """Days after which old versions are removed; 0: never."""
    unfinished_days: int | Untold
    """Days after which the parts of unfinished uploads are removed; 0: never."""
    lock: str | Untold
    """One phrase about retention and holds that new objects get; empty: none."""
    expiry: tuple[str, ...] | Untold
    """A phrase for each rule that deletes or moves objects there by their age."""


class Facts(Protocol):
    """What can be asked. Each method makes a few requests at most; errors are those of the store."""

    address: str
    """URL with scheme and host that requests go to."""
    ca_file: str | None

    def credentials(self) -> CredentialFacts:
        """Get the credentials, as a request would; ``AccessDeniedError`` or ``ConfigurationError`` without any."""

    def regions(self) -> tuple[str, str] | None:
        """Return the region that is configured, and the one that the store says the bucket is in (or an empty text).

        None for a provider without regions.
        """

    def settings(self, key: str) -> BucketSettings:
        """Ask for the bucket's configuration; ``key`` is an object that was just stored, if it could be."""


def told(ask: Callable[[], T]) -> T | Untold:
    """Return an answer, or why the store doesn't give it; a lost connection and a missing bucket are raised."""
    try:
        return ask()
    except (ConnectivityError, BucketNotFoundError):
        raise
    except BarmanCloudError as error:
        return Untold(str(error))
