"""Whether uploads to an S3 store carry a checksum header.

The AWS SDKs' settings mean what they mean there: ``when_supported`` sends a checksum with every upload,
``when_required`` only where S3 demands one. Without a setting Amazon's own endpoints get one, other stores don't until
they ask: there the signature covers the content anyway, and several reject the newer headers.

With ``AWS_RESPONSE_CHECKSUM_VALIDATION=when_supported``, whole objects are compared with the checksum that S3 keeps.

A store that rejects the header, or demands it (a bucket with a default object lock retention does), changes the answer
for the rest of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from barman_cloud import logs
from barman_cloud.buffers import Buffer
from barman_cloud.store.failures import Failure
from barman_cloud.store.integrity import crc32_of

log = logs.get_logger(__name__)

_learned: dict[str, bool] = {}
"""Endpoint -> whether checksums are sent; what this process has learned from the stores' answers."""

_UNSIGNED = "UNSIGNED-PAYLOAD"
_REJECTIONS = frozenset({"InvalidArgument", "InvalidRequest", "NotImplemented", "UnsupportedArgument", "InvalidDigest"})


class Checksums:
    """The state of one store: ``adapt`` learns from a refused upload, at most once in each direction."""

    def __init__(self, aws: bool, endpoint: str, when_required: bool | None) -> None:
        self._endpoint = endpoint
        self._aws = aws
        wanted = aws if when_required is None else not when_required
        self.sent = _learned.get(endpoint, wanted)
        self._confirmed = endpoint in _learned
        self.demanded = self.sent and self._confirmed
        """The store refused an upload without a checksum."""
        self.md5_is_told = False
        """The store has said the right MD5 of a part: it needn't compute it a second time to compare it with ours."""

    @property
    def algorithm(self) -> str:
        """The algorithm of parts' checksums, as in the names of headers."""
        return "crc32" if self._unsigned else "sha256"

    @property
    def header(self) -> str:
        return f"x-amz-checksum-{self.algorithm}"

    @property
    def _unsigned(self) -> bool:
        return self._aws and self._endpoint.startswith("https://")

    def of_part(self, pieces: list[Buffer], *, unsigned: bool) -> tuple[str, str | None]:
        """Return what the signature of a part says of its content, and its checksum if one is sent.

        As in :meth:`obstore_config`, a CRC replaces the SHA-256 of the signature over TLS to Amazon. ``unsigned``: if
        no checksum is sent, the signature says nothing of the content.
        """
        import base64
        import hashlib

        if self.sent and self._unsigned:
            return _UNSIGNED, base64.b64encode(crc32_of(pieces).to_bytes(4)).decode()
        if unsigned and not self.sent:
            return _UNSIGNED, None
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        return digest.hexdigest(), base64.b64encode(digest.digest()).decode() if self.sent else None

    def obstore_config(self) -> dict[str, Any]:
        """The settings of a writing client.

        Over TLS to Amazon the CRC replaces the SHA-256 of the signature, which costs four times the CPU and proves
        nothing more. Other stores get the older algorithm and keep the signature.
        """
        if not self.sent:
            return {}
        if self._unsigned:
            return {"checksum_algorithm": "CRC64NVME", "unsigned_payload": True}
        return {"checksum_algorithm": "SHA256"}

    def demanded_headers(self) -> dict[str, str]:
        """The header by which some stores recognise a checksum; only requests with a body to check may have it."""
        return {"x-amz-sdk-checksum-algorithm": "SHA256"}

    def adapt(self, failure: Failure) -> bool:
        """Switch if ``failure`` is about checksums; tell whether something changed."""
        if self._confirmed or failure.status is None:
            return False
        if not (self._is_rejection(failure) if self.sent else _is_demand(failure)):
            return False
        self.sent = not self.sent
        self._confirmed = True
        self.demanded = self.sent
        _learned[self._endpoint] = self.sent
        log.info(
            "%s: checksums are %s from now on (%s)",
            self._endpoint,
            "sent" if self.sent else "left out",
            failure.describe(),
        )
        return True

    def _is_rejection(self, failure: Failure) -> bool:
        """Tell whether the header may be what the store dislikes; Amazon always says so in words."""
        named = "checksum" in failure.message.lower()
        return failure.status in (400, 501) and (named or (failure.code in _REJECTIONS and not self._aws))


def verify(headers: Mapping[str, str], body: bytes) -> bool:
    """Compare a whole object with the checksum that came with it; True as well when none came that we can compute.

    A checksum with a dash is one of the parts' checksums, which the AWS SDKs don't check either.
    """
    import base64
    import hashlib
    import zlib

    from crc32c import crc32c

    functions: dict[str, Callable[[bytes], bytes]] = {
        "sha256": lambda data: hashlib.sha256(data).digest(),
        "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
        "crc32c": lambda data: crc32c(data).to_bytes(4),
        "crc32": lambda data: zlib.crc32(data).to_bytes(4),
    }
    for name, function in functions.items():
        sent = headers.get(f"x-amz-checksum-{name}", "")
        if sent and "-" not in sent:
            return base64.b64encode(function(body)).decode() == sent
    return True


def _is_demand(failure: Failure) -> bool:
    text = failure.message.lower()
    return failure.status == 400 and (
        failure.code == "MissingContentMD5" or "content-md5" in text or "checksum" in text
    )
