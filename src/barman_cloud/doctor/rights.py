"""The least rights on objects, by provider: for what a probe lacks, and for the policies that ``setup`` prints.

``docs/reference/permissions.md`` says which command needs which of them; tests compare the two.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from barman_cloud.store.base import StoreURL
from barman_cloud.store.providers import AWS, AZURE, GOOGLE


class Right(NamedTuple):
    """What one kind of request needs, in the words of each provider."""

    aws: tuple[str, ...]
    """The first ones on objects; those in :data:`ON_BUCKET` on the bucket."""
    azure: str
    """Letters of a shared access signature."""
    google: tuple[str, ...]


ON_BUCKET = ("s3:ListBucket", "s3:ListBucketMultipartUploads")
RIGHTS = {
    "list": Right(("s3:ListBucket",), "l", ("storage.objects.list",)),
    "read": Right(("s3:GetObject",), "r", ("storage.objects.get",)),
    "write": Right(("s3:PutObject",), "cw", ("storage.objects.create",)),
    "tags": Right(("s3:PutObjectTagging",), "t", ()),
    "look": Right(
        ("s3:ListBucketMultipartUploads", "s3:GetObjectRetention", "s3:GetObjectLegalHold"),
        "",
        ("storage.multipartUploads.list",),
    ),
    "clean": Right(("s3:ListMultipartUploadParts",), "", ("storage.multipartUploads.listParts",)),
    "delete": Right(("s3:DeleteObject",), "d", ("storage.objects.delete",)),
    "multipart": Right(
        ("s3:PutObject", "s3:AbortMultipartUpload"),
        "cw",
        ("storage.multipartUploads.create", "storage.multipartUploads.abort", "storage.objects.create"),
    ),
}
"""Probe of the doctor to rights; also ``tags``, ``look`` (unfinished uploads, locks) and ``clean``, untried."""

ROLES = {
    "archive": ("list", "read", "write", "tags", "multipart"),
    "restore": ("list", "read", "look"),
    "everything": ("list", "read", "look", "write", "tags", "delete", "multipart", "clean"),
}
"""What a key is for, to what it may do: ``archive`` for a server (backup, wal-archive), ``restore`` for a standby."""


def missing(probe: str, url: StoreURL, server: str) -> str:
    """Return what to allow so that a probe succeeds: the right, and on what."""
    right = RIGHTS[probe]
    path = f"{url.path}/{server}" if url.path else server
    if url.provider == AWS:
        named = [f"{action} on {_arn(url) if action in ON_BUCKET else f'{_arn(url)}/{path}/*'}" for action in right.aws]
        return f"allow {', '.join(named)}"
    if url.provider == AZURE:
        role = "Reader" if probe in ("list", "read") else "Contributor"
        return f"give the role Storage Blob Data {role} on the container {url.bucket}, or {right.azure} in the SAS"
    if url.provider == GOOGLE:
        return f"grant {', '.join(right.google)} on gs://{url.bucket}"
    return f"let this user read and write {url.bucket}/{path}"


def aws_policy(url: StoreURL, role: str) -> str:
    """Return the policy document of one of :data:`ROLES` for everything below the URL."""
    actions = list(dict.fromkeys(action for probe in ROLES[role] for action in RIGHTS[probe].aws))
    bucket = [action for action in actions if action in ON_BUCKET]
    objects = [action for action in actions if action not in ON_BUCKET]
    below = f"{_arn(url)}/{url.path}/*" if url.path else f"{_arn(url)}/*"
    statements = [
        {"Effect": "Allow", "Action": bucket, "Resource": _arn(url)},
        {"Effect": "Allow", "Action": objects, "Resource": below},
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2)


def azure_letters(role: str) -> str:
    """Return the permissions of a shared access signature, in the order that Azure wants."""
    letters = {letter for probe in ROLES[role] for letter in RIGHTS[probe].azure}
    return "".join(letter for letter in "racwdxltmeop" if letter in letters)


def google_permissions(role: str) -> list[str]:
    """Return the permissions of a custom role."""
    return sorted({name for probe in ROLES[role] for name in RIGHTS[probe].google})


def _arn(url: StoreURL) -> str:
    return url.bucket if url.bucket.startswith("arn:") else f"arn:aws:s3:::{url.bucket}"
