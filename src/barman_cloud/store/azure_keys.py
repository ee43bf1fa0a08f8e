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


@dataclass(frozen=True, slots=True, repr=False)
class AzureCredentials:
    """Exactly one of ``sas`` (a query string without its ``?``) and ``token`` (a bearer token) is set."""

    sas: str | None = None
    token: str | None = None
    expires: datetime | None = None


AzureSource = Callable[[], AzureCredentials]


def account_sas(account: str, key: str, now: datetime | None = None) -> AzureCredentials:
    """Derive an account SAS for blobs (REST reference, "Create an account SAS") that lives for some hours.

    It begins a quarter of an hour ago, as the documentation advises against clocks that differ.
    """
    moment = now or datetime.now(UTC)
    start, end = moment - timedelta(minutes=15), moment + LIFETIME
    fields = {
        "sv": SAS_VERSION,
        "ss": "b",
        "srt": "sco",
        "sp": "rwdlacti",
        "st": start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "se": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "spr": "https,http",
    }
    text = "\n".join(
        (account, fields["sp"], "b", "sco", fields["st"], fields["se"], "", fields["spr"], SAS_VERSION, "", "")
    )
    try:
        secret = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(
            "the Azure storage account key isn't base64", hint="copy it whole from the portal"
        ) from None
    fields["sig"] = base64.b64encode(hmac.digest(secret, text.encode(), "sha256")).decode()
    return AzureCredentials(sas=urlencode(fields), expires=end)
