"""Everything about a bucket of Google Cloud Storage that options and environment say, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes


@dataclass(frozen=True, slots=True, repr=False)
class GoogleSettings:
    """Everything about a bucket that options and environment say."""

    bucket: str
    endpoint: str
    kms_key_name: str | None = None
    ca_file: str | None = None
    storage_class: str | None = None
    """Of archives and WAL segments."""
    project: str | None = None
    """Where ``create_bucket`` creates it."""
    origin: str = ""
    """Where the credentials were found, for people."""

    def write_headers(self, attributes: Attributes) -> dict[str, str]:
        """The headers of a request of the XML API that makes an object; tags are custom metadata, as Barman has it."""
        metadata = {**attributes.metadata, **(attributes.tags or {})}
        headers = {f"x-goog-meta-{name}": value for name, value in metadata.items()}
        if attributes.storage_class:
            headers["x-goog-storage-class"] = attributes.storage_class
        if self.kms_key_name:
            headers["x-goog-encryption-kms-key-name"] = self.kms_key_name
        return headers
