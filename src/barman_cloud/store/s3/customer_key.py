"""The key of server-side encryption with customer-provided keys (SSE-C)."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

from barman_cloud.errors import ConfigurationError

_HINT = "it must be file:// with the absolute path of a file that holds 32 bytes in base64"


def read_customer_key(uri: str) -> str:
    """Return the base64 key in the file that ``uri`` names; white space around it doesn't count.

    The file may be a pipe, so it is read once. Nothing of its content appears in an error.
    """
    if not uri.lower().startswith("file://"):
        raise ConfigurationError("--sse-customer-key isn't a file:// URI", hint=_HINT)
    path = Path(uri[len("file://") :])
    if not path.is_absolute():
        raise ConfigurationError(f"{uri}: the path of the key isn't absolute", hint=_HINT)
    try:
        text = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: can't read the key ({error.strerror})", hint=_HINT) from error
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"{path}: the key isn't base64", hint=_HINT) from None
    if len(key) != 32:
        raise ConfigurationError(f"{path}: the key has {len(key)} bytes instead of 32", hint=_HINT)
    return base64.b64encode(key).decode()
