"""A store that fails on command: a wrapper around any other store, for tests of what is above the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from barman_cloud.errors import ConnectivityError
from barman_cloud.store.base import (
    Buffer,
    Listing,
    ObjectInfo,
    ObjectKind,
    ObjectLock,
    ObjectStore,
    PendingUpload,
    Tags,
)


def _lost() -> BaseException:
    return ConnectivityError("the store went away, as the test wanted")


_CUTTABLE = frozenset({"put_stream", "read", "delete"})


@dataclass
class Failure:
    """Which calls fail, and how."""

    method: str = "*"
    """Name of a method of ``ObjectStore``, or a pattern such as ``put*``."""
    key: str = "*"
    """Pattern of the keys; for ``list`` the prefix."""
    skip: int = 0
    """Matching calls that succeed first."""
    times: int = 1
    """Matching calls that fail then."""
    error: Callable[[], BaseException | None] = _lost
    """Makes what is raised; None raises nothing, so that something else can happen at this moment."""
    after: bool = False
    """The call does its work before it fails, as when an answer gets lost."""
    cut: int | None = None
    """``put_stream`` and ``read`` fail after so many bytes instead of at once, ``delete`` after so many objects."""

    def strike(self) -> None:
        """Raise the error, if there is one."""
        if (error := self.error()) is not None:
            raise error


@dataclass
class FaultyStore(ObjectStore):
    """Delegates to ``inner``; see the attributes for what is noted."""

    inner: ObjectStore
    failures: list[Failure] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Method and key of every call; of a deletion the first key."""
    objects: list[tuple[str, str]] = field(default_factory=list)
    """Method and key of every object that was written or deleted, in order."""

    def __post_init__(self) -> None:
        self.url = self.inner.url
        self.capabilities = self.inner.capabilities
        self.requests = self.inner.requests
        self._lock = threading.Lock()

    def fail(self, method: str = "*", **arguments: object) -> Failure:
        """Put a :class:`Failure` in place and return it."""
        failure = Failure(method, **arguments)  # type: ignore[arg-type]
        self.failures.append(failure)
        return failure

    def fail_call(self, number: int, **arguments: object) -> Failure:
        """Let the ``number``-th call of any method from now on fail (counted from 1), for runs over every call of a
        job.
        """
        return self.fail("*", skip=number - 1, **arguments)

    def enter(self, method: str, key: str) -> None:
        """Note, or fail, a call of something else than a store, so that it has its place among the calls."""
        self._leave(self._enter(method, key))
        self.objects.append((method, key))

    def _enter(self, method: str, key: str) -> Failure | None:
        """Note the call; raise now if it fails at once, or return the failure that comes later."""
        with self._lock:
            self.calls.append((method, key))
            hit = next((f for f in self.failures if self._hits(f, method, key)), None)
        if hit is not None and not hit.after and (hit.cut is None or method not in _CUTTABLE):
            hit.strike()
            return None
        return hit

    @staticmethod
    def _hits(failure: Failure, method: str, key: str) -> bool:
        if failure.times <= 0 or not fnmatchcase(method, failure.method) or not fnmatchcase(key, failure.key):
            return False
        if failure.skip > 0:
            failure.skip -= 1
            return False
        failure.times -= 1
        return True

    @staticmethod
    def _leave(failure: Failure | None) -> None:
        if failure is not None:
            failure.strike()

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        failure = self._enter("put", key)
        self.inner.put(key, data, kind=kind, if_absent=if_absent, tags=tags)
        self.objects.append(("put", key))
        self._leave(failure)

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
        failure = self._enter("put_stream", key)
        source = _cut(chunks, failure) if failure is not None and failure.cut is not None else chunks
        size = self.inner.put_stream(key, source, kind=kind, part_size=part_size, concurrency=concurrency, tags=tags)
        self._leave(failure)
        return size

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        failure = self._enter("list_uploads", prefix)
        yield from self.inner.list_uploads(prefix, sizes=sizes)
        self._leave(failure)

    def abort_upload(self, upload: PendingUpload) -> bool:
        failure = self._enter("abort_upload", upload.key)
        found = self.inner.abort_upload(upload)
        self._leave(failure)
        return found

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        failure = self._enter("get", key)
        data = self.inner.get_buffer(key, limit=limit)
        self._leave(failure)
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
        failure = self._enter("read", key)
        chunks = self.inner.read(key, start=start, end=end, etag=etag, concurrency=concurrency, range_size=range_size)
        yield from _cut(chunks, failure) if failure is not None and failure.cut is not None else chunks
        self._leave(failure)

    def head(self, key: str) -> ObjectInfo:
        failure = self._enter("head", key)
        info = self.inner.head(key)
        self._leave(failure)
        return info

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        failure = self._enter("list", prefix)
        yield from self.inner.list(prefix, start_after=start_after)
        self._leave(failure)

    def list_level(self, prefix: str) -> Listing:
        failure = self._enter("list_level", prefix)
        listing = self.inner.list_level(prefix)
        self._leave(failure)
        return listing

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        names = tuple(keys)
        failure = self._enter("delete", names[0] if names else "")
        if failure is not None:
            names = names[: failure.cut]
        self.inner.delete(names, batch_size=batch_size)
        self.objects.extend(("delete", name) for name in names)
        self._leave(failure)

    def check(self) -> None:
        failure = self._enter("check", "")
        self.inner.check()
        self._leave(failure)

    def create_bucket(self) -> None:
        failure = self._enter("create_bucket", "")
        self.inner.create_bucket()
        self._leave(failure)

    def object_lock(self, key: str) -> ObjectLock | None:
        failure = self._enter("object_lock", key)
        lock = self.inner.object_lock(key)
        self._leave(failure)
        return lock

    def close(self) -> None:
        self.inner.close()


def _cut(chunks: Iterable[Buffer], failure: Failure) -> Iterator[Buffer]:
    """Pass on ``failure.cut`` bytes, then fail."""
    left = failure.cut or 0
    for chunk in chunks:
        view = memoryview(chunk)
        if view.nbytes > left:
            yield bytes(view[:left])
            failure.strike()
        left -= view.nbytes
        yield chunk
    failure.strike()
