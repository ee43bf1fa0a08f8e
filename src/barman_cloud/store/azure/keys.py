"""How requests to Azure Blob Storage are authorized: by a shared access signature, or by a bearer token.

An account key is never used directly. obstore signs a request before it adds the header of an encryption scope, which
spoils a shared-key signature; a signature derived from the key covers no headers, and serves our own requests as well.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from barman_cloud.errors import ConfigurationError

SAS_VERSION = "2021-12-02"
LIFETIME = timedelta(hours=6)
_PROTOCOLS = "https,http"


@dataclass(frozen=True, slots=True, repr=False)
class AzureCredentials:
    """Either ``sas`` (a query string without its ``?``) or ``token`` (a bearer token) is set."""

    sas: str | None = None
    token: str | None = None
    expires: datetime | None = None
    account_sas: str | None = None
    """For requests about the container itself, which ``sas`` doesn't cover when it was derived from a key."""


AzureSource = Callable[[], AzureCredentials]


def derive_sas(account: str, container: str, key: str, now: datetime | None = None) -> AzureCredentials:
    """Derive signatures from an account key that live for some hours: one for the container's blobs, one for itself.

    They begin a quarter of an hour ago, as the documentation advises against clocks that differ. Source: REST
    reference, "Create a service SAS" and "Create an account SAS".
    """
    moment = now or datetime.now(UTC)
    end = moment + LIFETIME
    times = (_stamp(moment - timedelta(minutes=15)), _stamp(end))
    try:
        secret = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        hint = "copy it whole from the portal"
        raise ConfigurationError("the Azure storage account key isn't base64", hint=hint) from None
    return AzureCredentials(
        sas=_service_sas(secret, account, container, times),
        expires=end,
        account_sas=_account_sas(secret, account, times),
    )


def _service_sas(secret: bytes, account: str, container: str, times: tuple[str, str]) -> str:
    permissions = "racwdlt"
    resource = f"/blob/{account}/{container}"
    lines = (permissions, *times, resource, "", "", _PROTOCOLS, SAS_VERSION, "c", "", "", "", "", "", "", "")
    fields = {"sp": permissions, "st": times[0], "se": times[1], "spr": _PROTOCOLS, "sv": SAS_VERSION, "sr": "c"}
    return urlencode({**fields, "sig": _signature(secret, lines)})


def _account_sas(secret: bytes, account: str, times: tuple[str, str]) -> str:
    permissions = "rwlc"
    lines = (account, permissions, "b", "c", *times, "", _PROTOCOLS, SAS_VERSION, "", "")
    fields = {"sv": SAS_VERSION, "ss": "b", "srt": "c", "sp": permissions, "st": times[0], "se": times[1]}
    return urlencode({**fields, "spr": _PROTOCOLS, "sig": _signature(secret, lines)})


def _signature(secret: bytes, lines: tuple[str, ...]) -> str:
    return base64.b64encode(hmac.digest(secret, "\n".join(lines).encode(), "sha256")).decode()


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
