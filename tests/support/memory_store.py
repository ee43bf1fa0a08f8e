"""A store in the memory of this process: the smallest correct implementation of the contract.

No command can open it: what it holds is gone with the process. Tests enter it into the table of providers, see
:func:`register`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import RLock

from barman_cloud.errors import BucketNotFoundError, ObjectChangedError, ObjectExistsError, ObjectNotFoundError
from barman_cloud.store import providers
from barman_cloud.store.base import (
    Buffer,
    Capabilities,
    Listing,
    ObjectInfo,
    ObjectKind,
    ObjectStore,
    RequestCounts,
    StoreURL,
    Tags,
)
from barman_cloud.store.options import StoreOptions
from barman_cloud.store.provider import Provider
from barman_cloud.store.url import refuse


@dataclass(slots=True)
class _Object:
    data: bytes
    info: ObjectInfo
    tags: dict[str, str]


@dataclass(slots=True)
class _Bucket:
    objects: dict[str, _Object] = field(default_factory=dict)
    lock: RLock = field(default_factory=RLock)
    exists: bool = True


NAME = "memory"
FORM = "memory://name"

_buckets: dict[str, _Bucket] = {}


def register() -> None:
    """Enter ``memory://name`` into the table of providers of this process."""
    providers.TABLE[NAME] = providers.Entry((NAME,), __name__, selectable=False)


def _parse(text: str) -> StoreURL:
    name, _, path = text[len("memory://") :].partition("/")
    if not name:
        refuse(text, "has no name", f"use {FORM}")
    return StoreURL(NAME, name, path.strip("/"), text)


def _open(url: StoreURL, _options: StoreOptions, _environ: Mapping[str, str]) -> ObjectStore:
    """Return a store over the bucket of that name; it comes into being with its first use and lives as long as the
    process.
    """
    return MemoryStore(url, _buckets.setdefault(url.bucket, _Bucket()))


class MemoryStore(ObjectStore):
    """Objects in a dictionary."""

    capabilities = Capabilities(prefix_delete=True, slash_decides=True)

    def __init__(self, url: StoreURL, bucket: _Bucket | None = None) -> None:
        self.url = url
        self.requests = RequestCounts()
        self._bucket = bucket or _Bucket()

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        self._request("put")
        content = bytes(data)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        info = ObjectInfo(key, len(content), etag, datetime.now(UTC))
        with self._bucket.lock:
            if if_absent and key in self._bucket.objects:
                raise ObjectExistsError(f"{self.object_url(key)} exists already")
            self._bucket.objects[key] = _Object(content, info, dict(tags or {}))

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
        data = b"".join(bytes(chunk) for chunk in chunks)
        self.put(key, data, tags=tags)
        return len(data)

    def get_buffer(self, key: str, *, limit: int | None = None) -> Buffer:
        self._request("get")
        data = self._object(key).data
        self.refuse_larger(key, len(data), limit)
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
        found = self._object(key)
        stop = found.info.size if end is None else min(end, found.info.size)
        for position in range(start, stop, range_size):
            self._request("get")
            current = self._object(key)
            if current.info.etag != (etag or found.info.etag):
                raise ObjectChangedError(f"{self.object_url(key)} has changed since it was last read")
            yield current.data[position : min(position + range_size, stop)]

    def head(self, key: str) -> ObjectInfo:
        self._request("head")
        return self._object(key).info

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags that the object was stored with; only this store can tell them."""
        return dict(self._object(key).tags)

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        self._request("list")
        with self._bucket.lock:
            keys = sorted(k for k in self._bucket.objects if k.startswith(prefix) and k > (start_after or ""))
        for key in keys:
            with self._bucket.lock:
                found = self._bucket.objects.get(key)
            if found is not None:
                yield found.info

    def list_level(self, prefix: str) -> Listing:
        folders: dict[str, None] = {}
        objects = []
        for info in self.list(prefix):
            name, slash, _ = info.key[len(prefix) :].partition("/")
            if slash:
                folders[f"{prefix}{name}/"] = None
            else:
                objects.append(info)
        return Listing(tuple(folders), tuple(objects))

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        self._request("delete")
        for key in keys:
            with self._bucket.lock:
                self._bucket.objects.pop(key, None)

    def check(self) -> None:
        self._request("check")

    def create_bucket(self) -> None:
        self._bucket.exists = True
        self._request("create")

    def drop_bucket(self) -> None:
        """Make the bucket go away with all that is in it, for tests of what happens then."""
        with self._bucket.lock:
            self._bucket.objects.clear()
            self._bucket.exists = False

    def _request(self, kind: str) -> None:
        self.requests.add(kind)
        self._check_bucket()

    def _check_bucket(self) -> None:
        if not self._bucket.exists:
            raise BucketNotFoundError(f"{self.url.text}: the bucket doesn't exist", hint="create it first")

    def _object(self, key: str) -> _Object:
        with self._bucket.lock:
            found = self._bucket.objects.get(key)
        self._check_bucket()
        if found is None:
            raise ObjectNotFoundError(f"{self.object_url(key)} doesn't exist")
        return found


PROVIDER = Provider(NAME, FORM, lambda text: text[:9].lower() == "memory://", _parse, _open)
