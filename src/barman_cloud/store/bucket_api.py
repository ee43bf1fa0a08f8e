"""What a provider can be asked that obstore has no verb for: one class per provider implements this."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from barman_cloud.store.base import Buffer, ObjectInfo, Tags


class Page(NamedTuple):
    """One answer of a listing; ``token`` asks for the next one and is None on the last."""

    objects: tuple[ObjectInfo, ...]
    folders: tuple[str, ...] = ()
    token: str | None = None


class BucketApi(Protocol):
    """The requests of a provider that obstore has no verb for. One call is one request and is never retried here."""

    def list_page(self, prefix: str, *, delimiter: str, start_after: str | None, token: str | None) -> Page: ...

    def get(self, key: str) -> bytes: ...

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        """Return the bytes, the size of the whole object, and its ETag."""

    def head(self, key: str) -> ObjectInfo: ...

    def put(self, key: str, data: Buffer, *, if_absent: bool, tags: Tags | None) -> None: ...

    def delete_one(self, key: str) -> None: ...

    def check(self, prefix: str) -> None: ...

    def create_bucket(self) -> None: ...

    def close(self) -> None: ...
