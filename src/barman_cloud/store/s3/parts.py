"""Uploads in parts to S3 (S3 API: CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from barman_cloud.store.integrity import AlteredError, md5_in, md5_of
from barman_cloud.store.object_answers import etag_of
from barman_cloud.store.xml_uploads import XmlParts, part_element, upload_id

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes, Part
    from barman_cloud.store.s3.api import S3Api
    from barman_cloud.store.s3.checksums import Checksums
    from barman_cloud.store.s3.settings import S3Settings


class S3Parts(XmlParts):
    """The requests; ``etags_are_md5`` tells whether the store's ETags can be compared."""

    def __init__(
        self, api: S3Api, settings: S3Settings, checksums: Checksums, etags_are_md5: Callable[[], bool]
    ) -> None:
        super().__init__(api.send, settings.customer_key_headers())
        self._api = api
        self._settings = settings
        self._checksums = checksums
        self._etags_are_md5 = etags_are_md5

    def begin(self, key: str, attributes: Attributes) -> str:
        headers = self._settings.write_headers(attributes)
        if self._checksums.sent:
            headers["x-amz-checksum-algorithm"] = self._checksums.algorithm.upper()
        return upload_id(self._send("POST", key, {"uploads": ""}, headers))

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return the part's element of the completing request."""
        headers = self._settings.customer_key_headers()
        payload, checksum = self._checksums.of_part(part.pieces)
        md5: str | None = None
        if checksum:
            headers[self._checksums.header] = checksum
        elif self._etags_are_md5():
            # Not every store compares the content with its signature, but most compare it with this.
            md5 = md5_of(part.pieces)
            headers["content-md5"] = base64.b64encode(bytes.fromhex(md5)).decode()
        query = {"partNumber": str(part.number), "uploadId": upload}
        response = self._api.send("PUT", key, query, headers, part.pieces, payload)
        answer, etag = response.headers, etag_of(response, "a part of an upload")
        if answer.get(self._checksums.header, checksum) != checksum or _is_another(md5, answer):
            raise AlteredError(f"part {part.number} of s3://{self._settings.bucket}/{key}")
        name = "Checksum" + self._checksums.algorithm.upper()
        told = f"<{name}>{checksum}</{name}>" if checksum else ""
        return part_element(part, etag, told)


def _is_another(md5: str | None, answer: Mapping[str, str]) -> bool:
    """Tell whether the ETag is the MD5 of other bytes; it is none where the store encrypts."""
    if md5 is None or any(name.startswith("x-amz-server-side-encryption") for name in answer):
        return False
    return md5_in(answer.get("etag")) not in (None, md5)
