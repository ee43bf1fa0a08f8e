"""What the three cloud stores have in common: objects in one piece travel through obstore, everything else through a
:class:`BucketApi` and a :class:`PartsApi`.

obstore moves bytes cheaply (no GIL, ranges), but it normalises keys, lists by whole path segments only, hides error
details of batches, and sends the parts of an upload again without a word. So listing, deleting, locks, bucket requests,
parts, and the few keys that obstore can't name (``a//b``, ``a/``) are our own HTTP requests, by classes per provider.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from barman_cloud import logs
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ObjectExistsError,
    ObjectNotFoundError,
    OperationError,
    StoreError,
)
from barman_cloud.store.base import Buffer, Listing, ObjectInfo, ObjectKind, PendingUpload, Tags
from barman_cloud.store.bucket_api import Attributes, Page
from barman_cloud.store.cloud_client import CloudClient
from barman_cloud.store.integrity import CHECKSUM, is_empty, is_intact, metadata_of, require_intact
from barman_cloud.store.obstore_limits import head_by, obstore_can_name, require_object
from barman_cloud.store.put import put_whole
from barman_cloud.store.upload import frozen, rejoined, slices, upload_parts

log = logs.get_logger(__name__)

Keys: TypeAlias = list[str]

PART_SIZE = 16 << 20
SINGLE_PUT_LIMIT = 64 << 20
"""Above this size a body in memory is sent in parts."""
SINGLE_DELETES = 8
"""Deletions in flight where there is no batch request."""
MOST_EMPTY_PAGES = 1000
"""Pages of a listing in a row that may be empty; Azure sends some while it skips what was deleted."""
READS = 3
"""Times that an object is read before it counts as damaged."""


class CloudStore(CloudClient):
    """An object store of a cloud provider; the subclasses say how clients are made and what the provider can do."""

    part_size = PART_SIZE
    single_put_limit = SINGLE_PUT_LIMIT
    put_concurrency = 4
    _keeps_names = False
    """A key with an empty or dotted segment was found in a listing under this very name."""

    # Writing ------------------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        view = memoryview(data).cast("B")
        attributes = self.attributes(kind, tags)
        if view.nbytes > self.single_put_limit and not if_absent:
            parts = slices(view, self.part_size)
            self._upload_parts(key, parts, self.part_size, self.put_concurrency, attributes)
            return
        attributes = attributes._replace(metadata=metadata_of(view))
        try:
            self._put_in_one(key, view, if_absent=if_absent, attributes=attributes)
        except ObjectExistsError:
            self._require_name(key)
            raise
        self._require_name(key)

    def _put_in_one(self, key: str, view: memoryview, *, if_absent: bool, attributes: Attributes) -> None:
        if obstore_can_name(key):
            self._put_whole(key, view, if_absent=if_absent, attributes=attributes)
        else:
            self.attempt(
                "put", key, lambda: self.provider_api.put(key, view, if_absent=if_absent, attributes=attributes)
            )

    def _put_whole(self, key: str, data: memoryview, *, if_absent: bool, attributes: Attributes) -> None:
        put_whole(self, key, data, if_absent=if_absent, attributes=attributes)

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
        size = max(part_size or self.part_size, self.capabilities.min_part_size)
        source = iter(chunks)
        first: list[Buffer] = []
        buffered = 0
        for chunk in source:
            first.append(frozen(chunk))
            buffered += memoryview(chunk).nbytes
            if buffered > size:
                attributes = self.attributes(kind, tags)
                return self._upload_parts(key, rejoined(first, source), size, concurrency, attributes)
        # A stream of one part costs one request instead of three.
        self.put(key, b"".join(first), kind=kind, tags=tags)
        return buffered

    def _upload_parts(
        self, key: str, chunks: Iterable[Buffer], part_size: int, concurrency: int, attributes: Attributes
    ) -> int:
        size = upload_parts(self, key, chunks, part_size, concurrency, attributes)
        self._require_name(key)
        return size

    def _require_name(self, key: str) -> None:
        """Make sure, once, that the store keeps keys such as ``a//b`` as they are.

        Stores on file systems turn it into ``a/b``: they would take a segment, and never find it in a listing.
        """
        if self._keeps_names or (obstore_can_name(key) and "\\" not in key):
            return
        try:
            kept = any(info.key == key for info in self.list(key))
        except AccessDeniedError:
            return  # these credentials may not list, so nothing can be known
        if not kept:
            raise StoreError(
                f"{self.object_url(key)}: the store keeps the object under another name",
                hint="leave empty and dotted segments, and backslashes, out of the URL's path",
            )
        self._keeps_names = True

    # Reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        if not obstore_can_name(key):
            if limit is not None:
                self.refuse_larger(key, self.head(key).size, limit)
            return self._checked(key, lambda: (memoryview(self.provider_api.get(key)), None))
        import obstore

        def fetch() -> tuple[memoryview, object]:
            answer = obstore.get(self.reader, key)
            require_object(answer)
            self.refuse_larger(key, answer.meta["size"], limit)  # the body is still on its way
            self.deadline.moved(answer.meta["size"])
            return memoryview(answer.bytes()), answer.attributes.get(CHECKSUM)

        return self._checked(key, fetch)

    def _checked(self, key: str, fetch: Callable[[], tuple[memoryview, object]]) -> memoryview:
        """Return the object that ``fetch`` gets along with its checksum; get it again while the two don't agree."""
        for number in range(1, READS + 1):
            data, checksum = self.attempt("get", key, fetch)
            last = number == READS
            if is_intact(data, checksum):
                if data or is_empty(self, key, last=last):
                    return data
            elif last:
                require_intact(self.object_url(key), data, checksum)
            else:
                log.warning("%s arrived with another checksum than it was stored with; reading it again", key)
        raise AssertionError

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
        from barman_cloud.store.reading import read_object

        if end is not None and end <= start:
            return
        yield from read_object(self, key, start, end, etag, concurrency, range_size)

    def head(self, key: str) -> ObjectInfo:
        if not obstore_can_name(key):
            return self.attempt("head", key, lambda: self.provider_api.head(key))
        return self.attempt("head", key, lambda: head_by(self.reader, key))

    # Listing, deleting, the bucket --------------------------------------------------------------------------------

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        for page in self._pages(prefix, "", start_after):
            yield from page.objects

    def list_level(self, prefix: str) -> Listing:
        pages = tuple(self._pages(prefix, "/", None))
        folders = sorted(folder for page in pages for folder in page.folders)
        return Listing(tuple(folders), tuple(info for page in pages for info in page.objects))

    def _pages(self, prefix: str, delimiter: str, start_after: str | None) -> Iterator[Page]:
        def ask() -> Page:
            return self.provider_api.list_page(prefix, delimiter=delimiter, start_after=start_after, token=token)

        token: str | None = None
        seen: set[tuple[str, int]] = set()
        empty = 0
        while True:
            page = self.attempt("list", None, ask)
            first = ("key", hash(page.objects[0].key)) if page.objects else None
            if start_after:  # some stores take no notice of it
                page = page._replace(objects=tuple(info for info in page.objects if info.key > start_after))
            following = ("token", hash(page.token))
            empty = 0 if page.objects or page.folders else empty + 1
            if first in seen or following in seen or empty > MOST_EMPTY_PAGES:
                raise StoreError(
                    f"{self.object_url(prefix)}: the listing never ends: the store sends the same again",
                    hint="this is a fault of the store, or of a proxy in front of it",
                )
            yield page
            token = page.token
            if token is None:
                return
            seen.add(following)
            if first is not None:
                seen.add(first)

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        from itertools import islice

        from barman_cloud.store.base import DeleteFailedError

        most = self.capabilities.max_delete_batch
        size = most if batch_size is None else max(1, min(batch_size, most))
        source = iter(keys)
        failures: dict[str, str] = {}
        while batch := list(islice(source, size)):
            failures.update(self._delete_batch(batch))
        if failures:
            raise DeleteFailedError(failures)

    @abstractmethod
    def _delete_batch(self, keys: Keys) -> dict[str, str]:
        """Delete at most ``capabilities.max_delete_batch`` objects; return the reason for each that is still there."""

    def _delete_singly(self, keys: Keys) -> dict[str, str]:
        """Delete with one request each; an object that is gone already counts as deleted."""
        from concurrent.futures import ThreadPoolExecutor

        def one(key: str) -> str | None:
            try:
                self.attempt("delete", key, lambda: self.provider_api.delete_one(key))
            except ObjectNotFoundError:
                return None
            except (OperationError, AccessDeniedError, StoreError) as error:
                return str(error)
            return None

        with ThreadPoolExecutor(SINGLE_DELETES, thread_name_prefix="delete") as pool:
            return {name: reason for name, reason in zip(keys, pool.map(one, keys), strict=True) if reason}

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        from barman_cloud.store.pending import list_uploads

        yield from list_uploads(self, prefix, sizes=sizes)

    def abort_upload(self, upload: PendingUpload) -> bool:
        try:
            self.attempt("abort", upload.key, lambda: self.parts_api.abort(upload.key, upload.upload))
        except BarmanCloudError as error:
            if not self.is_gone(error):
                raise
        return True

    def check(self) -> None:
        prefix = f"{self.url.path}/" if self.url.path else ""
        self.attempt("check", None, lambda: self.provider_api.check(prefix))

    def creates_once(self, key: str) -> bool:
        # Asked directly: ``put`` would first find out what the store does, by another object.
        view = memoryview(b"x")
        attributes = Attributes(metadata=metadata_of(view))
        try:
            for _ in range(2):
                self.attempt(
                    "put", key, lambda: self.provider_api.put(key, view, if_absent=True, attributes=attributes)
                )
        except ObjectExistsError:
            return True
        return False

    def try_upload(self, key: str) -> None:
        parts = self.parts_api
        upload = self.attempt("multipart", key, lambda: parts.begin(key, Attributes()))
        self.attempt("multipart", key, lambda: parts.abort(key, upload))

    def create_bucket(self) -> None:
        self.attempt("create", None, lambda: self.provider_api.create_bucket())
