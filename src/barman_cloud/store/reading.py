"""Reading large objects of a cloud store, in ranges of one version. Imported only by commands that do."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.errors import ConnectivityError, ObjectChangedError, StoreError
from barman_cloud.store import async_bridge
from barman_cloud.store.clients import READ_TIMEOUT
from barman_cloud.store.integrity import is_empty
from barman_cloud.store.obstore_limits import obstore_can_name, require_object
from barman_cloud.store.ranges import read_ahead, while_quick
from barman_cloud.store.upload import handed_over, slices

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

    from barman_cloud.store.base import Buffer
    from barman_cloud.store.cloud_client import CloudClient

log = logs.get_logger(__name__)

_FIRST_RANGE = 1 << 20
_PIECE = 1 << 20


def read_object(
    store: CloudClient, key: str, start: int, end: int | None, etag: str | None, concurrency: int, range_size: int
) -> Iterator[Buffer]:
    """Yield bytes ``start`` to ``end`` of an object; see ``ObjectStore.read`` for the rest."""
    first_end = start + range_size
    if concurrency > 1 and (end is None or end > first_end):
        # Only its answer tells size and version, so the other ranges wait for it.
        first_end = start + min(range_size, _FIRST_RANGE)
    if end is not None:
        first_end = min(first_end, end)
    fetched = _first_range(store, key, start, first_end, etag)
    if fetched is None:
        return
    pieces, size, version = fetched
    del fetched
    yield from handed_over(pieces)
    end = size if end is None else min(end, size)
    position = first_end
    if not store.partial_answers and obstore_can_name(key) and concurrency > 1 and end - position > range_size:
        position = yield from _read_whole(store, key, position, end, version)
    closed = False

    def fetch(begin: int, stop: int) -> list[Buffer]:
        return _range(store, key, begin, stop, version, stopped=lambda: closed)[0]

    try:
        yield from read_ahead(fetch, position, end, range_size, concurrency)
    finally:
        closed = True


def _read_whole(store: CloudClient, key: str, start: int, end: int, etag: str | None) -> Generator[Buffer, None, int]:
    """Yield what follows ``start`` from one answer, for stores whose partial answers obstore doesn't take.

    Returns where it stopped: before ``end`` if the connection was cut, or is so slow that several will be faster.
    """
    import obstore

    options: GetOptions = {} if etag is None else {"if_match": etag}

    def ask() -> GetResult:
        reader = store.reader  # made here, if need be, and not where all other answers wait for it
        result = async_bridge.call(lambda: obstore.get_async(reader, key, options=options))
        require_object(result)
        return result

    result = store.attempt("get", key, ask)
    if etag is not None and result.meta["e_tag"] != etag:
        raise _changed(store, key)
    position = 0
    try:
        pieces = async_bridge.iterate(result.stream(min_chunk_size=_PIECE), store.deadline.silence(READ_TIMEOUT))
        for chunk in while_quick(pieces):
            begin, position = position, position + len(chunk)
            if position > start:
                yield memoryview(chunk)[max(0, start - begin) : end - begin]
            if position >= end:
                break
    except Exception as error:
        # No piece in time is one more reason to ask for the rest by ranges, which keep the deadline.
        failure = ConnectivityError("no answer") if isinstance(error, TimeoutError) else store.translate(error, key)
        if not isinstance(failure, ConnectivityError):
            raise failure from error
        log.info("%s; going on by ranges", failure)
    return min(max(position, start), end)


def _first_range(
    store: CloudClient, key: str, start: int, end: int, etag: str | None
) -> tuple[list[Buffer], int, str | None] | None:
    """Return the bytes, the size of the whole object and its ETag; None when nothing of it is in the range."""
    try:
        pieces, size, version = _range(store, key, start, end, etag)
        if size == 0:
            is_empty(store, key)
        return pieces, size, version
    except StoreError:
        # Stores answer 416 to any range of an empty object, and to one that begins at or after the end.
        info = store.head(key)
        if start < info.size:
            raise
        if etag is not None and info.etag is not None and info.etag != etag:
            raise _changed(store, key) from None
        return None


def _range(
    store: CloudClient,
    key: str,
    start: int,
    end: int,
    etag: str | None,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[list[Buffer], int, str | None]:
    """Return a range in pieces (joining them would cost as much as receiving them), the object's size and ETag."""
    import obstore

    options: GetOptions = {"range": (start, end)}
    if etag is not None:
        options["if_match"] = etag

    # Read once: another thread may learn it from its own range while ours is under way.
    partial_answers = store.partial_answers and obstore_can_name(key)

    def fetch() -> tuple[list[Buffer], int, str | None]:
        if not partial_answers:
            data, size, version = store.provider_api.get_range(key, start, end, etag)
            return list(slices(memoryview(data), _PIECE)), size, version
        reader, moved = store.reader, store.deadline.progress()
        return async_bridge.call(lambda: receive(reader, moved))

    async def receive(reader: Any, moved: Callable[[int], None]) -> tuple[list[Buffer], int, str | None]:
        result = await obstore.get_async(reader, key, options=options)
        require_object(result)
        pieces: list[Buffer] = []
        async for chunk in result.stream(min_chunk_size=_PIECE):
            pieces.append(memoryview(chunk))
            moved(len(chunk))
        return pieces, result.meta["size"], result.meta["e_tag"]

    try:
        pieces, size, version = store.attempt("get", key, fetch, stopped=stopped)
    except StoreError as error:
        if "non-partial response" not in str(error) or not partial_answers:
            raise
        # Some stores answer a range rightly but with status 200, which obstore takes for the whole object.
        store.partial_answers = False
        return _range(store, key, start, end, etag, stopped=stopped)
    if etag is not None and version != etag:
        raise _changed(store, key)
    if sum(map(len, pieces)) != min(end, size) - start:
        raise StoreError(f"{store.object_url(key)}: the store sent another range than it was asked for")
    return pieces, size, version


def _changed(store: CloudClient, key: str) -> ObjectChangedError:
    return ObjectChangedError(f"{store.object_url(key)} has changed since it was last read")
