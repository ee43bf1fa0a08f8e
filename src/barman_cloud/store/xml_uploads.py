"""Multipart uploads as S3 has them, and Google Cloud Storage in its XML API: their documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.xml import escape, parse

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Part
    from barman_cloud.store.http import Response


_BEGINNINGS = ("InitiateMultipartUploadResult", "InitiateMultipartUpload")
"""The name in the S3 API, and the one of rclone."""


def upload_id(answer: Response) -> str:
    """Return the id in the answer to the beginning of an upload (S3 API: CreateMultipartUpload)."""
    what = "the beginning of an upload"
    upload = parse(answer.body, _BEGINNINGS, what).text("UploadId")
    if not upload:
        raise RequestFailedError(unreadable(what, answer.body))
    return upload


def etag_of(answer: Response) -> str:
    """Return the ETag in the answer to a part."""
    etag = answer.headers.get("etag")
    if not etag:
        raise RequestFailedError(unreadable("one to a part of an upload", answer.body))
    return etag


def part_element(part: Part, etag: str, more: str = "") -> str:
    """Return what the completing request has to say of a part."""
    return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(etag)}</ETag>{more}</Part>"


def completion(parts: Iterable[str]) -> bytes:
    """Return the body of the request that completes an upload of these parts."""
    return f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()


def require_completed(answer: Response) -> None:
    """Raise ``RequestFailedError`` for an answer that is an error in spite of its status.

    It begins before the work is done.
    """
    parse(answer.body, "CompleteMultipartUploadResult", "the end of an upload")
