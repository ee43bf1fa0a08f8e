"""What an S3 bucket says about itself (S3 API: GetBucketVersioning, GetBucketLifecycleConfiguration, HeadBucket)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from barman_cloud.store.facts import BucketSettings, CredentialFacts, Untold, told
from barman_cloud.store.failures import RequestFailedError
from barman_cloud.store.s3.identity import origin_of
from barman_cloud.store.s3.profile import load_profile
from barman_cloud.store.xml import Document, parse

if TYPE_CHECKING:
    from barman_cloud.store.s3.api import S3Api
    from barman_cloud.store.s3.keys import AwsCredentials
    from barman_cloud.store.s3.settings import S3Settings

_ROOTS = {
    "versioning": ("VersioningConfiguration", "GetBucketVersioningResponse"),
    "lifecycle": ("LifecycleConfiguration", "GetBucketLifecycleConfigurationResponse"),
    "object-lock": ("ObjectLockConfiguration", "GetObjectLockConfigurationResponse"),
}
"""Part of the configuration to the root of the answer: Amazon's, and that of servers that name it by the operation."""
_COLD = ("GLACIER", "DEEP_ARCHIVE")
_NO_CONFIGURATION = ("NoSuchLifecycleConfiguration", "ObjectLockConfigurationNotFoundError")


class S3Facts:
    """See ``store.facts.Facts``. ``attempt`` makes a request about the bucket as the store does."""

    def __init__(
        self,
        settings: S3Settings,
        path: str,
        configured_region: str,
        credentials: Callable[[], AwsCredentials],
        environ: Mapping[str, str],
        api: Callable[[], S3Api],
        attempt: Callable[[Callable[[], Any]], Any],
    ) -> None:
        self.address = settings.bucket_url
        self.ca_file = settings.ca_file
        self._path = path
        self._settings = settings
        self._configured_region = configured_region
        self._credentials = credentials
        self._environ = environ
        self._api = api
        self._attempt = attempt

    def credentials(self) -> CredentialFacts:
        profile = load_profile(self._environ, self._settings.options.aws_profile)
        origin, renewed = origin_of(self._environ, profile)
        key = self._credentials()
        return CredentialFacts(origin, key.expires, renewed, temporary=key.token is not None)

    def regions(self) -> tuple[str, str] | None:
        return self._configured_region, self._attempt(lambda: self._api().bucket_region()) or ""

    def settings(self, key: str) -> BucketSettings:
        rules = told(self._rules)
        if isinstance(rules, Untold):
            old: int | Untold = rules
            unfinished: int | Untold = rules
            expiry: tuple[str, ...] | Untold = rules
        else:
            old = _days(rules, "NoncurrentVersionExpiration", "NoncurrentDays")
            unfinished = _days(rules, "AbortIncompleteMultipartUpload", "DaysAfterInitiation")
            expiry = tuple(phrase for rule in rules for phrase in _aging(rule))
        return BucketSettings(told(self._versioning), old, unfinished, told(self._lock), expiry)

    def _ask(self, name: str) -> Document | None:
        """Return the answer to a request for part of the configuration; None if the bucket has none of the kind."""

        def ask() -> Document | None:
            try:
                answer = self._api().send("GET", "", {name: ""}, {})
            except RequestFailedError as error:
                if error.failure.code in _NO_CONFIGURATION:
                    return None
                raise
            return parse(answer.body, _ROOTS[name], f"the bucket's {name} configuration")

        document: Document | None = self._attempt(ask)
        return document

    def _versioning(self) -> bool:
        document = self._ask("versioning")
        return document is not None and document.text("Status") == "Enabled"

    def _rules(self) -> list[Document]:
        """Return the lifecycle rules that are enabled and hold for our path."""
        document = self._ask("lifecycle")
        rules = document.elements("Rule") if document is not None else ()
        return [rule for rule in rules if rule.text("Status") == "Enabled" and self._is_ours(rule)]

    def _is_ours(self, rule: Document) -> bool:
        """Whether a rule holds for objects of ours; one that asks for tags is taken for one of others."""
        limits = rule.first("Filter", "And") or rule.first("Filter") or rule
        if limits.first("Tag") is not None:
            return False
        prefix = limits.text("Prefix")
        ours = f"{self._path}/" if self._path else ""
        return ours.startswith(prefix) or prefix.startswith(ours)

    def _lock(self) -> str:
        document = self._ask("object-lock")
        if document is None or document.text("ObjectLockEnabled") != "Enabled":
            return ""
        rule = document.first("Rule", "DefaultRetention")
        if rule is None:
            return "object lock is on, without a default retention"
        fields = rule.fields()
        time = f"{fields['Days']} days" if fields.get("Days") else f"{fields.get('Years', '?')} years"
        return f"new objects are retained for {time} ({fields.get('Mode', '').lower()} mode)"


def _days(rules: list[Document], action: str, name: str) -> int:
    """Return the least number of days that a rule says for an action, 0 if none does."""
    found = [rule.text(action, name) for rule in rules]
    return min((int(text) for text in found if text.isdigit()), default=0)


def _aging(rule: Document) -> list[str]:
    name = rule.text("ID") or "without a name"
    phrases = []
    if days := rule.text("Expiration", "Days"):
        phrases.append(f"rule {name} deletes objects after {days} days")
    elif date := rule.text("Expiration", "Date"):
        phrases.append(f"rule {name} deletes objects from {date[:10]} on")
    kinds = [move.text("StorageClass") for move in rule.elements("Transition")]
    moves = [
        f"rule {name} moves objects to {kind}, where they can't be read at once" for kind in kinds if kind in _COLD
    ]
    return phrases + moves
