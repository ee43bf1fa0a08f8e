"""Multipart uploads as S3 has them, and Google Cloud Storage in its XML API: their documents."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from barman_cloud.store.base import PendingUpload
from barman_cloud.store.bucket_api import UploadsPage
from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.xml import escape, parse

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Part
    from barman_cloud.store.http import Response


_BEGINNINGS = ("InitiateMultipartUploadResult", "InitiateMultipartUpload")
"""The name in the S3 API, and the one of rclone."""
_PARTS = ("ListPartsResult", "ListPartsResponse")
"""The name in the S3 API, and the one of moto."""


def upload_id(answer: Response) -> str:
    """Return the id in the answer to the beginning of an upload (S3 API: CreateMultipartUpload)."""
    what = "the beginning of an upload"
    upload = parse(answer.body, _BEGINNINGS, what).text("UploadId")
    if not upload:
        raise RequestFailedError(unreadable(what, answer.body))
    return upload


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


def unfinished_query(prefix: str, marker: tuple[str, str] | None) -> dict[str, str]:
    """Return the query that asks for a page of unfinished uploads (S3 API: ListMultipartUploads)."""
    query = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
    if marker is not None:
        query["key-marker"], query["upload-id-marker"] = marker
    return query


def unfinished_in(answer: Response, prefix: str) -> UploadsPage:
    """Read a page of unfinished uploads, and leave out what isn't below ``prefix``: it must not be dropped."""
    what = "a list of unfinished uploads"
    document = parse(answer.body, "ListMultipartUploadsResult", what)
    decode = unquote_plus if document.text("EncodingType") == "url" else str
    uploads = []
    try:
        for entry in document.elements("Upload"):
            key, upload, began = decode(entry.text("Key")), entry.text("UploadId"), entry.text("Initiated")
            if not key or not upload:
                raise ValueError("an upload without key or id")
            if key.startswith(prefix):
                uploads.append(PendingUpload(key, upload, datetime.fromisoformat(began) if began else None))
    except ValueError as error:
        raise RequestFailedError(unreadable(what, answer.body)) from error
    following = decode(document.text("NextKeyMarker")), document.text("NextUploadIdMarker")
    more = document.text("IsTruncated") == "true" and following[0]
    return UploadsPage(tuple(uploads), following if more else None)


def parts_query(upload: str, marker: str) -> dict[str, str]:
    """Return the query that asks for a page of the parts of an upload (S3 API: ListParts)."""
    return {"uploadId": upload, **({"part-number-marker": marker} if marker else {})}


def parts_in(answer: Response) -> tuple[int, str]:
    """Return the bytes of the parts in a page, and the marker of the next one (empty: it was the last)."""
    what = "a list of the parts of an upload"
    document = parse(answer.body, _PARTS, what)
    try:
        size = sum(int(part.text("Size")) for part in document.elements("Part"))
    except ValueError as error:
        raise RequestFailedError(unreadable(what, answer.body)) from error
    return size, document.text("NextPartNumberMarker") if document.text("IsTruncated") == "true" else ""
