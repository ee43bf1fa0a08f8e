"""What the three cloud stores have in common: bytes travel through obstore, everything else through a
:class:`BucketApi`.

obstore moves bytes cheaply (no GIL, parallel parts, ranges), but it normalises keys, lists by whole path segments only,
and hides error details of batches. So listing, deleting, locks, bucket requests, and the few keys that obstore can't
name (``a//b``, ``a/``) are our own small HTTP requests, one class per provider.

Requests that can be made again are retried here, where a signal gets through and a warning can be logged; the parts of
a streamed upload can't be, so obstore retries those (``store.clients``).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ObjectExistsError,
    ObjectNotFoundError,
    OperationError,
    StoreError,
)
from barman_cloud.store.base import Buffer, Listing, ObjectInfo, ObjectStore, Requests, StoreURL, Tags
from barman_cloud.store.bucket_api import BucketApi, Page
from barman_cloud.store.clients import DOWNLOAD_TIMEOUT, READ_TIMEOUT, client_options, retry_config, upload_timeout
from barman_cloud.store.failures import Failure, failure_of, to_error
from barman_cloud.store.retry import Retry
from barman_cloud.store.upload import CountedChunks, frozen, rejoined, slices

T = TypeVar("T")
Keys: TypeAlias = list[str]

PART_SIZE = 16 << 20
SINGLE_PUT_LIMIT = 64 << 20
"""Above this size a body in memory is sent in parts."""
SINGLE_DELETES = 8
"""Deletions in flight where there is no batch request."""


class CloudStore(ObjectStore):
    """An object store of a cloud provider; the subclasses say how clients are made and what the provider can do."""

    part_size = PART_SIZE
    single_put_limit = SINGLE_PUT_LIMIT
    put_concurrency = 4
    _api: Any = None
    """What ``provider_api`` returned, once somebody asked; loading it costs more than a PUT."""

    def __init__(self, url: StoreURL, *, retry: Retry) -> None:
        self.url = url
        self.requests = Requests()
        self._retry = retry
        self._clients: dict[tuple[str, float], Any] = {}
        self.partial_answers = True
        """Whether obstore takes the store's answers to ranges; reading finds out."""

    @property
    @abstractmethod
    def provider_api(self) -> BucketApi:
        """The provider's other requests, loaded when first needed."""

    @abstractmethod
    def _make_client(self, client_options: dict[str, Any], retry_config: dict[str, Any], purpose: str) -> Any:
        """Return a new obstore store for this bucket and purpose (see ``store.clients``)."""

    def _put_extras(self, tags: Tags | None) -> dict[str, Any]:
        """Return the keyword arguments of ``obstore.put`` that carry ``tags``."""
        return {"tags": dict(tags)} if tags else {}

    def _read_timeout(self) -> float:
        return READ_TIMEOUT

    def _client(self, purpose: str, timeout: float) -> Any:
        """Return the client for ``purpose`` (see ``store.clients``) whose whole requests may take ``timeout``
        seconds.
        """
        client = self._clients.get((purpose, timeout))
        if client is None:
            options = client_options(purpose, timeout, self._read_timeout())
            client = self._make_client(options, retry_config(purpose, self._retry), purpose)
            self._clients[purpose, timeout] = client
        return client

    @property
    def reader(self) -> Any:
        return self._client("read", DOWNLOAD_TIMEOUT)

    # Errors -------------------------------------------------------------------------------------------------------

    def attempt(
        self, kind: str, key: str | None, action: Callable[[], T], *, stopped: Callable[[], bool] = lambda: False
    ) -> T:
        """Run a request that may be made again, and turn its failure into our error.

        ``action`` must fetch its client anew each time, because :meth:`_adapt` may have thrown the old one away.
        """

        def once() -> T:
            self.requests.add(kind)
            try:
                return action()
            except Exception as error:
                raise self.translate(error, key) from error

        while True:
            try:
                return self._retry.call(once, stopped=stopped)
            except BarmanCloudError as error:
                if error.__cause__ is None or not self._adapt(kind, failure_of(error.__cause__)):
                    raise

    def _adapt(self, kind: str, failure: Failure | None) -> bool:
        """Change the setting that ``failure`` of a request of ``kind`` shows to be wrong; tell whether to try again."""
        return False

    def _settle(self) -> None:
        """Find out whatever :meth:`_adapt` may have to know, before a stream that can't be sent twice."""

    def translate(self, error: Exception, key: str | None) -> Exception:
        """Return our error for what a request raised; what isn't a failure of a request is returned as it is."""
        if isinstance(error, BarmanCloudError):
            return error
        failure = failure_of(error)
        if failure is None:
            return error
        return to_error(failure, self.object_url("").rstrip("/"), None if key is None else self.object_url(key))

    # Writing ------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer, *, if_absent: bool = False, tags: Tags | None = None) -> None:
        view = memoryview(data).cast("B")
        if not _obstore_can_name(key):
            self.attempt("put", key, lambda: self.provider_api.put(key, view, if_absent=if_absent, tags=tags))
        elif view.nbytes > self.single_put_limit and not if_absent:
            self._put_parts(key, slices(view, self.part_size), self.part_size, self.put_concurrency, tags)
        else:
            self._put_single(key, view, if_absent=if_absent, tags=tags)

    def _put_single(self, key: str, data: memoryview, *, if_absent: bool, tags: Tags | None) -> None:
        import obstore

        timeout = upload_timeout(data.nbytes)
        mode = "create" if if_absent else "overwrite"

        def send() -> None:
            client = self._client("write", timeout)
            if if_absent and not self.capabilities.conditional_create:
                self._refuse_existing(client, key)
            obstore.put(client, key, data, mode=mode, use_multipart=False, **self._put_extras(tags))  # type: ignore[arg-type]

        self.attempt("put", key, send)

    def _refuse_existing(self, client: Any, key: str) -> None:
        """Look before a conditional create, on stores that may take no notice of its condition.

        It is done by the client that will write, since another one costs more than the request.
        """
        import obstore

        self.requests.add("head")
        try:
            obstore.head(client, key)
        except Exception as error:
            if not isinstance(self.translate(error, key), ObjectNotFoundError | AccessDeniedError):
                raise
        else:
            raise ObjectExistsError(f"{self.object_url(key)} exists already")

    def put_stream(
        self,
        key: str,
        chunks: Iterable[Buffer],
        *,
        part_size: int | None = None,
        concurrency: int = 4,
        tags: Tags | None = None,
    ) -> int:
        size = max(part_size or self.part_size, self.capabilities.min_part_size)
        if not _obstore_can_name(key):
            raise StoreError(
                f"{self.object_url(key)}: a key with an empty or dotted segment can't be uploaded in parts"
            )
        source = iter(chunks)
        first: list[Buffer] = []
        buffered = 0
        for chunk in source:
            first.append(frozen(chunk))
            buffered += memoryview(chunk).nbytes
            if buffered > size:
                return self._put_parts(key, rejoined(first, source), size, concurrency, tags)
        # A stream of one part costs one request instead of three, and unlike a multipart upload can be sent again.
        self._put_single(key, memoryview(b"".join(first)), if_absent=False, tags=tags)
        return buffered

    def _put_parts(
        self, key: str, chunks: Iterable[Buffer], part_size: int, concurrency: int, tags: Tags | None
    ) -> int:
        import obstore

        self._settle()
        counter = CountedChunks(chunks, self.capabilities.max_parts * part_size, self.object_url(key))
        client = self._client("stream", upload_timeout(part_size * concurrency))
        self.requests.add("multipart")
        try:
            obstore.put(
                client,
                key,
                counter,
                use_multipart=True,
                chunk_size=part_size,
                max_concurrency=concurrency,
                **self._put_extras(tags),
            )
        except Exception as error:
            if counter.failure is not None:
                raise counter.failure from None
            if not self._was_completed(key, counter, error):
                raise self.translate(error, key) from error
        finally:
            self.requests.add("part", -(-counter.size // part_size))
        return counter.size

    def _was_completed(self, key: str, counter: CountedChunks, error: Exception) -> bool:
        """Tell whether an upload that failed at its end is there all the same.

        When the answer to the completing request gets lost, its repetition finds no parts any more.
        """
        failure = failure_of(error)
        gone = failure is not None and (failure.status == 404 or failure.code == "InvalidBlockList")
        if not counter.exhausted or not gone:
            return False
        try:
            return self.head(key).size == counter.size
        except BarmanCloudError:
            return False

    # Reading ------------------------------------------------------------------------------------------------------

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        if not _obstore_can_name(key):
            if limit is not None:
                self.refuse_larger(key, self.head(key).size, limit)
            return self.attempt("get", key, lambda: self.provider_api.get(key))
        import obstore

        def fetch() -> memoryview:
            answer = obstore.get(self.reader, key)
            self.refuse_larger(key, answer.meta["size"], limit)  # the body is still on its way
            return memoryview(answer.bytes())

        return self.attempt("get", key, fetch)

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
        if _obstore_can_name(key):
            yield from read_object(self, key, start, end, etag, concurrency, range_size)
        else:
            yield memoryview(self.get(key))[start:end]

    def head(self, key: str) -> ObjectInfo:
        if not _obstore_can_name(key):
            return self.attempt("head", key, lambda: self.provider_api.head(key))
        import obstore

        meta = self.attempt("head", key, lambda: obstore.head(self.reader, key))
        return ObjectInfo(key, meta["size"], meta["e_tag"], meta["last_modified"])

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
        while True:
            page = self.attempt("list", None, ask)
            yield page
            token = page.token
            if token is None:
                return

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

    def check(self) -> None:
        prefix = f"{self.url.path}/" if self.url.path else ""
        self.attempt("check", None, lambda: self.provider_api.check(prefix))

    def create_bucket(self) -> None:
        self.attempt("create", None, self.provider_api.create_bucket)

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
        self._clients.clear()


def _obstore_can_name(key: str) -> bool:
    """Tell whether obstore keeps the key as it is: it refuses or changes empty and dotted segments and control
    characters.
    """
    segments = key.split("/")
    return not ("" in segments or "." in segments or ".." in segments) and key.isprintable()
