"""What a container of Azure says about itself (REST API: Get Container Properties, Get Blob Properties)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from barman_cloud.store.facts import BucketSettings, CredentialFacts, Untold, told

if TYPE_CHECKING:
    from barman_cloud.store.azure.api import AzureApi
    from barman_cloud.store.azure.keys import AzureSource
    from barman_cloud.store.azure.settings import AzureSettings

_ACCOUNT = Untold("lifecycle rules are the account's: only the Azure Resource Manager tells them")
_DAYS = 7
"""Blocks that no blob was made of vanish after a week (REST API, "Put Block")."""


class AzureFacts:
    """See ``store.facts.Facts``. ``attempt`` makes a request about the container as the store does."""

    def __init__(
        self,
        settings: AzureSettings,
        credentials: AzureSource,
        api: Callable[[], AzureApi],
        attempt: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.address = settings.endpoint
        self.ca_file = settings.ca_file
        self._origin = settings.origin
        self._renewed = settings.renewed
        self._credentials = credentials
        self._api = api
        self._attempt = attempt

    def credentials(self) -> CredentialFacts:
        found = self._credentials()
        expires = found.expires
        if found.sas and expires is None:
            expires = _end_of(found.sas)
        return CredentialFacts(self._origin, expires, self._renewed, temporary=not self._renewed)

    def regions(self) -> tuple[str, str] | None:
        return None

    def settings(self, key: str) -> BucketSettings:
        versioning = told(lambda: "x-ms-version-id" in self._attempt(lambda: self._api().properties(key)))
        return BucketSettings(versioning, _ACCOUNT, _DAYS, told(self._lock), _ACCOUNT)

    def _lock(self) -> str:
        headers = self._attempt(lambda: self._api().properties(""))
        phrases = [
            phrase
            for name, phrase in (
                ("x-ms-has-legal-hold", "the container is under legal hold"),
                ("x-ms-has-immutability-policy", "the container has an immutability policy"),
            )
            if headers.get(name, "").lower() == "true"
        ]
        return ", ".join(phrases)


def _end_of(sas: str) -> datetime | None:
    """Return when a shared access signature ends; None if it doesn't say so itself (a stored access policy does)."""
    text = parse_qs(sas).get("se", [""])[0]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.astimezone()
