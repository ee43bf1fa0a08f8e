"""Uploads in parts to Google Cloud Storage (XML API, "Multipart uploads")."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from crc32c import crc32c

from barman_cloud.store.failures import RequestFailedError, unreadable
from barman_cloud.store.integrity import AlteredError, md5_in, md5_of
from barman_cloud.store.xml import escape, parse

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes, Part
    from barman_cloud.store.google.api import GoogleApi
    from barman_cloud.store.google.settings import GoogleSettings


class GoogleParts:
    """The requests. The service compares each part with its CRC-32C, and tells the one that it has computed itself."""

    def __init__(self, api: GoogleApi, settings: GoogleSettings) -> None:
        self._api = api
        self._settings = settings

    def begin(self, key: str, attributes: Attributes) -> str:
        answer = self._api.send("POST", self._path(key), {"uploads": ""}, self._settings.write_headers(attributes))
        what = "the beginning of an upload"
        upload = parse(answer.body, "InitiateMultipartUploadResult", what).text("UploadId")
        if not upload:
            raise RequestFailedError(unreadable(what, answer.body))
        return upload

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return the part's element of the completing request."""
        value = 0
        for piece in part.pieces:
            value = crc32c(piece, value)
        checksum = f"crc32c={base64.b64encode(value.to_bytes(4)).decode()}"
        query = {"partNumber": str(part.number), "uploadId": upload}
        answer = self._api.send("PUT", self._path(key), query, {"x-goog-hash": checksum}, part.pieces)
        etag = answer.headers.get("etag")
        if not etag:
            raise RequestFailedError(unreadable("one to a part of an upload", answer.body))
        if not _agrees(answer.headers, checksum, part):
            raise AlteredError(f"part {part.number} of gs://{self._settings.bucket}/{key}")
        return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"

    def complete(self, key: str, upload: str, parts: Sequence[str]) -> None:
        body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
        headers = {"content-type": "application/xml"}
        answer = self._api.send("POST", self._path(key), {"uploadId": upload}, headers, body)
        parse(answer.body, "CompleteMultipartUploadResult", "the end of an upload")

    def abort(self, key: str, upload: str) -> None:
        self._api.send("DELETE", self._path(key), {"uploadId": upload})

    def _path(self, key: str) -> str:
        return f"/{quote(self._settings.bucket, safe='')}/{quote(key, safe='/')}"


def _agrees(headers: Mapping[str, str], checksum: str, part: Part) -> bool:
    told = headers.get("x-goog-hash", "")
    if "crc32c=" in told:
        return checksum in told.replace(" ", "").split(",")
    md5 = md5_in(headers.get("etag"))
    return md5 is None or md5 == md5_of(part.pieces)
