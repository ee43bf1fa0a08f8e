"""One server of the configuration, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from barman_cloud.config.ini import Place
from barman_cloud.config.table import KEYS
from barman_cloud.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Server:
    """A server's effective values: of its model if one is applied, its own section, ``[barman]``, or the default.

    ``server["retention_policy"]`` is the typed value of a key; an unknown key is a ``KeyError`` (a mistake of ours).
    """

    name: str
    values: Mapping[str, Any]
    places: Mapping[str, Place] = field(default_factory=lambda: MappingProxyType({}))
    """Where each value that isn't a default was written."""
    model: str | None = None
    """The model that is applied."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.places

    @property
    def base_url(self) -> str:
        """URL for base backups; a local directory becomes a ``file://`` URL.

        Of a snapshot backup only metadata is stored: it goes with the WAL, unless another place is named.
        """
        if self["backup_method"] == "snapshot" and "basebackups_directory" not in self and "wals_directory" in self:
            return self.wal_url
        return self._url("basebackups_directory", "base")

    @property
    def wal_url(self) -> str:
        """URL for WAL; usually the one of the base backups."""
        return self._url("wals_directory", "wals")

    def _url(self, key: str, folder: str) -> str:
        location: str = self[key]
        if "://" in location:
            return location
        # The layout below a URL is <server>/base and <server>/wals, so a directory has to end like that.
        ending = f"/{self.name}/{folder}"
        if not location.endswith(ending):
            raise ConfigurationError(
                f"{self.places.get(key, key)}: {key} = {location} can't be used as a local store",
                hint=f"use a URL such as s3://bucket/path, or a directory that ends with {ending}",
            )
        return f"file://{location.removesuffix(ending) or '/'}"

    def unused(self) -> list[tuple[str, str]]:
        """Return the keys that are set here and have no effect, each with the reason."""
        return [(name, reason) for name in self.places if (reason := KEYS[name].unused) is not None]
