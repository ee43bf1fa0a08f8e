"""Uploads in parts as S3 has them, and Google Cloud Storage in its XML API: requests and documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote_plus

from barman_cloud.store.base import PendingUpload
from barman_cloud.store.bucket_api import UploadsPage
from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.xml import escape, parse

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Part
    from barman_cloud.store.http import Body, Response


_BEGINNINGS = ("InitiateMultipartUploadResult", "InitiateMultipartUpload")
"""The name in the S3 API, and the one of rclone."""
_PARTS = ("ListPartsResult", "ListPartsResponse")
"""The name in the S3 API, and the one of moto."""


class Send(Protocol):
    """Makes a request about a key."""

    def __call__(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Body = b"", /
    ) -> Response: ...


class XmlParts:
    """The requests that S3 and Google have in common. The subclasses begin uploads, and send and check their parts."""

    def __init__(self, send: Send, reading: Mapping[str, str]) -> None:
        """``reading`` are the headers of requests that read."""
        self._send = send
        self._reading = reading

    def complete(self, key: str, upload: str, parts: Sequence[str]) -> None:
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        answer = self._send("POST", key, {"uploadId": upload}, {"content-type": "application/xml"}, body)
        # It begins before the work is done, so that it can be an error in spite of its status.
        parse(answer.body, "CompleteMultipartUploadResult", "the end of an upload")

    def abort(self, key: str, upload: str) -> None:
        self._send("DELETE", key, {"uploadId": upload}, {})

    def unfinished(self, prefix: str, marker: tuple[str, str] | None) -> UploadsPage:
        """Return a page of the unfinished uploads (S3 API: ListMultipartUploads)."""
        query = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
        if marker is not None:
            query["key-marker"], query["upload-id-marker"] = marker
        return _unfinished_in(self._send("GET", "", query, {}), prefix)

    def stored(self, key: str, upload: str, marker: str) -> tuple[int, str]:
        """Return the bytes in a page of the parts, and the marker of the next one (S3 API: ListParts)."""
        query = {"uploadId": upload, **({"part-number-marker": marker} if marker else {})}
        return _parts_in(self._send("GET", key, query, self._reading))


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


def _unfinished_in(answer: Response, prefix: str) -> UploadsPage:
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


def _parts_in(answer: Response) -> tuple[int, str]:
    """Return the bytes of the parts in a page, and the marker of the next one (empty: it was the last)."""
    what = "a list of the parts of an upload"
    document = parse(answer.body, _PARTS, what)
    try:
        size = sum(int(part.text("Size")) for part in document.elements("Part"))
    except ValueError as error:
        raise RequestFailedError(unreadable(what, answer.body)) from error
    return size, document.text("NextPartNumberMarker") if document.text("IsTruncated") == "true" else ""
