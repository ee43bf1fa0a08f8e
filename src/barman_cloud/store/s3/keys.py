"""The access key of AWS as a value, and from the answers that hold one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from barman_cloud.errors import AccessDeniedError
from barman_cloud.store.environment import clean_secret


class AwsCredentials(NamedTuple):
    """An access key; ``expires`` is None for one that doesn't."""

    access_key: str
    secret_key: str
    token: str | None = None
    expires: datetime | None = None

    def __repr__(self) -> str:
        return "AwsCredentials(…)"  # its fields are secrets


def usable(key: str, secret: str, token: str | None, origin: str, expires: datetime | None = None) -> AwsCredentials:
    """Return the key, or say which part of it can't be sent."""
    return AwsCredentials(
        clean_secret(key, f"the access key (AWS_ACCESS_KEY_ID) of {origin}"),
        clean_secret(secret, f"the secret key (AWS_SECRET_ACCESS_KEY) of {origin}"),
        clean_secret(token or "", f"the session token (AWS_SESSION_TOKEN) of {origin}") or None,
        expires,
    )


def from_json(answer: Mapping[str, Any], origin: str) -> AwsCredentials:
    """Return the key in a JSON answer of a process, container or instance (they differ in one name only)."""
    try:
        expires = answer.get("Expiration")
        return usable(
            answer["AccessKeyId"],
            answer["SecretAccessKey"],
            answer.get("SessionToken") or answer.get("Token"),
            origin,
            _in_time_zone(datetime.fromisoformat(expires)) if expires else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AccessDeniedError(f"{origin} gave no usable AWS credentials") from error


def _in_time_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
