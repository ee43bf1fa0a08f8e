"""What the command line says about a store."""

from __future__ import annotations

from typing import NamedTuple

from barman_cloud.deadline import Deadline


class StoreOptions(NamedTuple):
    """What the command line says about the store; options of another provider than the URL's mean nothing."""

    endpoint_url: str | None = None
    aws_profile: str | None = None
    read_timeout: int | None = None
    """Seconds."""
    addressing_style: str | None = None
    azure_credential: str | None = None
    encryption: str | None = None
    sse_kms_key_id: str | None = None
    sse_customer_key: str | None = None
    """URI of the file that holds the key."""
    kms_key_name: str | None = None
    encryption_scope: str | None = None
    max_block_size: int | None = None
    """Bytes, as ``max_single_put_size``."""
    max_concurrency: int | None = None
    max_single_put_size: int | None = None
    storage_class: str | None = None
    """The provider's name of a class for archives and WAL segments."""
    deadline: Deadline | None = None
    """When the command gives up; None: after four minutes of failures in a row."""

    def retry_until(self) -> Deadline:
        """Return the deadline that requests are tried again until."""
        return self.deadline or Deadline()

    def __repr__(self) -> str:
        return "StoreOptions(…)"  # names of key files are in it


OPTIONS_OF: dict[str, tuple[str, ...]] = {
    "aws-s3": (
        "endpoint_url", "aws_profile", "read_timeout", "addressing_style",
        "encryption", "sse_kms_key_id", "sse_customer_key", "storage_class",
    ),
    "azure-blob-storage": (
        "azure_credential", "encryption_scope", "max_block_size", "max_concurrency", "max_single_put_size",
        "storage_class",
    ),
    "google-cloud-storage": ("kms_key_name", "storage_class"),
}  # fmt: skip
"""Which fields mean something to which provider; a test makes sure that each belongs to one, and to a command."""
