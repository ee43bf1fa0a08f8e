"""What went wrong, said once: every failure of a request becomes one class of ``barman_cloud.errors`` here.

Failures come from two sides, obstore's exceptions and the answers to our own HTTP requests. Both are first reduced to a
:class:`Failure` (status, provider's error code, one line of text), and :func:`to_error` alone decides what that means.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    BucketNotFoundError,
    ConnectivityError,
    LockedError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StoreError,
)

_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 509})
_TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # of bytes that changed on the way, as the next three
        "Md5Mismatch",
        "XAmzContentChecksumMismatch",
        "XAmzContentSHA256Mismatch",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "OperationTimedOut",
        "RequestTimeout",
        "ServerBusy",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
    }
)
_NO_BUCKET_CODES = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"})
_CREDENTIAL_CODES = frozenset(
    {
        "AuthenticationFailed",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidToken",
        "NoAuthenticationInformation",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_LOCK_CODES = frozenset(
    {"BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold", "RetentionPolicyNotMet", "ObjectUnderActiveHold"}
)


class TransientError(ConnectivityError):
    """A failure that may be gone at the next try; the retry loop lets it out once its time is up.

    ``answered``: the store did answer, if only to say that it can't serve the request now.
    """

    def __init__(self, message: str, *, hint: str | None = None, answered: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.answered = answered


class Failure(NamedTuple):
    """A failed request without any noise of the library that made it."""

    status: int | None
    """HTTP status, or None when there was no answer."""
    code: str = ""
    """The provider's own error code, such as ``NoSuchBucket``; may be empty."""
    message: str = ""
    exists: bool = False
    """A conditional create found the object."""
    certificate: bool = False
    """The server's certificate isn't trusted, which no retry will change."""

    def describe(self) -> str:
        """One phrase for messages, such as ``503 SlowDown: reduce your request rate``."""
        head = " ".join(str(part) for part in (self.status, self.code) if part)
        return ": ".join(part for part in (head, self.message) if part)


class RequestFailedError(Exception):
    """No answer came, or an unwelcome one; ``failure`` says which."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.describe())
        self.failure = failure


def to_error(failure: Failure, bucket_url: str, object_url: str | None) -> BarmanCloudError:
    """Return the error that ``failure`` means for a request about ``object_url`` (None: about the bucket)."""
    name = object_url or bucket_url
    what = failure.describe()
    if failure.exists:
        return ObjectExistsError(f"{name} exists already")
    if failure.code in _NO_BUCKET_CODES or (failure.status == 404 and "bucket does not exist" in failure.message):
        return BucketNotFoundError(
            f"{bucket_url}: the bucket doesn't exist", hint="check the URL, or create the bucket"
        )
    if failure.code in _LOCK_CODES:
        return LockedError(f"{name} is locked ({what})")
    if failure.status in _TRANSIENT_STATUS or failure.code in _TRANSIENT_CODES:
        return TransientError(f"{name}: the store keeps failing ({what})", answered=True)
    if failure.status in (401, 403) or failure.code in _CREDENTIAL_CODES:
        return _denied(failure, name)
    if failure.status == 404:
        if object_url is None:
            return BucketNotFoundError(
                f"{bucket_url}: the bucket doesn't exist", hint="check the URL, or create the bucket"
            )
        return ObjectNotFoundError(f"{name} doesn't exist")
    if failure.status in (304, 412):
        return ObjectChangedError(f"{name} has changed since it was last read")
    if failure.certificate:
        return ConnectivityError(
            f"{name}: the server's TLS certificate isn't trusted ({failure.message})",
            hint="name the CA's PEM file in AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
        )
    if failure.status is None:
        return TransientError(
            f"{name}: can't reach the store ({what})", hint="check the endpoint, DNS, proxy and network"
        )
    return StoreError(f"{name}: the store refused the request ({what})")


def _denied(failure: Failure, name: str) -> BarmanCloudError:
    if failure.code in _CREDENTIAL_CODES or failure.status == 401:
        return AccessDeniedError(
            f"{name}: the store doesn't accept the credentials ({failure.describe()})",
            hint="check the access key, its secret, the region and the clock of this host",
        )
    return AccessDeniedError(
        f"{name}: access denied ({failure.describe()})", hint="check the credentials and what their policy allows"
    )


# Text, compiled by the first failure: importing this module is on the path of wal-archive.
_STATUS = r"(?:status code|with status):? (\d{3})"
_KIND = r"kind: (Timeout|Connect|Request|Decode|Interrupted)\b"
_CAUSE = (
    r"(?i)(connection refused|connection reset|dns error|failed to lookup address|tls handshake eof|operation timed out"
    "|timed out|network is unreachable|no route to host|connection closed before message completed"
    "|unexpected end of file|IncompleteMessage)"
)
_CERTIFICATE = r"(invalid peer certificate|UnknownIssuer|CertificateRequired|NotValidForName|certificate has expired)"


def failure_of(error: BaseException) -> Failure | None:
    """Reduce whatever a request raised, or return None if that wasn't a failure of the request."""
    return error.failure if isinstance(error, RequestFailedError) else from_obstore(error)


def from_obstore(error: BaseException) -> Failure | None:
    """Reduce an exception of obstore, or return None for one that is none of its.

    obstore tells the kind of a failure partly by its class and for the rest only in a debug dump after the first line,
    so the text has to be read. The dump is never shown.
    """
    kind = type(error).__name__
    if not isinstance(error, OSError) and type(error).__module__ != "obstore.exceptions":
        return None
    text = str(error)
    if kind == "AlreadyExistsError" and "OperationAborted" not in text and "ConditionalRequestConflict" not in text:
        return Failure(409, exists=True)
    status, code, message = _http_part(text)
    if status is None:
        status = {"FileNotFoundError": 404, "PermissionDeniedError": 403, "PreconditionError": 412}.get(kind)
    if status is None and kind == "UnauthenticatedError":
        return Failure(401, message=text.partition("\n")[0])
    if status is not None:
        return Failure(status, code, message)
    if "Received redirect without LOCATION" in text:
        return Failure(301, "PermanentRedirect", "the bucket lies in another region")
    if certificate := re.search(_CERTIFICATE, text):
        return Failure(None, message=certificate[1], certificate=True)
    if re.search(_KIND, text) or "HttpError" in text or "error decoding response body" in text:
        cause = re.search(_CAUSE, text)
        kind_of_http = re.search(_KIND, text)
        return Failure(
            None, message=(cause[1] if cause else f"{kind_of_http[1] if kind_of_http else 'transfer'} error").lower()
        )
    return Failure(400, message=text.partition("\n")[0])


def from_answer(status: int, body: bytes, code: str = "") -> Failure:
    """Reduce an HTTP answer; ``code`` is an error code from a header, as Azure sends one."""
    found_code, message = _error_document(body[:8192].decode("utf-8", "replace"))
    return Failure(status, code or found_code, message)


def _http_part(text: str) -> tuple[int | None, str, str]:
    found = re.search(_STATUS, text)
    if not found:
        return None, "", ""
    code, message = _error_document(text.partition("\nDebug source")[0])
    return int(found[1]), code, message


def _error_document(text: str) -> tuple[str, str]:
    """Find code and message in an XML or JSON error document; whatever else it says stays out of our messages."""
    code = re.search(r"<Code>([^<]*)</Code>", text) or re.search(r'"reason":\s*"([^"]*)"', text)
    message = re.search(r"<Message>([^<]*)</Message>", text) or re.search(r'"message":\s*"([^"]*)"', text)
    said = message[1].strip().partition("\n")[0][:200] if message else ""
    return (code[1] if code else ""), said
