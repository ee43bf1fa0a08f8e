"""The contract of an object store.

All other packages talk to object storage through :class:`ObjectStore`; ``tests/store`` holds one conformance
suite that every implementation passes. What holds for all methods:

* Keys are full keys inside the bucket (they include the path of the URL) and are used 1:1: no normalising, no quoting.
* Every method may be called from several threads at once.
* A request that meets a transient error (refused connection, time-out, 429, 5xx) is tried again with growing pauses
  until the command's deadline (``barman_cloud.deadline``); only then
  :class:`~barman_cloud.errors.ConnectivityError` is raised. A request that isn't answered ends by then as well.
* Other failures raise at once: ``ObjectNotFoundError``, ``BucketNotFoundError``, ``AccessDeniedError`` or
  ``StoreError``, each with one line that names the object as a URL and holds no secret.
* Nothing is visible under a key before it is complete: a put that fails or is interrupted leaves the old object, or
  none, and no parts behind (parts of a killed process can't be avoided; buckets want a lifecycle rule for them).
* Bytes that change on the way to a cloud store are noticed and sent again, and so are those that change on the way back
  where the whole object is read (``store.integrity``); ranges are checked by whoever knows the checksum of the whole.

Values here, as elsewhere on the path of ``wal-archive`` and ``wal-restore``, are named tuples: making a dataclass takes
a millisecond, and loading its module five more, at every start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from barman_cloud.buffers import Buffer as Buffer
from barman_cloud.errors import ObjectTooLargeError, OperationError

if TYPE_CHECKING:
    from datetime import datetime

Tags: TypeAlias = Mapping[str, str]

ObjectKind: TypeAlias = Literal["archive", "wal", "metadata"]
"""What an object is, for what depends on it: a storage class holds for archives and WAL segments only."""


class StoreURL(NamedTuple):
    """A parsed storage URL. ``path`` has neither a leading nor a trailing slash and may be empty."""

    provider: str
    """A name of the table in ``store.providers``."""
    bucket: str
    """Bucket or container name; for ``file`` the absolute directory."""
    path: str
    text: str
    """The URL as the user wrote it, for messages (no secret can be in it)."""
    endpoint: str | None = None
    """Azure: ``https://<account>.blob.core.windows.net`` or the emulator's ``http://host:port/<account>``."""
    account: str | None = None


class ObjectInfo(NamedTuple):
    """What a listing or a HEAD tells of an object."""

    key: str
    size: int
    etag: str | None = None
    last_modified: datetime | None = None


class Listing(NamedTuple):
    """One level of a listing by delimiter ``/``."""

    folders: tuple[str, ...]
    """Full keys of the next level, each with its trailing slash, ascending."""
    objects: tuple[ObjectInfo, ...]


class PendingUpload(NamedTuple):
    """An upload in parts that was begun and neither completed nor aborted, or an unfinished file of a local store."""

    key: str
    upload: str
    """What the store calls it."""
    began: datetime | None
    """When it began, or last grew, as far as the store tells."""
    size: int | None = None
    """Bytes that are stored of it; None if that isn't known."""


class ObjectLock(NamedTuple):
    """Why an object can't be deleted now; ``reason`` is a phrase such as ``retained until 2026-12-01T00:00:00Z``."""

    key: str
    reason: str
    until: datetime | None = None
    """When it ends; None if nobody knows, as of a legal hold."""


class Capabilities(NamedTuple):
    """What differs between stores and matters to callers."""

    max_parts: int = 10_000
    min_part_size: int = 5 << 20
    max_object_size: int = 1 << 40
    max_delete_batch: int = 1000
    conditional_create: bool = True
    """``put(..., if_absent=True)`` is atomic on the server."""
    tags: bool = True
    object_lock: bool = False
    """``object_lock()`` can ask the provider."""
    prefix_delete: bool = False
    """Barman deletes whole WAL prefixes on this provider (S3 only), so the plan does as well."""
    slash_decides: bool = False
    """With a slash at the end of the URL, Barman puts keep annotations elsewhere on this provider."""


class DeleteFailedError(OperationError):
    """Some objects could not be deleted; ``failures`` maps each key to the reason. All others are gone."""

    def __init__(self, failures: Mapping[str, str]) -> None:
        first, reason = next(iter(failures.items()))
        more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        super().__init__(f"could not delete {first}: {reason}{more}")
        self.failures = dict(failures)


class RequestCounts:
    """Requests made so far by kind (``put``, ``get``, ``list`` …), for benchmarks and tests."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._lock = Lock()

    def add(self, kind: str, number: int = 1) -> None:
        with self._lock:
            self.counts[kind] = self.counts.get(kind, 0) + number


class ObjectStore(ABC):
    """An object store opened at a URL. See the module's docstring for what every method promises."""

    url: StoreURL
    capabilities: Capabilities
    requests: RequestCounts

    @abstractmethod
    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        """Store ``data`` under ``key``, atomically, in one request if the store allows it.

        Overwrites, unless ``if_absent``: then an existing object raises ``ObjectExistsError`` and is left as it is, and
        of several writers at the same time exactly one succeeds. Where the server takes no notice of the condition
        (``capabilities.conditional_create`` is false), the object is looked for before and read back afterwards, which
        leaves a race only to writers that are slower than that. A retried conditional create whose first try did arrive
        may report ``ObjectExistsError``: callers compare content.
        """

    @abstractmethod
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
        """Store the concatenation of ``chunks`` under ``key`` and return its size in bytes.

        ``chunks`` is consumed in the calling thread, once, and may be of any sizes, empty ones included. Parts of
        ``part_size`` bytes (default: a small multiple of the minimum) are uploaded up to ``concurrency`` at a time, so
        memory is about ``part_size * (concurrency + 1)``. An exception raised by ``chunks`` propagates unchanged, and
        the upload is aborted.
        """

    def get(self, key: str, *, limit: int | None = None) -> bytes:
        """Return the whole object, in memory.

        An object of more than ``limit`` bytes raises ``ObjectTooLargeError``, which names it, before its content is in
        memory: whoever can write to a bucket must not decide how much memory its readers use.
        """
        return bytes(self.get_buffer(key, limit=limit))

    @abstractmethod
    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        """Return the object as :meth:`get` does, in the memory that it arrived in: for WAL files, where another copy
        counts.
        """

    @abstractmethod
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
        """Yield bytes ``start`` (inclusive) to ``end`` (exclusive; None: to the end) of the object, in order.

        Ranges of ``range_size`` bytes are fetched up to ``concurrency`` at a time ahead of the reader, so memory is
        about ``range_size * (concurrency + 1)``. A cut connection goes on at the byte where it stopped. All ranges are
        of one version: when the object changes under the reader (or isn't of ``etag`` to begin with),
        ``ObjectChangedError`` is raised. Closing the generator stops the transfers.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Return size, ETag and time of the object; ``ObjectNotFoundError`` if there is none."""

    @abstractmethod
    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with ``prefix`` (any string, not only whole segments), ascending by key.

        The listing is paged and lazy: memory does not grow with the number of objects. ``start_after`` leaves out keys
        up to and including it. A prefix with no objects yields nothing; a missing bucket raises
        ``BucketNotFoundError``. Keys that other programs made (``a//b``, folder markers) are listed as they are.
        """

    @abstractmethod
    def list_level(self, prefix: str) -> Listing:
        """Return the objects and folders directly below ``prefix`` (which ends in ``/`` or is empty)."""

    @abstractmethod
    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        """Delete objects, in batches of at most ``batch_size`` (clamped to 1 .. ``capabilities.max_delete_batch``).

        An object that isn't there counts as deleted. All keys are tried; if some can't be deleted,
        ``DeleteFailedError`` names each of them at the end. Versions are never named: in a versioned bucket a delete
        marker is put. On stores that refuse the batch call, objects are deleted one by one.
        """

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        """Yield what unfinished uploads to keys that begin with ``prefix`` the store keeps, whoever began them.

        Nothing from a store that keeps none. With ``sizes``, what is stored of each is found out, which costs a request
        or more for each. ``StoreError`` where the store can't tell, ``AccessDeniedError`` where these credentials may
        not know. Some compatible stores tell only of some, or of none (docs/reference/stores.md).
        """
        return iter(())

    def abort_upload(self, upload: PendingUpload) -> bool:
        """Drop an unfinished upload with all that is stored of it; one that is gone counts as dropped.

        False if the store drops it only by itself. An object that is already there under the key stays as it is.
        """
        return True

    @abstractmethod
    def check(self) -> None:
        """Make one request that shows whether the bucket can be reached and exists.

        Raises ``ConnectivityError``, ``BucketNotFoundError`` or ``AccessDeniedError``.
        """

    @abstractmethod
    def create_bucket(self) -> None:
        """Create the bucket if it doesn't exist; only ``check-wal-archive`` asks for it."""

    def object_lock(self, key: str) -> ObjectLock | None:
        """Return why the object is locked now, or None. ``ConfigurationError`` where the store has no locks."""
        from barman_cloud.errors import ConfigurationError

        raise ConfigurationError(f"{self.url.text}: this kind of store has no object lock")

    def object_url(self, key: str) -> str:
        """Return the object's name for messages, such as ``s3://bucket/a/b``."""
        base = self.url.text.rstrip("/")
        if self.url.path and base.endswith("/" + self.url.path):
            base = base[: -len(self.url.path) - 1]
        return f"{base}/{key}"

    def refuse_larger(self, key: str, size: int, limit: int | None) -> None:
        """For implementations: raise ``ObjectTooLargeError`` if ``size`` bytes are more than ``limit``."""
        if limit is not None and size > limit:
            raise ObjectTooLargeError(
                f"{self.object_url(key)} has {size} bytes; nothing that belongs there has more than {limit}",
                hint="look at this object: it is damaged, or not what its name says",
            )

    def close(self) -> None:  # noqa: B027 - many stores have nothing to release
        """Release connections; the store must not be used afterwards."""

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
