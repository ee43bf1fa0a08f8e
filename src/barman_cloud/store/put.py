"""An object in one request, and what the store says of it compared with what was sent."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import AccessDeniedError, ObjectExistsError, ObjectNotFoundError
from barman_cloud.store.clients import upload_timeout
from barman_cloud.store.integrity import AlteredError, md5_in, md5_of

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes
    from barman_cloud.store.cloud_client import CloudClient

SHORTEST_WAIT = 0.02
LONGEST_WAIT = 1.0
"""Seconds between a create and the look at what came of it, on stores that may ignore its condition."""

logger = logs.get_logger(__name__)


def put_whole(store: CloudClient, key: str, data: memoryview, *, if_absent: bool, attributes: Attributes) -> str | None:
    """Store ``data`` under ``key`` in one request and return its ETag; see ``ObjectStore.put`` for the rest."""
    import obstore

    timeout = upload_timeout(data.nbytes, store.deadline)
    arguments = store.obstore_arguments(attributes)
    ours = False  # the object is there because of us, with whatever content

    def send() -> str | None:
        nonlocal ours
        client = store.writer(timeout, data)
        store.deadline.moved(data.nbytes)
        mode = "create" if if_absent and not ours else "overwrite"
        result = obstore.put(client, key, data, mode=mode, use_multipart=False, **arguments)  # type: ignore[arg-type]
        ours = True
        etag: str | None = result["e_tag"]
        if store.etags_are_md5 and _differs(etag, data):
            _compare(store, key, data)
        return etag

    try:
        return store.attempt("put", key, send)
    except AlteredError:
        # Wrong bytes must not lie there as if they were the object.
        with suppress(Exception):
            store.attempt("delete", key, lambda: store.provider_api.delete_one(key), stopped=lambda: True)
        raise


def create_carefully(store: CloudClient, key: str, data: memoryview, attributes: Attributes) -> None:
    """Create the object on a store that may take no notice of the condition: look before, and read back afterwards.

    Another writer that looked before us may write after us. So the object is read back only when such a writer, if it
    is no slower than we are, has written too: the last one of them finds its own object, all others another one.
    """
    import time

    began = time.monotonic()
    _refuse_existing(store, key, data)
    etag = put_whole(store, key, data, if_absent=True, attributes=attributes)
    time.sleep(min(max(time.monotonic() - began, SHORTEST_WAIT), LONGEST_WAIT))
    try:
        ours = _is_ours(store, key, data, etag)
    except AccessDeniedError as error:
        logger.info("not looking whether another writer was at it: %s", error)
        return
    if not ours:
        raise ObjectExistsError(f"{store.object_url(key)} exists already: another writer made it at the same moment")


def _refuse_existing(store: CloudClient, key: str, data: memoryview) -> None:
    try:
        _look_at(store, key, data)
    except (ObjectNotFoundError, AccessDeniedError):
        return
    raise ObjectExistsError(f"{store.object_url(key)} exists already")


def _is_ours(store: CloudClient, key: str, data: memoryview, etag: str | None) -> bool:
    import obstore

    try:
        if etag is None:
            return memoryview(store.attempt("get", key, lambda: obstore.get(store.reader, key).bytes())) == data
        found = _look_at(store, key, data)
    except ObjectNotFoundError:
        return True  # deleted since: no other writer's doing
    return found == etag


def _look_at(store: CloudClient, key: str, data: memoryview) -> str | None:
    """Return the object's ETag, asking by the client that writes ``data``: another one costs more than the request."""
    import obstore

    timeout = upload_timeout(data.nbytes, store.deadline)
    meta = store.attempt("head", key, lambda: obstore.head(store.writer(timeout, data), key))
    etag: str | None = meta["e_tag"]
    return etag


def _compare(store: CloudClient, key: str, data: memoryview) -> None:
    """Read back an object whose ETag isn't its MD5: the bytes are others, or the store's ETags aren't that.

    They aren't where the store encrypts with keys of its own, which nobody needs to have told us.
    """
    import obstore

    try:
        altered = memoryview(obstore.get(store.reader, key).bytes()) != data
    except PermissionError:  # these credentials may only write
        altered = False
    if altered:
        raise AlteredError(store.object_url(key))
    logger.debug("%s: the store's ETags are no MD5", store.object_url(key))
    store.etags_are_md5 = False


def _differs(etag: str | None, data: memoryview) -> bool:
    md5 = md5_in(etag)
    return md5 is not None and md5 != md5_of([data])
