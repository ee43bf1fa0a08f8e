"""What a provider of storage is: everything that differs by it and isn't part of the store itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore, StoreURL
    from barman_cloud.store.options import StoreOptions


class Provider(NamedTuple):
    """The value ``PROVIDER`` of a provider's module (see ``store.providers``)."""

    name: str
    """What ``--cloud-provider`` calls it."""
    url_form: str
    """How its URLs look, for messages: ``s3://bucket/path``."""
    recognises: Callable[[str], bool]
    """Whether the form of a URL alone tells that it is one of this provider."""
    parse: Callable[[str], StoreURL]
    """Parses a URL; ``ConfigurationError`` if it isn't one of this provider."""
    open: Callable[[StoreURL, StoreOptions, Mapping[str, str]], ObjectStore]
    """Opens a store, without a request. Imports what it needs itself: a URL is parsed more often than opened."""
    deciding_variables: tuple[str, ...] = ()
    """Variables that decide which bucket or account a URL means; spools of different ones are kept apart."""
    snapshots: str | None = None
    """The snapshot provider whose disks go with it (``barman_cloud.snapshots``)."""

    @property
    def options(self) -> tuple[str, ...]:
        """Fields of ``StoreOptions`` that mean something to it."""
        from barman_cloud.store.options import OPTIONS_OF

        return OPTIONS_OF.get(self.name, ())
