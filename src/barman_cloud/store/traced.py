"""A store that logs every call at DEBUG: what ``-vv`` says beyond ``-v``. A wrapper around any other store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from barman_cloud import logs
from barman_cloud.store.base import (
    Buffer,
    Capabilities,
    Listing,
    ObjectInfo,
    ObjectKind,
    ObjectLock,
    ObjectStore,
    PendingUpload,
    Tags,
)

log = logs.get_logger(__name__)


class _Result:
    """What a call found, for its line in the log."""

    text = ""


class TracedStore(ObjectStore):
    """Delegates to ``inner``; each call is one line: method, key, what came out, and how long it took."""

    def __init__(self, inner: ObjectStore) -> None:
        self._inner = inner
        self.url = inner.url
        self.requests = inner.requests

    @property
    def capabilities(self) -> Capabilities:  # type: ignore[override]  # what a store learns of its server changes it
        return self._inner.capabilities

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        with _traced("put", key) as result:
            result.text = f"{memoryview(data).nbytes} bytes"
            self._inner.put(key, data, kind=kind, if_absent=if_absent, tags=tags)

    def put_stream(
        self,
        key: str,
        chunks: Iterable[Buffer],
        *,
        kind: ObjectKind = "archive",
        part_size: int | None = None,
        concurrency: int = 4,
        tags: Tags | None = None,
    ) -> int:
        with _traced("put_stream", key) as result:
            size = self._inner.put_stream(
                key, chunks, kind=kind, part_size=part_size, concurrency=concurrency, tags=tags
            )
            result.text = f"{size} bytes"
        return size

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        with _traced("get", key) as result:
            data = self._inner.get_buffer(key, limit=limit)
            result.text = f"{memoryview(data).nbytes} bytes"
        return data

    def read(
        self,
        key: str,
        *,
        start: int = 0,
        end: int | None = None,
        etag: str | None = None,
        concurrency: int = 4,
        range_size: int = 8 << 20,
    ) -> Iterator[Buffer]:
        with _traced("read", key) as result:
            size = 0
            for chunk in self._inner.read(
                key, start=start, end=end, etag=etag, concurrency=concurrency, range_size=range_size
            ):
                size += memoryview(chunk).nbytes
                result.text = f"{size} bytes from {start} on"
                yield chunk

    def head(self, key: str) -> ObjectInfo:
        with _traced("head", key) as result:
            info = self._inner.head(key)
            result.text = f"{info.size} bytes"
        return info

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        with _traced("list", prefix) as result:
            for number, info in enumerate(self._inner.list(prefix, start_after=start_after), 1):
                result.text = f"{number} objects"
                yield info

    def list_level(self, prefix: str) -> Listing:
        with _traced("list_level", prefix) as result:
            listing = self._inner.list_level(prefix)
            result.text = f"{len(listing.objects)} objects, {len(listing.folders)} folders"
        return listing

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        with _traced("delete", "") as result:

            def counted() -> Iterator[str]:
                for number, key in enumerate(keys, 1):
                    result.text = f"{number} objects, the last one {key}"
                    yield key

            self._inner.delete(counted(), batch_size=batch_size)

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        with _traced("list_uploads", prefix) as result:
            for number, upload in enumerate(self._inner.list_uploads(prefix, sizes=sizes), 1):
                result.text = f"{number} uploads"
                yield upload

    def abort_upload(self, upload: PendingUpload) -> bool:
        with _traced("abort_upload", upload.key):
            return self._inner.abort_upload(upload)

    def check(self) -> None:
        with _traced("check", ""):
            self._inner.check()

    def create_bucket(self) -> None:
        with _traced("create_bucket", ""):
            self._inner.create_bucket()

    def object_lock(self, key: str) -> ObjectLock | None:
        with _traced("object_lock", key) as result:
            lock = self._inner.object_lock(key)
            result.text = lock.reason if lock else "none"
        return lock

    def object_url(self, key: str) -> str:
        return self._inner.object_url(key)

    def close(self) -> None:
        self._inner.close()


@contextmanager
def _traced(method: str, key: str) -> Iterator[_Result]:
    result = _Result()
    began = time.monotonic()
    outcome = ""
    try:
        yield result
    except BaseException as error:
        outcome = f", {type(error).__name__}"
        raise
    finally:
        found = f": {result.text}" if result.text else ""
        log.debug("%s %s%s%s, %.0f ms", method, key or "-", found, outcome, (time.monotonic() - began) * 1000)
