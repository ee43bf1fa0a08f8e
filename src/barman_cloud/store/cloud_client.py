"""How requests to a cloud store are made: by which client, how often, for how long, and what their failures mean.

Every request is made by :meth:`CloudClient.attempt`: it is tried again here, where a signal gets through, a warning can
be logged and the command's deadline is known. What is asked is the business of ``store.cloud`` and the modules it uses.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from barman_cloud.errors import BarmanCloudError, StoreError
from barman_cloud.store.base import ObjectKind, ObjectStore, RequestCounts, StoreURL, Tags
from barman_cloud.store.bucket_api import Attributes, BucketApi, PartsApi
from barman_cloud.store.clients import DOWNLOAD_TIMEOUT, NO_RETRIES, READ_TIMEOUT, client_options
from barman_cloud.store.failures import Failure, RequestFailedError, failure_of, first_line, to_error
from barman_cloud.store.retry import Retry

if TYPE_CHECKING:
    from barman_cloud.deadline import Deadline

T = TypeVar("T")

MOST_ADAPTATIONS = 3
"""Times that one request is made anew because a setting was wrong: region and checksum, and one more."""
_WITHOUT_BODY = ("head", "lock")
"""Kinds of requests whose refusal may come without a word."""


class CloudClient(ObjectStore):
    """Makes the requests of one store; the subclasses say how clients are made and what the provider can do."""

    etags_are_md5 = True
    """Whether an ETag that looks like an MD5 is that of the bytes that were put, and has to be compared."""
    _api: Any = None
    """What ``provider_api`` returned, once somebody asked; loading it costs more than a PUT."""

    def __init__(self, url: StoreURL, *, retry: Retry, storage_class: str | None = None) -> None:
        self.url = url
        self._storage_class = storage_class
        self.requests = RequestCounts()
        self._retry = retry
        self._clients: dict[tuple[str, float], Any] = {}
        self._proven = False
        """A request has succeeded: address, region and credentials are right."""
        self.partial_answers = True
        """Whether obstore takes the store's answers to ranges; reading finds out."""

    @property
    @abstractmethod
    def provider_api(self) -> BucketApi:
        """The provider's other requests, loaded when first needed."""

    @property
    @abstractmethod
    def parts_api(self) -> PartsApi:
        """The provider's requests for uploads in parts, loaded when first needed."""

    @abstractmethod
    def _make_client(self, client_options: dict[str, Any], retry_config: dict[str, Any], purpose: str) -> Any:
        """Return a new obstore store for this bucket and purpose (see ``store.clients``)."""

    def obstore_arguments(self, attributes: Attributes) -> dict[str, Any]:
        """Return the keyword arguments of ``obstore.put`` that carry ``attributes``."""
        carried = dict(attributes.metadata)
        if attributes.storage_class:
            carried["Storage-Class"] = attributes.storage_class
        return {"attributes": carried, **({"tags": dict(attributes.tags)} if attributes.tags else {})}

    def attributes(self, kind: ObjectKind, tags: Tags | None) -> Attributes:
        """Return what an object of this kind is stored with, but for what depends on its content."""
        return Attributes(tags, {}, None if kind == "metadata" else self._storage_class)

    def _read_timeout(self) -> float:
        return READ_TIMEOUT

    @property
    def deadline(self) -> Deadline:
        return self._retry.deadline

    def client(self, purpose: str, timeout: float) -> Any:
        """Return the client for ``purpose`` (see ``store.clients``) whose whole requests may take ``timeout``
        seconds.
        """
        client = self._clients.get((purpose, timeout))
        if client is None:
            client = self._clients[purpose, timeout] = self._new_client(purpose, timeout)
        return client

    def writer(self, timeout: float, data: memoryview) -> Any:
        """Return a client that uploads ``data`` in one request within ``timeout`` seconds."""
        return self.client("write", timeout)

    def _new_client(self, purpose: str, timeout: float, headers: Mapping[str, str] | None = None) -> Any:
        options = client_options(purpose, timeout, self._read_timeout(), self.deadline)
        if headers:
            options["default_headers"] = dict(headers)
        return self._make_client(options, dict(NO_RETRIES), purpose)

    @property
    def reader(self) -> Any:
        return self.client("read", DOWNLOAD_TIMEOUT)

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
                result = action()
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - raised again, as what it means
                explained = self.explained(kind, key, error)
                raise self.translate(explained, key) from explained
            self._proven = True
            return result

        for _ in range(MOST_ADAPTATIONS):
            try:
                return self._retry.call(once, stopped=stopped, name=self._name(key))
            except BarmanCloudError as error:
                if error.__cause__ is None or not self._adapt(kind, failure_of(error.__cause__)):
                    raise
        return self._retry.call(once, stopped=stopped, name=self._name(key))

    def explained(self, kind: str, key: str | None, error: BaseException) -> BaseException:
        """Return why a HEAD failed, in the store's own words: its answer has no body, that to a GET has one.

        That an object isn't there is believed without words, once the store has done something for these credentials.
        """
        failure = failure_of(error)
        silent = failure is not None and failure.status in (400, 401, 403, 404, 409) and not failure.code
        if not silent or kind not in _WITHOUT_BODY or key is None:
            return error
        if failure is not None and failure.status == 404 and self._proven:
            return error
        self.requests.add("get")
        try:
            self.provider_api.get_range(key, 0, 1, None)
        except RequestFailedError as explained:
            return error if explained.failure.status is None else explained
        return error

    def _adapt(self, kind: str, failure: Failure | None) -> bool:
        """Change the setting that ``failure`` of a request of ``kind`` shows to be wrong; tell whether to try again."""
        return False

    def translate(self, error: BaseException, key: str | None) -> Exception:
        """Return our error for what a request raised; what isn't a failure of a request is returned as it is.

        A panic of obstore's isn't an ``Exception``: nobody who handles errors would see it.
        """
        if isinstance(error, BarmanCloudError):
            return error
        failure = failure_of(error)
        if failure is None:
            if isinstance(error, Exception):
                return error
            name = self.object_url(key or "")
            return StoreError(f"{name}: the client library failed ({type(error).__name__}: {first_line(error)})")
        return to_error(failure, self._name(None), None if key is None else self._name(key))

    def _name(self, key: str | None) -> str:
        return self.object_url("").rstrip("/") if key is None else self.object_url(key)

    @staticmethod
    def is_gone(error: BarmanCloudError) -> bool:
        """Tell whether a request failed because the upload that it was about isn't there (any more)."""
        failure = failure_of(error.__cause__) if error.__cause__ else None
        return failure is not None and (failure.status == 404 or failure.code == "InvalidBlockList")

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
        self._clients.clear()
