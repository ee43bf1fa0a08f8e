"""What a bucket of Google Cloud Storage says about itself (JSON API, "Buckets: get")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from barman_cloud.store.facts import BucketSettings, CredentialFacts, Untold, told

if TYPE_CHECKING:
    from barman_cloud.store.google.api import GoogleApi
    from barman_cloud.store.google.keys import GoogleSource
    from barman_cloud.store.google.settings import GoogleSettings


class GoogleFacts:
    """See ``store.facts.Facts``. ``attempt`` makes a request about the bucket as the store does."""

    def __init__(
        self,
        settings: GoogleSettings,
        path: str,
        credentials: GoogleSource,
        api: Callable[[], GoogleApi],
        attempt: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.address = settings.endpoint
        self.ca_file = settings.ca_file
        self._origin = settings.origin
        self._path = path
        self._credentials = credentials
        self._api = api
        self._attempt = attempt

    def credentials(self) -> CredentialFacts:
        found = self._credentials()
        return CredentialFacts(self._origin, found.expires, renewed=True)

    def regions(self) -> tuple[str, str] | None:
        return None

    def settings(self, key: str) -> BucketSettings:
        found = told(lambda: self._attempt(lambda: self._api().bucket()))
        if isinstance(found, Untold):
            return BucketSettings(found, found, found, found, found)
        rules = [
            (rule.get("action", {}).get("type"), condition)
            for rule in found.get("lifecycle", {}).get("rule", ())
            if self._is_ours(condition := rule.get("condition", {}))
        ]
        deletions = [condition for action, condition in rules if action == "Delete"]
        old = [
            condition.get("daysSinceNoncurrentTime") or condition.get("age") or 1
            for condition in deletions
            if _is_about_old(condition)
        ]
        unfinished = [
            condition.get("age", 1) for action, condition in rules if action == "AbortIncompleteMultipartUpload"
        ]
        expiry = tuple(
            f"a rule deletes objects after {condition.get('age', '?')} days"
            for condition in deletions
            if not _is_about_old(condition)
        )
        versioning = bool(found.get("versioning", {}).get("enabled"))
        return BucketSettings(versioning, min(old, default=0), min(unfinished, default=0), _lock(found), expiry)

    def _is_ours(self, condition: Mapping[str, Any]) -> bool:
        prefixes = condition.get("matchesPrefix")
        ours = f"{self._path}/" if self._path else ""
        return not prefixes or any(ours.startswith(prefix) or prefix.startswith(ours) for prefix in prefixes)


def _is_about_old(condition: Mapping[str, Any]) -> bool:
    """Whether a rule is about old versions only."""
    return condition.get("isLive") is False or any(
        name in condition for name in ("daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions")
    )


def _lock(found: Mapping[str, Any]) -> str:
    seconds = found.get("retentionPolicy", {}).get("retentionPeriod")
    phrases = [f"new objects are retained for {int(seconds) // 86400} days"] if seconds else []
    if found.get("defaultEventBasedHold"):
        phrases.append("new objects get an event-based hold")
    return ", ".join(phrases)
