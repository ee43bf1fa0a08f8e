"""Uploads in parts by our own requests, for keys that obstore can't name: an empty or dotted segment, as in ``a//b``.

Such keys come from a URL whose path has one. Everybody else's parts go through obstore, which costs less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.upload import CountedChunks

if TYPE_CHECKING:
    from barman_cloud.store.base import Buffer, Tags
    from barman_cloud.store.bucket_api import Requester


def upload_in_parts(
    store: Requester, key: str, chunks: Iterable[Buffer], part_size: int, concurrency: int, tags: Tags | None
) -> int:
    """Store the concatenation of ``chunks`` and return its size in bytes; see ``ObjectStore.put_stream``.

    Every part is in memory until it is stored, so each can be sent again by itself.
    """
    counter = CountedChunks(chunks, store.capabilities.max_parts * part_size, store.object_url(key))
    upload = store.attempt("multipart", key, lambda: store.provider_api.uploads.begin(key, tags))

    def send(number: int, data: bytes) -> str:
        return store.attempt("part", key, lambda: store.provider_api.uploads.put_part(key, upload, number, data))

    names: list[str] = []
    flying: deque[Future[str]] = deque()
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="part")
    try:
        for number, part in enumerate(_parts(counter, part_size), 1):
            if len(flying) == concurrency:
                names.append(flying.popleft().result())
            flying.append(pool.submit(send, number, part))
            del part
        names += [future.result() for future in flying]
        store.attempt("multipart", key, lambda: store.provider_api.uploads.finish(key, upload, names, tags))
    except BaseException:
        pool.shutdown(cancel_futures=True)
        with suppress(BarmanCloudError):
            store.attempt("multipart", key, lambda: store.provider_api.uploads.abort(key, upload))
        raise
    finally:
        pool.shutdown()
    return counter.size


def _parts(chunks: Iterable[Buffer], size: int) -> Iterator[bytes]:
    """Cut a stream into parts of ``size`` bytes; the last one may be shorter."""
    part = bytearray()
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        while view.nbytes:
            taken = size - len(part)
            part += view[:taken]
            view = view[taken:]
            if len(part) == size:
                yield bytes(part)
                part = bytearray()
    if part:
        yield bytes(part)
