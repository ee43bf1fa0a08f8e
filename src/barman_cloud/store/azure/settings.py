"""Everything about a container of Azure Blob Storage that options and environment say, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, repr=False)
class AzureSettings:
    """Everything about a container that options and environment say."""

    container: str
    account: str
    endpoint: str
    """Base URL without the container; for an emulator it ends with the account."""
    encryption_scope: str | None = None
    ca_file: str | None = None
    block_size: int | None = None
    """Bytes per block of an object that is put in blocks."""
    single_put_limit: int | None = None
    """Largest body in bytes that is put in one request."""
    concurrency: int = 4
    access_tier: str | None = None
    """Of archives and WAL segments."""
    origin: str = ""
    """Where the credentials were found, for people."""
    renewed: bool = False
    """New credentials are asked for, or derived, before these expire."""

    @property
    def emulator(self) -> bool:
        """The account is part of the path, as emulators have it."""
        return self.endpoint.endswith(f"/{self.account}")
