"""When uploads carry a checksum, and what is compared."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from barman_cloud.store.failures import Failure
from barman_cloud.store.s3 import checksums
from barman_cloud.store.s3.checksums import Checksums, verify

AMAZON, OTHER = "https://s3.us-east-1.amazonaws.com", "https://store.example.com"
REJECTED = Failure(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
DEMANDED = Failure(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")


@pytest.fixture(autouse=True)
def _nothing_learned() -> Iterator[None]:
    checksums._learned.clear()
    yield
    checksums._learned.clear()


@pytest.mark.parametrize(
    ("aws", "when_required", "sent"),
    [
        (True, None, True),
        (True, False, True),
        (True, True, False),
        (False, None, False),
        (False, False, True),
        (False, True, False),
    ],
)
def test_what_the_setting_means(aws: bool, when_required: bool | None, sent: bool) -> None:
    state = Checksums(aws, AMAZON if aws else OTHER, when_required)
    assert state.sent is sent
    assert bool(state.obstore_config()) is sent


def test_amazon_gets_the_cheap_one_and_others_the_old_one() -> None:
    assert Checksums(True, AMAZON, None).obstore_config() == {
        "checksum_algorithm": "CRC64NVME",
        "unsigned_payload": True,
    }
    assert Checksums(False, OTHER, False).obstore_config() == {"checksum_algorithm": "SHA256"}


def test_a_rejection_is_learned_once_for_the_process() -> None:
    state = Checksums(False, OTHER, False)
    assert state.adapt(REJECTED)
    assert not state.sent
    assert not state.adapt(DEMANDED), "one change of mind is enough"
    assert not Checksums(False, OTHER, False).sent
    assert Checksums(True, AMAZON, None).sent


def test_a_demand_is_met() -> None:
    state = Checksums(False, OTHER, None)
    assert state.adapt(DEMANDED)
    assert state.sent
    assert state.demanded
    assert Checksums(False, OTHER, None).demanded


@pytest.mark.parametrize(
    "failure",
    [
        Failure(400, "InvalidTag", "the tag is not valid"),
        Failure(403, "AccessDenied", "checksum"),
        Failure(503, "SlowDown"),
        Failure(None, message="timed out"),
    ],
)
def test_other_failures_teach_nothing(failure: Failure) -> None:
    for state in (Checksums(False, OTHER, False), Checksums(False, OTHER, None), Checksums(True, AMAZON, None)):
        assert not state.adapt(failure)


def test_amazon_is_taken_at_its_word() -> None:
    state = Checksums(True, AMAZON, None)
    assert not state.adapt(Failure(400, "InvalidRequest", "The encryption method specified is not supported"))
    assert state.sent


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("crc32", "y/Q5Jg=="),
        ("crc32c", "4waSgw=="),
        ("sha1", base64.b64encode(bytes.fromhex("f7c3bc1d808e04732adf679965ccc34ca7ae3441")).decode()),
        ("sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
    ],
)
def test_verify(name: str, value: str) -> None:
    """Values of the string 123456789, the check value of the CRC catalogue."""
    assert verify({f"x-amz-checksum-{name}": value}, b"123456789")
    assert not verify({f"x-amz-checksum-{name}": value}, b"123456780")
    assert verify({f"x-amz-checksum-{name}": value + "-2"}, b"123456780")


def test_nothing_to_verify() -> None:
    assert verify({}, b"x")
    assert verify({"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, b"x")
