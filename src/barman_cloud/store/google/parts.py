"""Uploads in parts to Google Cloud Storage (XML API, "Multipart uploads")."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

from crc32c import crc32c

from barman_cloud.store.integrity import AlteredError, md5_in, md5_of
from barman_cloud.store.object_answers import etag_of
from barman_cloud.store.xml_uploads import XmlParts, part_element, upload_id

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes, Part
    from barman_cloud.store.google.api import GoogleApi
    from barman_cloud.store.google.settings import GoogleSettings


class GoogleParts(XmlParts):
    """The requests. The service compares each part with its CRC-32C, and tells the one that it has computed itself."""

    def __init__(self, api: GoogleApi, settings: GoogleSettings) -> None:
        super().__init__(api.send_xml, {})
        self._settings = settings

    def begin(self, key: str, attributes: Attributes) -> str:
        return upload_id(self._send("POST", key, {"uploads": ""}, self._settings.write_headers(attributes)))

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return the part's element of the completing request."""
        value = 0
        for piece in part.pieces:
            value = crc32c(piece, value)
        checksum = f"crc32c={base64.b64encode(value.to_bytes(4)).decode()}"
        query = {"partNumber": str(part.number), "uploadId": upload}
        answer = self._send("PUT", key, query, {"x-goog-hash": checksum}, part.pieces)
        if not _agrees(answer.headers, checksum, part):
            raise AlteredError(f"part {part.number} of gs://{self._settings.bucket}/{key}")
        return part_element(part, etag_of(answer, "a part of an upload"))


def _agrees(headers: Mapping[str, str], checksum: str, part: Part) -> bool:
    told = headers.get("x-goog-hash", "")
    if "crc32c=" in told:
        return checksum in told.replace(" ", "").split(",")
    md5 = md5_in(headers.get("etag"))
    return md5 is None or md5 == md5_of(part.pieces)
