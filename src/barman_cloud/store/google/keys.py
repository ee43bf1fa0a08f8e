"""A service account key of Google Cloud turned into a bearer token, without a request and without a crypto library.

Google accepts a JSON Web Token signed by the account itself ("Service account authorization without OAuth"). Its RS256
is one modular power of a number (RFC 8017, section 8.2), so what is left is to read the private key's DER.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
LIFETIME = timedelta(hours=1)
_SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
"""DigestInfo of a SHA-256 hash (RFC 8017, section 9.2, note 1)."""


@dataclass(frozen=True, slots=True, repr=False)
class GoogleCredentials:
    """A bearer token."""

    token: str
    expires: datetime | None = None


GoogleSource = Callable[[], GoogleCredentials]


def self_signed_token(key: Mapping[str, Any], now: datetime | None = None) -> GoogleCredentials:
    """Return a token for Cloud Storage signed with a service account key.

    Raises ``ValueError`` or ``KeyError`` when ``key`` isn't the content of a key file.
    """
    moment = now or datetime.now(UTC)
    expires = moment + LIFETIME
    header = {"alg": "RS256", "typ": "JWT", "kid": key["private_key_id"]}
    email = key["client_email"]
    claims = {
        "iss": email,
        "sub": email,
        "scope": SCOPE,
        "iat": int(moment.timestamp()),
        "exp": int(expires.timestamp()),
    }
    text = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(claims).encode())}"
    signature = _sign(text.encode(), *_private_numbers(key["private_key"]))
    return GoogleCredentials(f"{text}.{_encode(signature)}", expires)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(message: bytes, modulus: int, exponent: int) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256."""
    size = (modulus.bit_length() + 7) // 8
    digest = _SHA256_INFO + hashlib.sha256(message).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
    return pow(int.from_bytes(padded), exponent, modulus).to_bytes(size)


def _private_numbers(pem: str) -> tuple[int, int]:
    """Return modulus and private exponent of a PKCS #8 key in PEM (RFC 5208 around RFC 8017, appendix A.1.2)."""
    der = base64.b64decode("".join(line for line in pem.strip().splitlines() if not line.startswith("-----")))
    _version, _algorithm, wrapped = _children(_children(der)[0])
    _version, modulus, _public, exponent, *_rest = _children(_children(wrapped)[0])
    return int.from_bytes(modulus), int.from_bytes(exponent)


def _children(data: bytes) -> list[bytes]:
    """Return the contents of the DER values that follow one another in ``data``."""
    found = []
    position = 0
    while position < len(data):
        length = data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[position : position + count])
            position += count
        if position + length > len(data):
            raise ValueError("the private key is cut off")
        found.append(data[position : position + length])
        position += length
    return found
