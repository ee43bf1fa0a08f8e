"""One meaning for each failure."""

from __future__ import annotations

import pytest

from barman_cloud import errors
from barman_cloud.store.failures import Failure, TransientError, from_answer, from_obstore, to_error

BUCKET, OBJECT = "s3://b", "s3://b/k"


@pytest.mark.parametrize(
    ("failure", "about_object", "about_bucket"),
    [
        (Failure(404, "NoSuchKey"), errors.ObjectNotFoundError, errors.BucketNotFoundError),
        (Failure(404), errors.ObjectNotFoundError, errors.BucketNotFoundError),
        (Failure(404, "NoSuchBucket"), errors.BucketNotFoundError, errors.BucketNotFoundError),
        (Failure(404, "ContainerNotFound"), errors.BucketNotFoundError, errors.BucketNotFoundError),
        (
            Failure(404, "notFound", "The specified bucket does not exist."),
            errors.BucketNotFoundError,
            errors.BucketNotFoundError,
        ),
        (Failure(409, exists=True), errors.ObjectExistsError, errors.ObjectExistsError),
        (Failure(412), errors.ObjectChangedError, errors.ObjectChangedError),
        (Failure(403, "AccessDenied"), errors.AccessDeniedError, errors.AccessDeniedError),
        (Failure(401), errors.AccessDeniedError, errors.AccessDeniedError),
        (Failure(400, "ExpiredToken"), errors.AccessDeniedError, errors.AccessDeniedError),
        (Failure(403, "RequestTimeTooSkewed"), errors.AccessDeniedError, errors.AccessDeniedError),
        (Failure(409, "BlobImmutableDueToPolicy"), errors.LockedError, errors.LockedError),
        (Failure(503, "SlowDown"), TransientError, TransientError),
        (Failure(429), TransientError, TransientError),
        (Failure(409, "ConditionalRequestConflict"), TransientError, TransientError),
        (Failure(None, message="connection refused"), TransientError, TransientError),
        (Failure(400, "InvalidArgument"), errors.StoreError, errors.StoreError),
        (Failure(501, "NotImplemented"), errors.StoreError, errors.StoreError),
    ],
)
def test_meaning(failure: Failure, about_object: type[Exception], about_bucket: type[Exception]) -> None:
    assert type(to_error(failure, BUCKET, OBJECT)) is about_object
    assert type(to_error(failure, BUCKET, None)) is about_bucket
    assert BUCKET in str(to_error(failure, BUCKET, OBJECT))


def test_an_untrusted_certificate_is_no_transient_error() -> None:
    error = to_error(Failure(None, message="UnknownIssuer", certificate=True), BUCKET, OBJECT)
    assert type(error) is errors.ConnectivityError
    assert "AWS_CA_BUNDLE" in (error.hint or "")


def test_documents_are_reduced_to_code_and_message() -> None:
    xml = (
        b"<Error><Code>NoSuchKey</Code><Message>gone\nRequestId:1</Message><AWSAccessKeyId>AK</AWSAccessKeyId></Error>"
    )
    assert from_answer(404, xml) == Failure(404, "NoSuchKey", "gone")
    document = b'{"error": {"code": 403, "message": "no access", "errors": [{"reason": "forbidden"}]}}'
    assert from_answer(403, document) == Failure(403, "forbidden", "no access")
    assert from_answer(400, b"", "InvalidHeader") == Failure(400, "InvalidHeader", "")
    assert from_answer(502, b"<html>Bad gateway</html>") == Failure(502, "", "")


def test_other_exceptions_are_none_of_its_business() -> None:
    assert from_obstore(KeyError("x")) is None
    assert from_obstore(TypeError("x")) is None
