"""Which servers there are below a URL, for whoever named one that isn't there."""

from __future__ import annotations

from difflib import get_close_matches

from barman_cloud import logs
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LOOKED_AT = 50
"""Folders that are looked into; not all of a bucket need be those of servers."""
_NAMED = 10
_FOLDERS = ("base/", "wals/")


def load(catalog: Catalog) -> CatalogView:
    """Return the catalog as ``Catalog.load`` does, with a WARNING if the server has none and there are others."""
    view = catalog.load()
    if not view.backups and not view.unreadable and (text := describe_unknown(catalog)):
        log.warning("%s", text)
    return view


def describe_unknown(catalog: Catalog) -> str | None:
    """Return one line about the servers that there are instead, or None if this one exists.

    None as well if that can't be found out: it is only ever said beside something more important.
    """
    store, layout = catalog.store, catalog.layout
    try:
        if store.list_level(layout.root).folders:
            return None
        above = f"{layout.prefix}/" if layout.prefix else ""
        if above and _is_server(catalog, above):
            path, _, name = layout.prefix.rpartition("/")
            place = store.object_url(path).rstrip("/")
            return f"{store.url.text} is the folder of server '{name}' itself: write {place} {name}"
        parent, _, _ = layout.root.rstrip("/").rpartition("/")
        names = existing_servers(catalog, f"{parent}/" if parent else "", above)
    except BarmanCloudError as error:
        log.debug("other servers are not looked for: %s", error)
        return None
    text = f"there is no server '{layout.server}' below {store.url.text}"
    if not names:
        return f"{text}, nor any other"
    close = get_close_matches(layout.server, names, 1)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{text}; there are: {', '.join(names[:_NAMED])}{more}" + (f"; is it '{close[0]}'?" if close else "")


def all_servers(store: ObjectStore) -> list[str]:
    """Return the names of all servers directly below the store's path, ascending."""
    layout = Layout.of(store.url, "any")
    above = f"{layout.prefix}/" if layout.prefix else ""
    return existing_servers(Catalog(store, layout), above, above, limit=None)


def existing_servers(catalog: Catalog, folder: str, above: str, *, limit: int | None = _LOOKED_AT) -> list[str]:
    """Return the names of the servers directly below ``folder`` (which ends in a slash), ascending.

    Names are what follows ``above``, the key of the URL's own folder. Only ``limit`` folders are looked into.
    """
    folders = catalog.store.list_level(folder).folders[:limit]
    found = catalog.map(lambda key: _is_server(catalog, key), folders)
    return [key[len(above) :].rstrip("/") for key, is_server in zip(folders, found, strict=True) if is_server]


def _is_server(catalog: Catalog, folder: str) -> bool:
    return not {f"{folder}{name}" for name in _FOLDERS}.isdisjoint(catalog.store.list_level(folder).folders)
