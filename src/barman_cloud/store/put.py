"""An object in one request, and what the store says of it compared with what was sent."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.errors import AccessDeniedError, ObjectExistsError, ObjectNotFoundError
from barman_cloud.store.clients import upload_timeout
from barman_cloud.store.integrity import AlteredError, md5_in, md5_of
from barman_cloud.store.obstore_limits import head_by

if TYPE_CHECKING:
    from barman_cloud.store.bucket_api import Attributes
    from barman_cloud.store.cloud_client import CloudClient

SHORTEST_WAIT = 0.02
LONGEST_WAIT = 0.5
"""Seconds between a create and the look at what came of it, on stores that may ignore its condition."""

log = logs.get_logger(__name__)


def put_whole(
    store: CloudClient,
    key: str,
    data: memoryview,
    *,
    if_absent: bool,
    attributes: Attributes,
    careful: bool = False,
) -> None:
    """Store ``data`` under ``key`` in one request; see ``ObjectStore.put`` for the rest.

    ``careful`` is for conditional creates on a store that may ignore their condition: the object is looked for before
    every try, and read back afterwards. Another writer that looked before us may write after us. So it is read back
    only when such a writer, if it is no slower than we are, has written too: the last one of them finds its own object,
    all others find another one.
    """
    import obstore

    timeout = upload_timeout(data.nbytes, store.deadline)
    arguments = store.obstore_arguments(attributes)
    ours = False  # the object is there because of us, with whatever content
    looked = time.monotonic()

    def send() -> str | None:
        nonlocal ours, looked
        client = store.writer(timeout, data)
        if careful and not ours:
            looked = time.monotonic()
            # By the client that will write, since another one costs more than the request.
            _refuse_existing(store, client, key)
        store.deadline.moved(data.nbytes)
        mode = "create" if if_absent and not ours else "overwrite"
        result = obstore.put(client, key, data, mode=mode, use_multipart=False, **arguments)  # type: ignore[arg-type]
        ours = True
        etag: str | None = result["e_tag"]
        if store.etags_are_md5 and _differs(etag, data):
            _compare(store, key, data)
        return etag

    try:
        etag = store.attempt("put", key, send)
    except AlteredError:
        # Wrong bytes must not be there as if they were the object.
        with suppress(Exception):
            store.attempt("delete", key, lambda: store.provider_api.delete_one(key), stopped=lambda: True)
        raise
    if careful:
        time.sleep(min(max(time.monotonic() - looked, SHORTEST_WAIT), LONGEST_WAIT))
        if not _is_ours(store, key, data, etag, store.writer(timeout, data)):
            raise ObjectExistsError(
                f"{store.object_url(key)} exists already: another writer made it at the same moment"
            )


def _refuse_existing(store: CloudClient, client: Any, key: str) -> None:
    store.requests.add("head")
    try:
        head_by(client, key)
    except Exception as error:
        # The PUT that follows says more about a store that refuses everything.
        if not isinstance(store.translate(error, key), ObjectNotFoundError | AccessDeniedError):
            raise store.explained("head", key, error) from error
    else:
        raise ObjectExistsError(f"{store.object_url(key)} exists already")


def _is_ours(store: CloudClient, key: str, data: memoryview, etag: str | None, client: Any) -> bool:
    """Tell whether the object that was just made is still the one that ``etag`` or else ``data`` says.

    Servers and proxies may give it another ETag in the answer to a PUT than later.
    """
    import obstore

    try:
        if etag is not None and store.attempt("head", key, lambda: head_by(client, key)).etag == etag:
            return True
        return memoryview(store.attempt("get", key, lambda: obstore.get(client, key).bytes())) == data
    except ObjectNotFoundError:
        return True  # deleted since: no other writer's doing
    except AccessDeniedError as error:
        log.info("not looking whether another writer was at it: %s", error)
        return True


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
    log.debug("%s: the store's ETags are no MD5", store.object_url(key))
    store.etags_are_md5 = False


def _differs(etag: str | None, data: memoryview) -> bool:
    md5 = md5_in(etag)
    return md5 is not None and md5 != md5_of([data])
