"""Unfinished uploads of the cloud stores, listed. Loaded by the commands that look after them, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from barman_cloud.errors import BarmanCloudError, StoreError

if TYPE_CHECKING:
    from barman_cloud.store.base import PendingUpload
    from barman_cloud.store.bucket_api import UploadsPage
    from barman_cloud.store.cloud_client import CloudClient


def list_uploads(store: CloudClient, prefix: str, *, sizes: bool) -> Iterator[PendingUpload]:
    """Yield the unfinished uploads below ``prefix``; see ``ObjectStore.list_uploads`` for the rest."""
    marker: tuple[str, str] | None = None
    seen: set[tuple[str, str]] = set()
    while True:
        page = store.attempt("list_uploads", None, partial(_page, store, prefix, marker))
        for upload in page.uploads:
            yield upload._replace(size=_stored(store, upload)) if sizes else upload
        marker = page.marker
        if marker is None:
            return
        if marker in seen:
            raise StoreError(
                f"{store.object_url(prefix)}: the list of unfinished uploads never ends: the store sends it again",
                hint="this is a fault of the store, or of a proxy in front of it",
            )
        seen.add(marker)


def _page(store: CloudClient, prefix: str, marker: tuple[str, str] | None) -> UploadsPage:
    return store.parts_api.unfinished(prefix, marker)


def _stored(store: CloudClient, upload: PendingUpload) -> int | None:
    """Return the bytes of all parts; None if they can't be listed, or the upload ended meanwhile."""
    size, before, marker = 0, -1, ""
    try:
        while True:
            more, marker = store.attempt("list_parts", upload.key, partial(_parts, store, upload, marker))
            size += more
            if not marker.isdecimal() or int(marker) <= before:
                return size
            before = int(marker)
    except BarmanCloudError:
        return None


def _parts(store: CloudClient, upload: PendingUpload, marker: str) -> tuple[int, str]:
    return store.parts_api.stored(upload.key, upload.upload, marker)
