"""A store whose keys are those below one folder of a bucket, for tests in a bucket that holds other things too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from barman_cloud.store.base import DeleteFailedError, Listing, ObjectInfo, ObjectLock, ObjectStore, PendingUpload


class ScopedStore:
    """Passes every call on to ``inner`` with ``folder`` (with its slash) before each key, and takes it off again.

    Methods that take a key first are found by their signature, so that what the contract of stores gains is scoped too.
    """

    def __init__(self, inner: ObjectStore, folder: str) -> None:
        self.inner = inner
        self.folder = folder

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value
        parameters = list(inspect.signature(value).parameters)
        return self._keyed(value) if parameters[:1] == ["key"] else value

    def _keyed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(key: str, *arguments: Any, **options: Any) -> Any:
            return self._own(method(self.folder + key, *arguments, **options))

        return call

    def _own(self, result: Any) -> Any:
        """Take the folder off the key of a result that has one."""
        if isinstance(result, ObjectInfo | ObjectLock | PendingUpload):
            return result._replace(key=result.key.removeprefix(self.folder))
        return result

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        start = None if start_after is None else self.folder + start_after
        return map(self._own, self.inner.list(self.folder + prefix, start_after=start))

    def list_uploads(self, prefix: str, **options: Any) -> Iterator[PendingUpload]:
        return map(self._own, self.inner.list_uploads(self.folder + prefix, **options))

    def abort_upload(self, upload: PendingUpload) -> bool:
        return self.inner.abort_upload(upload._replace(key=self.folder + upload.key))

    def list_level(self, prefix: str) -> Listing:
        level = self.inner.list_level(self.folder + prefix)
        folders = tuple(folder.removeprefix(self.folder) for folder in level.folders)
        return Listing(folders, tuple(map(self._own, level.objects)))

    def delete(self, keys: Iterable[str], **options: Any) -> None:
        try:
            self.inner.delete((self.folder + key for key in keys), **options)
        except DeleteFailedError as error:
            failures = {key.removeprefix(self.folder): reason for key, reason in error.failures.items()}
            raise DeleteFailedError(failures) from error

    def object_url(self, key: str) -> str:
        return self.inner.object_url(self.folder + key if key else "")

    def __enter__(self) -> ScopedStore:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.inner.close()


def plain(store: Any) -> Any:
    """Return the store itself, whether it is scoped or not, for tests that look inside."""
    return store.inner if isinstance(store, ScopedStore) else store


def key_in_bucket(store: Any, key: str) -> str:
    """Return the full key of what the store of a test calls ``key``, for requests past the store."""
    return store.folder + key if isinstance(store, ScopedStore) else key
