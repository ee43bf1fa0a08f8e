"""Amazon S3 and compatible stores, as an entry of the table of providers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.base import StoreURL
from barman_cloud.store.provider import Provider
from barman_cloud.store.providers import AWS
from barman_cloud.store.url import bucket_and_path, refuse, wrong_form

if TYPE_CHECKING:
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.store.options import StoreOptions

FORM = "s3://bucket/path"
# Text, compiled when a URL needs it: importing this module is on the path of wal-archive.
_ACCESS_POINT = (
    r"arn:[^:/]+:(s3:[^:/]*:[^:/]*:accesspoint[:/][^:/]+"
    r"|s3-outposts:[^:/]*:[^:/]*:outpost[:/][^:/]+[:/]accesspoint[:/][^:/]+)"
)


def _recognises(text: str) -> bool:
    return text[:5].lower() == "s3://"


def _parse(text: str) -> StoreURL:
    if not _recognises(text):
        wrong_form(text, AWS, FORM)
    text = text.partition("?")[0].partition("#")[0]
    rest = text[5:]
    if not rest.startswith("arn:"):
        bucket, path = bucket_and_path(rest, text, FORM)
        return StoreURL(AWS, bucket, path, text)
    arn = re.match(_ACCESS_POINT, rest)
    path = rest[arn.end() :] if arn else ""
    if arn is None or (path and not path.startswith("/")):
        refuse(text, "isn't an access point ARN that we know", "use arn:aws:s3:REGION:ACCOUNT:accesspoint/AWS")
    return StoreURL(AWS, arn[0], path.strip("/"), text)


def _open(url: StoreURL, options: StoreOptions, environ: Mapping[str, str]) -> ObjectStore:
    from barman_cloud.store.s3.open import open_s3

    return open_s3(url, options, environ)


PROVIDER = Provider(
    AWS,
    FORM,
    _recognises,
    _parse,
    _open,
    deciding_variables=(
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
    ),
    snapshots="aws",
)
