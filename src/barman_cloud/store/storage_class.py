"""The value of ``--storage-class``, checked against what a provider has."""

from __future__ import annotations

from collections.abc import Sequence

from barman_cloud.errors import ConfigurationError


def checked_class(
    given: str | None, provider: str, names: Sequence[str], unreadable: Sequence[str] = (), *, others: bool = False
) -> str | None:
    """Return the provider's own spelling of the class that the user named in any case.

    ``unreadable`` are classes whose objects must be brought back, for hours, before they can be read: neither recovery
    nor a restore could use them. With ``others`` the list of ``names`` isn't complete, and other words are taken as
    they are. Raises ``ConfigurationError``.
    """
    if given is None:
        return None
    if given.upper() in map(str.upper, unreadable):
        raise ConfigurationError(
            f"--storage-class {given}: objects of this class can't be read for hours, so nothing could be restored",
            hint=f"use {' or '.join(names[1:3])}, or let a lifecycle rule of the bucket move old backups",
        )
    for name in names:
        if name.upper() == given.upper():
            return name
    if others and given.replace("-", "").replace("_", "").isalnum() and given.isascii():
        return given
    raise ConfigurationError(f"--storage-class {given}: {provider} has no such class", hint=f"use {', '.join(names)}")
