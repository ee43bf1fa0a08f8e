"""Private certificate authorities."""

from __future__ import annotations

from barman_cloud.errors import ConfigurationError


def read_bundle(path: str) -> bytes:
    """Return the PEM text of a bundle of CA certificates, as obstore wants it."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't read the bundle of CA certificates ({error.strerror})",
            hint="it must be one PEM file; check AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE",
        ) from error
