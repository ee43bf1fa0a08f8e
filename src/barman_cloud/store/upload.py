"""An upload in parts: cut from a stream, several on their way at the same time, each of them tried again by itself.

obstore could do it in one call, but without a word while it tries again, with no regard to the command's deadline, and
without a look at what the store says of the parts that it has.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, StoreError
from barman_cloud.store.bucket_api import Part

if TYPE_CHECKING:
    from barman_cloud.store.base import Buffer
    from barman_cloud.store.bucket_api import Attributes
    from barman_cloud.store.cloud_client import CloudClient

log = logs.get_logger(__name__)

_ABORTING_TRIES = 3
_SMALL = 64 << 10
"""Bytes of a piece below which sending it by itself costs more than copying it."""


def upload_parts(
    store: CloudClient, key: str, chunks: Iterable[Buffer], part_size: int, concurrency: int, attributes: Attributes
) -> int:
    """Store the stream under ``key`` and return its size in bytes; see ``ObjectStore.put_stream`` for the rest."""
    name = store.object_url(key)
    # The API is looked for at every try: a refusal may have changed how requests are made.
    upload = store.attempt("multipart", key, lambda: store.parts_api.begin(key, attributes))
    uploads = _PartUploads(store, key, upload, concurrency)
    size = 0
    try:
        for part in cut(chunks, part_size):
            size += part.size
            if part.number > store.capabilities.max_parts:
                raise StoreError(
                    f"{name}: more than {store.capabilities.max_parts * part_size} bytes don't fit into one upload",
                    hint="use larger parts or smaller archives",
                )
            uploads.hand_over(part)
        parts = uploads.finish()
        _complete(store, key, upload, parts, size)
    except BaseException:
        uploads.stop()
        _abort(store, key, upload)
        raise
    return size


def _complete(store: CloudClient, key: str, upload: str, parts: list[str], size: int) -> None:
    try:
        store.attempt("complete", key, lambda: store.parts_api.complete(key, upload, parts))
    except BarmanCloudError as error:
        # When the answer gets lost, the request that is made again finds no parts any more.
        if not store.is_gone(error) or not _is_stored(store, key, size):
            raise


def _is_stored(store: CloudClient, key: str, size: int) -> bool:
    try:
        return store.head(key).size == size
    except BarmanCloudError:
        return False


def _abort(store: CloudClient, key: str, upload: str) -> None:
    tries = iter(range(_ABORTING_TRIES - 1))
    try:
        store.attempt(
            "abort",
            key,
            lambda: store.parts_api.abort(key, upload),
            stopped=lambda: next(tries, None) is None,
        )
    except Exception as error:  # noqa: BLE001 - the failure that led here is the one to report
        log.info("%s: parts may be left in the bucket: %s", store.object_url(key), error)


class _PartUploads:
    """Threads that upload parts, ``concurrency`` at a time; no more parts than that are taken over.

    ``concurrent.futures`` would queue any number of parts, and their bytes with them, and its threads keep the process
    from ending. ``restore.pipeline.run_all`` knows all its tasks in advance; parts come one after another.
    """

    def __init__(self, store: CloudClient, key: str, upload: str, concurrency: int) -> None:
        self._store = store
        self._key = key
        self._upload = upload
        self._free = threading.Semaphore(concurrency)
        self._concurrency = concurrency
        self._names: dict[int, str] = {}
        self._failure: BaseException | None = None
        self._stopped = False

    def hand_over(self, part: Part) -> None:
        """Upload the part, as soon as one of those before is done; raises the failure of any of them."""
        self._free.acquire()
        if self._failure is not None:
            self._free.release()
            raise self._failure
        threading.Thread(target=self._work, args=(part,), name=f"part-{part.number}", daemon=True).start()

    def finish(self) -> list[str]:
        """Wait for all parts, and return what the store calls them; raises the failure of any of them."""
        self._wait()
        if self._failure is not None:
            raise self._failure
        return [name for _, name in sorted(self._names.items())]

    def stop(self) -> None:
        """Wait for the parts on their way: one that arrives after the upload was aborted would stay."""
        self._stopped = True
        self._wait()

    def _wait(self) -> None:
        for _ in range(self._concurrency):
            self._free.acquire()
        self._free.release(self._concurrency)

    def _work(self, part: Part) -> None:
        try:
            if self._failure is None:
                self._names[part.number] = self._store.attempt(
                    "part",
                    self._key,
                    lambda: self._store.parts_api.put_part(self._key, self._upload, part),
                    stopped=lambda: self._stopped,
                )
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that has the stream
            self._failure = error
        finally:
            part.pieces.clear()  # not to keep the bytes alive until the next part comes
            self._free.release()


def cut(chunks: Iterable[Buffer], size: int) -> Iterator[Part]:
    """Cut a stream into parts of ``size`` bytes, at least one; large pieces aren't copied. The last one is smaller."""
    number, held = 1, 0
    pieces: list[Buffer] = []
    for chunk in chunks:
        rest = memoryview(frozen(chunk)).cast("B")
        while held + len(rest) >= size:
            pieces.append(rest[: size - held])
            rest = rest[size - held :]
            yield Part(number, _gathered(pieces), size)
            number, held, pieces = number + 1, 0, []
        if len(rest):
            pieces.append(rest)
            held += len(rest)
    if held or number == 1:
        yield Part(number, _gathered(pieces), held)


def _gathered(pieces: list[Buffer]) -> list[Buffer]:
    return [b"".join(pieces)] if len(pieces) * _SMALL > sum(map(len, pieces)) else pieces


def frozen(chunk: Buffer) -> Buffer:
    """Return the chunk, or a copy if its owner could write to it again while it waits for its upload."""
    return chunk if isinstance(chunk, bytes) or memoryview(chunk).readonly else bytes(chunk)


def handed_over(pieces: list[Buffer]) -> Iterator[Buffer]:
    """Yield the pieces, and keep none of them alive: they are large."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def rejoined(first: list[Buffer], rest: Iterator[Buffer]) -> Iterator[Buffer]:
    """Yield what was taken off the beginning of a stream, giving up each piece, and then the rest."""
    yield from handed_over(first)
    yield from rest


def slices(data: memoryview, size: int) -> Iterator[Buffer]:
    """Cut a body in memory into pieces that share it."""
    for start in range(0, data.nbytes, size):
        yield data[start : start + size]
