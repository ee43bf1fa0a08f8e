"""What the bucket's own configuration means for backups in it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from barman_cloud.store.base import StoreURL
from barman_cloud.store.facts import BucketSettings, Untold
from barman_cloud.store.providers import AWS, GOOGLE
from barman_cloud.verify.findings import Finding, ok, warning

_UNTOLD_LEVEL_HINT = "let somebody who may see it look; nothing here needs it"


def judge_settings(found: BucketSettings, url: StoreURL, options: str = "") -> Iterator[Finding]:
    """Yield a finding for each setting. ``options`` reach the store with its own tools (``--endpoint-url …``)."""
    yield _versioning(found, url, options)
    yield _unfinished(found, url, options)
    if isinstance(found.lock, Untold):
        yield _untold("object-lock", found.lock, url, "get-object-lock-configuration", options)
    elif found.lock:
        yield ok("object-lock", f"{found.lock}: a deletion before that is refused; --check-object-lock tells before")
    else:
        yield ok("object-lock", "none: who may delete objects can delete the backups")
    if isinstance(found.expiry, Untold):
        if found.expiry != found.unfinished_days:
            yield ok("lifecycle", str(found.expiry.reason))
    elif found.expiry:
        yield warning(
            "lifecycle",
            f"{'; '.join(found.expiry)}: backups would lose archives or WAL without a word",
            "let the rule leave out this path, and delete by barman-cloud backup-delete --retention-policy",
        )
    else:
        yield ok("lifecycle", "no rule deletes objects by their age")


def _versioning(found: BucketSettings, url: StoreURL, options: str) -> Finding:
    if isinstance(found.versioning, Untold):
        return _untold("versioning", found.versioning, url, "get-bucket-versioning", options)
    if not found.versioning:
        return ok("versioning", "off: what is deleted is gone")
    if isinstance(found.old_versions_days, Untold):
        return ok("versioning", "on: deleted objects are kept, and paid for, until a rule removes old versions")
    if found.old_versions_days:
        return ok("versioning", f"on; old versions go after {found.old_versions_days} days")
    return warning(
        "versioning",
        "on, and no rule removes old versions: what backup-delete deletes is paid for for ever",
        _rule_line(url, "old-versions", options),
    )


def _unfinished(found: BucketSettings, url: StoreURL, options: str) -> Finding:
    if isinstance(found.unfinished_days, Untold):
        return _untold("unfinished-uploads", found.unfinished_days, url, "get-bucket-lifecycle-configuration", options)
    if found.unfinished_days:
        return ok("unfinished-uploads", f"parts of uploads that were killed go after {found.unfinished_days} days")
    return warning(
        "unfinished-uploads",
        "no rule removes the parts of uploads that were killed: they are in no listing, and are paid for",
        _rule_line(url, "unfinished", options),
    )


def _untold(subject: str, answer: Untold, url: StoreURL, verb: str, options: str) -> Finding:
    hint = _UNTOLD_LEVEL_HINT
    if url.provider == AWS:
        hint = f"{hint}: aws s3api {verb} --bucket {url.bucket}{options}"
    elif url.provider == GOOGLE:
        hint = f"{hint}: gcloud storage buckets describe gs://{url.bucket}"
    return warning(subject, f"these credentials may not see it ({answer.reason})", hint)


def aws_rule(url: StoreURL, kind: str) -> str:
    """Return a lifecycle configuration with one rule, as JSON in one line."""
    prefix = f"{url.path}/" if url.path else ""
    rule = {"ID": f"barman-cloud-{kind}", "Status": "Enabled", "Filter": {"Prefix": prefix}}
    if kind == "unfinished":
        return json.dumps({"Rules": [{**rule, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}]})
    return json.dumps({"Rules": [{**rule, "NoncurrentVersionExpiration": {"NoncurrentDays": 14}}]})


def google_rule(kind: str) -> str:
    """The same for Google Cloud Storage."""
    if kind == "unfinished":
        return json.dumps({"rule": [{"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}]})
    condition = {"daysSinceNoncurrentTime": 14}
    return json.dumps({"rule": [{"action": {"type": "Delete"}, "condition": condition}]})


def _rule_line(url: StoreURL, kind: str, options: str) -> str:
    """Return the command that adds the rule to a bucket that has none; it replaces the ones that are there."""
    if url.provider == AWS:
        return (
            f"add a rule (this line replaces all that there are): aws s3api put-bucket-lifecycle-configuration "
            f"--bucket {url.bucket}{options} --lifecycle-configuration '{aws_rule(url, kind)}'"
        )
    return (
        "add a rule (this line replaces all that there are): gcloud storage buckets update "
        f"gs://{url.bucket} --lifecycle-file=<(echo '{google_rule(kind)}')"
    )
