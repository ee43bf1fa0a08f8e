"""Uploads in parts to S3 (S3 API: CreateMultipartUpload, UploadPart, CompleteMultipartUpload, AbortMultipartUpload)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from barman_cloud.store.failures import Failure, RequestFailedError, from_answer
from barman_cloud.store.integrity import AlteredError, md5_in, md5_of
from barman_cloud.store.xml import escape, text_of

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes, Part
    from barman_cloud.store.s3.api import S3Api
    from barman_cloud.store.s3.checksums import Checksums
    from barman_cloud.store.s3.settings import S3Settings


class S3Parts:
    """The requests; ``etags_are_md5`` tells whether the store's ETags can be compared."""

    def __init__(
        self, api: S3Api, settings: S3Settings, checksums: Checksums, etags_are_md5: Callable[[], bool]
    ) -> None:
        self._api = api
        self._settings = settings
        self._checksums = checksums
        self._etags_are_md5 = etags_are_md5

    def begin(self, key: str, attributes: Attributes) -> str:
        headers = self._settings.write_headers(attributes)
        if self._checksums.sent:
            headers["x-amz-checksum-algorithm"] = self._checksums.algorithm.upper()
        answer = self._api.send("POST", key, {"uploads": ""}, headers)
        upload = text_of(answer.body.decode("utf-8", "replace"), "UploadId")
        if not upload:
            raise RequestFailedError(Failure(500, "InternalError", "no upload id in the answer"))
        return upload

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return the part's element of the completing request."""
        headers = self._settings.customer_key_headers()
        payload, checksum = self._checksums.of_part(part.pieces)
        if checksum:
            headers[self._checksums.header] = checksum
        query = {"partNumber": str(part.number), "uploadId": upload}
        answer = self._api.send("PUT", key, query, headers, part.pieces, payload)
        etag = answer.headers.get("etag", "")
        self._compare(f"part {part.number} of s3://{self._settings.bucket}/{key}", part, checksum, answer.headers)
        name = "Checksum" + self._checksums.algorithm.upper()
        told = f"<{name}>{checksum}</{name}>" if checksum else ""
        return f"<Part><PartNumber>{part.number}</PartNumber><ETag>{escape(etag)}</ETag>{told}</Part>"

    def _compare(self, name: str, part: Part, checksum: str | None, headers: Mapping[str, str]) -> None:
        """Compare what the store says of the part with what was sent."""
        told = headers.get(self._checksums.header)
        if checksum and told:
            if told != checksum:
                raise AlteredError(name)
        elif self._etags_are_md5() and not any(h.startswith("x-amz-server-side-encryption") for h in headers):
            md5 = md5_in(headers.get("etag"))
            if md5 is not None and md5 != md5_of(part.pieces):
                raise AlteredError(name)

    def complete(self, key: str, upload: str, parts: Sequence[str]) -> None:
        body = f'<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{"".join(parts)}'
        headers = {"content-type": "application/xml"}
        content = f"{body}</CompleteMultipartUpload>".encode()
        answer = self._api.send("POST", key, {"uploadId": upload}, headers, content)
        if b"<Error>" in answer.body:  # S3 begins to answer before it knows how it will end
            failure = from_answer(500, answer.body)
            raise RequestFailedError(failure)

    def abort(self, key: str, upload: str) -> None:
        self._api.send("DELETE", key, {"uploadId": upload})
