"""Multipart uploads as S3 has them, and Google Cloud Storage in its XML API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from barman_cloud.store.base import Buffer, Tags
from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.http import Response
from barman_cloud.store.xml import escape, parse


class Send(Protocol):
    """Makes a signed request about an object, and raises ``RequestFailedError`` unless it succeeds."""

    def __call__(
        self,
        method: str,
        key: str,
        query: dict[str, str],
        headers: dict[str, str],
        body: bytes | memoryview = b"",
    ) -> Response: ...


class XmlUploads:
    """``PartUploads`` by requests to the object (S3 API: CreateMultipartUpload and those that follow it)."""

    def __init__(
        self,
        send: Send,
        begin_headers: Callable[[Tags | None], dict[str, str]],
        part_headers: Callable[[], dict[str, str]],
    ) -> None:
        self._send = send
        self._begin_headers = begin_headers
        self._part_headers = part_headers

    def begin(self, key: str, tags: Tags | None) -> str:
        answer = self._send("POST", key, {"uploads": ""}, self._begin_headers(tags)).body
        what = "the beginning of an upload"
        upload = parse(answer, "InitiateMultipartUploadResult", what).text("UploadId")
        if not upload:
            raise RequestFailedError(unreadable(what, answer))
        return upload

    def put_part(self, key: str, upload: str, number: int, data: Buffer) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        answer = self._send("PUT", key, query, self._part_headers(), memoryview(data))
        etag = answer.headers.get("etag")
        if not etag:
            raise RequestFailedError(unreadable("one to a part of an upload", answer.body))
        return etag

    def finish(self, key: str, upload: str, parts: Sequence[str], tags: Tags | None) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(parts, 1)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        answer = self._send("POST", key, {"uploadId": upload}, {"content-type": "application/xml"}, body).body
        # The answer may be an error in spite of its status, because it begins before the work is done.
        parse(answer, "CompleteMultipartUploadResult", "the end of an upload")

    def abort(self, key: str, upload: str) -> None:
        self._send("DELETE", key, {"uploadId": upload}, {})
