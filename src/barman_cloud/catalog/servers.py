"""Which servers there are below a URL, for the message about one that isn't there."""

from __future__ import annotations

from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import ObjectStore

_LOOKED_AT = 20


def existing_servers(store: ObjectStore, prefix: str) -> tuple[str, ...]:
    """Return the names of folders below ``prefix`` (without slashes at its ends) that hold backups or WAL, ascending.

    At most 20 folders are looked at. Raises what the store raises.
    """
    root = f"{prefix}/" if prefix else ""
    return tuple(
        folder[len(root) :].rstrip("/")
        for folder in store.list_level(root).folders[:_LOOKED_AT]
        if {f"{folder}base/", f"{folder}wals/"} & set(store.list_level(folder).folders)
    )


def hint_at_servers(store: ObjectStore, prefix: str, server: str) -> str | None:
    """Return a hint that names the servers below ``prefix``; None if ``server`` is there, or nobody can tell."""
    try:
        servers = existing_servers(store, prefix)
    except BarmanCloudError:
        return None
    if server in servers:
        return None
    if not servers:
        return "there is no server below this URL: look at the path of the URL"
    return f"there is no server {server!r} below this URL, but: {', '.join(servers)}"
