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
    """The requests; ``etags_are_md5`` tells whether the store's ETags can be compared.

    ``unsigned`` tells that the MD5 is the only thing that the store compares the content with. Hashing takes more of a
    processor than everything else in an upload, so it is done once.
    """

    def __init__(
        self,
        api: S3Api,
        settings: S3Settings,
        checksums: Checksums,
        etags_are_md5: Callable[[], bool],
        unsigned: Callable[[], bool],
    ) -> None:
        super().__init__(api.send, settings.customer_key_headers())
        self._api = api
        self._settings = settings
        self._checksums = checksums
        self._etags_are_md5 = etags_are_md5
        self._unsigned = unsigned

    def begin(self, key: str, attributes: Attributes) -> str:
        headers = self._settings.write_headers(attributes)
        if self._checksums.sent:
            headers["x-amz-checksum-algorithm"] = self._checksums.algorithm.upper()
        return upload_id(self._send("POST", key, {"uploads": ""}, headers))

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return the part's element of the completing request."""
        return self._put_part(key, upload, part, compare=not self._checksums.md5_is_told)

    def _put_part(self, key: str, upload: str, part: Part, *, compare: bool) -> str:
        """Send a part; ``compare``: ask the store to compare its MD5, if that is what it is compared by."""
        headers = self._settings.customer_key_headers()
        payload, checksum = self._checksums.of_part(part.pieces, unsigned=self._unsigned())
        # Not every store compares the content with its signature, but most tell its MD5, or compare it with this.
        md5 = md5_of(part.pieces) if checksum is None and self._etags_are_md5() else None
        if checksum:
            headers[self._checksums.header] = checksum
        elif md5 and compare:
            headers["content-md5"] = base64.b64encode(bytes.fromhex(md5)).decode()
        query = {"partNumber": str(part.number), "uploadId": upload}
        response = self._api.send("PUT", key, query, headers, part.pieces, payload)
        answer, etag = response.headers, etag_of(response, "a part of an upload")
        told = _md5_told(answer)
        if answer.get(self._checksums.header, checksum) != checksum or (md5 and told not in (None, md5)):
            raise AlteredError(f"part {part.number} of s3://{self._settings.bucket}/{key}")
        if md5:
            self._checksums.md5_is_told = told is not None
            if told is None and not compare:
                return self._put_part(key, upload, part, compare=True)  # nobody has compared it
        name = "Checksum" + self._checksums.algorithm.upper()
        return part_element(part, etag, f"<{name}>{checksum}</{name}>" if checksum else "")


def _md5_told(answer: Mapping[str, str]) -> str | None:
    """Return the MD5 that the store says a part has; its ETag is none where the store encrypts."""
    encrypted = any(name.startswith("x-amz-server-side-encryption") for name in answer)
    return None if encrypted else md5_in(answer.get("etag"))
