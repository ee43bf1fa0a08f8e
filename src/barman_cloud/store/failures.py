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
WRONG_REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "IllegalLocationConstraintException"})
_EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_NO_BUCKET_CODES = frozenset({"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "ResourceNotFound"})
_NO_OBJECT_CODES = frozenset({"", "404", "blobnotfound", "keynotfound", "notfound", "nosuchkey", "nosuchversion"})
"""Codes (in lower case, without blanks) by which a 404 is about the object; stores answer 404 to other things too."""
_CREDENTIAL_CODES = frozenset(
    {
        "AuthenticationFailed",
        *WRONG_REGION_CODES,
        *_EXPIRED_CODES,
        *_CLOCK_CODES,
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidToken",
        "NoAuthenticationInformation",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "XAdminUserNotFound",
    }
)
_DENIED_CODES = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AuthorizationFailure", "AuthorizationPermissionMismatch"}
)
_EXISTS_CODES = frozenset({"", "PreconditionFailed", "BlobAlreadyExists", "conditionNotMet"})
"""Codes by which a conditional create says that it found the object; other conflicts are none of its."""
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
    region: str = ""
    """The region that the store says it, or the bucket, is in."""
    unreadable: bool = False
    """Something answered, but not what the store would say; ``message`` says what is wrong with it."""

    def describe(self) -> str:
        """One phrase for messages, such as ``503 SlowDown: reduce your request rate``."""
        code = "" if self.code == str(self.status) else self.code
        head = " ".join(str(part) for part in (self.status, code) if part)
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
    if failure.unreadable:
        return StoreError(
            f"{name}: {failure.message}",
            hint="something other than the store may be answering: check endpoint, proxy and the network's login page",
        )
    if failure.code in _NO_BUCKET_CODES or (failure.status == 404 and "bucket does not exist" in failure.message):
        return BucketNotFoundError(
            f"{bucket_url}: the bucket doesn't exist", hint="check the URL, or create the bucket"
        )
    if failure.code in _LOCK_CODES:
        return LockedError(
            f"{name} is locked ({what})",
            hint="repeat the command when the lock has ended; --check-object-lock tells when",
        )
    if failure.status in _TRANSIENT_STATUS or failure.code in _TRANSIENT_CODES:
        return TransientError(
            f"{name}: the store keeps failing ({what})",
            hint="it is overloaded or down: see its status page, and run the command again as it is",
            answered=True,
        )
    if failure.status == 407:
        return AccessDeniedError(
            f"{name}: the proxy refuses the connection ({what})", hint="check user and password of the proxy's URL"
        )
    if failure.status in (401, 403) or failure.code in _CREDENTIAL_CODES or failure.code in _DENIED_CODES:
        return _denied(failure, name)
    if failure.status == 404:
        if failure.code.lower().replace(" ", "") not in _NO_OBJECT_CODES:
            return StoreError(f"{name}: the store refused the request ({what})")
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
    what = failure.describe()
    if failure.code in _EXPIRED_CODES:
        return AccessDeniedError(
            f"{name}: the credentials have expired ({what})",
            hint="get new temporary credentials (key, secret and session token), or use a role or profile",
        )
    if failure.code in _CLOCK_CODES:
        return AccessDeniedError(
            f"{name}: the clock of this host and that of the store differ ({what})",
            hint="set the clock, such as by NTP",
        )
    if failure.code in WRONG_REGION_CODES:
        known = f"={failure.region}" if failure.region else ""
        return AccessDeniedError(
            f"{name}: the store expects another region ({what})",
            hint=f"set AWS_DEFAULT_REGION{known}, or the region of the profile",
        )
    if failure.code in _CREDENTIAL_CODES or failure.status == 401:
        return AccessDeniedError(
            f"{name}: the store doesn't accept the credentials ({what})",
            hint="check the access key, its secret, the region and the clock of this host",
        )
    return AccessDeniedError(
        f"{name}: access denied ({what})", hint="check the credentials and what their policy allows"
    )


_STATUS_OF_CLASS = {
    "FileNotFoundError": 404,
    "PermissionDeniedError": 403,
    "PreconditionError": 412,
    "AlreadyExistsError": 409,
}
# Text, compiled by the first failure: importing this module is on the path of wal-archive.
_STATUS = r"(?:status code|with status):? (\d{3})"
_KIND = r"kind: (Timeout|Connect|Request|Decode|Interrupted)\b"
_CAUSE = (
    r"(?i)(connection refused|connection reset|dns error|failed to lookup address|tls handshake eof|operation timed out"
    "|timed out|network is unreachable|no route to host|connection closed before message completed"
    "|unexpected end of file|IncompleteMessage)"
)
_HTML = r"<(?i:!doctype\s+)?(?i:html)\b"
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
    status, (code, message, region) = _http_part(text)
    if kind == "AlreadyExistsError" and code in _EXISTS_CODES:
        return Failure(409, exists=True)
    if status is None:
        status = _STATUS_OF_CLASS.get(kind)
    if status is None and kind == "UnauthenticatedError":
        return Failure(401, message=text.partition("\n")[0])
    if status == 404 and not code and re.search(_HTML, text.partition("\nDebug source")[0]):
        return _HTML_404
    if status is not None:
        return Failure(status, code, message, region=region)
    if "Received redirect without LOCATION" in text:
        return Failure(301, "PermanentRedirect", "the bucket is in another region")
    if certificate := re.search(_CERTIFICATE, text):
        return Failure(None, message=certificate[1], certificate=True)
    if re.search(_KIND, text) or "HttpError" in text or "error decoding response body" in text:
        cause = re.search(_CAUSE, text)
        kind_of_http = re.search(_KIND, text)
        return Failure(
            None, message=(cause[1] if cause else f"{kind_of_http[1] if kind_of_http else 'transfer'} error").lower()
        )
    return Failure(400, message=text.partition("\n")[0])


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; the rest of what libraries say is noise."""
    return (str(error).strip() or "no message").splitlines()[0]


def from_answer(status: int, body: bytes, code: str = "", region: str = "") -> Failure:
    """Reduce an HTTP answer; ``code`` and ``region`` come from headers, where Azure and S3 put them."""
    text = body[:8192].decode("utf-8", "replace")
    found = _error_document(text)
    if status == 404 and not code and _is_html(text):
        return _HTML_404
    return Failure(status, code or found.code, found.message, region=found.region or region)


def unreadable(what: str, body: bytes) -> Failure:
    """Return the failure for an answer that isn't ``what`` it should be, such as ``a listing of the bucket``.

    An error document that came with a status of success is what it says; of anything else only the kind is shown.
    """
    text = body[:8192].decode("utf-8", "replace")
    found = _error_document(text)
    if found.code and re.match(r"\s*(<\?xml[^>]*>\s*)?<Error\b|\s*\{\s*\"error\"", text):
        return Failure(200, found.code, found.message, region=found.region)
    kind = "HTML" if _is_html(text) else f"{len(body)} bytes of something else"
    return Failure(200, message=f"the answer isn't {what}, but {kind if body.strip() else 'empty'}", unreadable=True)


def not_an_object(found: str) -> RequestFailedError:
    """Return the error for an answer of success about an object whose headers aren't one's; ``found`` says what is."""
    return RequestFailedError(Failure(200, message=f"the answer isn't about an object, but {found}", unreadable=True))


def _is_html(text: str) -> bool:
    return re.match(r"\s*" + _HTML, text) is not None


_HTML_404 = Failure(404, message="the answer is a page of HTML, which no store sends", unreadable=True)
"""A web server's "not found" says nothing of an object."""


class _Said(NamedTuple):
    code: str = ""
    message: str = ""
    region: str = ""


def _http_part(text: str) -> tuple[int | None, _Said]:
    """Return the status of an answer in obstore's text, and what its error document says."""
    found = re.search(_STATUS, text)
    if not found:
        return None, _Said()
    return int(found[1]), _error_document(text.partition("\nDebug source")[0])


def _error_document(text: str) -> _Said:
    """Find code, message and region in an XML or JSON error document; what else it says stays out of our messages."""
    code, message, region = (re.search(rf"<{name}>([^<]*)</{name}>", text) for name in ("Code", "Message", "Region"))
    if code or message:
        return _Said(*(_line(found[1], xml=True) if found else "" for found in (code, message, region)))
    code = re.search(r'"reason":\s*"([^"]*)"', text)
    message = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', text)
    return _Said(*(_line(found[1], xml=False) if found else "" for found in (code, message)))


def _line(text: str, *, xml: bool) -> str:
    """Return the first line of a text out of a document, fit for a terminal."""
    if xml and "&" in text:
        from html import unescape

        text = unescape(text)
    elif not xml and "\\" in text:
        import json
        from contextlib import suppress

        with suppress(ValueError):
            text = json.loads(f'"{text}"', strict=False)
    first = text.strip().partition("\n")[0][:200]
    return "".join(character if character.isprintable() else "?" for character in first)
