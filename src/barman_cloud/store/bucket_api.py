"""What a provider can be asked that obstore has no verb for: one class per provider implements this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from barman_cloud.store.base import Buffer, Capabilities, ObjectInfo, Tags
from barman_cloud.store.failures import RequestFailedError, unreadable

T = TypeVar("T")

LISTING = "a complete listing of this bucket and prefix"
"""What the answer to a listing has to be, for messages."""


class Page(NamedTuple):
    """One answer of a listing; ``token`` asks for the next one and is None on the last."""

    objects: tuple[ObjectInfo, ...]
    folders: tuple[str, ...] = ()
    token: str | None = None

    def checked(self, prefix: str, body: bytes) -> Page:
        """Return the page; raise ``RequestFailedError`` if a key isn't one of those that were asked for.

        What is left out of a listing ends a recovery or lets a backup be deleted, so nothing is taken for a listing
        that isn't one of this prefix.
        """
        if not all(info.key.startswith(prefix) for info in self.objects) or not all(
            folder.startswith(prefix) for folder in self.folders
        ):
            raise RequestFailedError(unreadable(LISTING, body))
        return self


class PartUploads(Protocol):
    """Uploads in parts of keys that obstore can't name. One call is at most one request, which may be made again."""

    def begin(self, key: str, tags: Tags | None) -> str:
        """Begin an upload and return its id."""

    def put_part(self, key: str, upload: str, number: int, data: Buffer) -> str:
        """Upload part ``number`` (from 1) and return the name that ``finish`` wants to hear."""

    def finish(self, key: str, upload: str, parts: Sequence[str], tags: Tags | None) -> None:
        """Make the object out of its parts, in this order."""

    def abort(self, key: str, upload: str) -> None: ...


class BucketApi(Protocol):
    """The requests of a provider that obstore has no verb for. One call is one request and is never retried here."""

    @property
    def uploads(self) -> PartUploads: ...

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


class Requester(Protocol):
    """A cloud store as those see it who make requests for it (``CloudStore`` says what the methods do)."""

    capabilities: Capabilities
    partial_answers: bool

    @property
    def provider_api(self) -> BucketApi: ...

    @property
    def reader(self) -> Any: ...

    def attempt(
        self, kind: str, key: str | None, action: Callable[[], T], *, stopped: Callable[[], bool] = ...
    ) -> T: ...

    def translate(self, error: BaseException, key: str | None) -> Exception: ...

    def head(self, key: str) -> ObjectInfo: ...

    def object_url(self, key: str) -> str: ...
