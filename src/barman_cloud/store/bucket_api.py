"""What a provider can be asked that obstore has no verb for: one class per provider implements each of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from barman_cloud.buffers import Buffer
from barman_cloud.store.base import ObjectInfo, PendingUpload, Tags
from barman_cloud.store.failures import RequestFailedError, unreadable

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


class Attributes(NamedTuple):
    """What an object is stored with besides its bytes."""

    tags: Tags | None = None
    metadata: Mapping[str, str] = {}
    """User metadata; names without dashes and underscores."""
    storage_class: str | None = None
    """The provider's own name of it."""


class BucketApi(Protocol):
    """The requests of a provider that obstore has no verb for. One call is one request and is never retried here."""

    def list_page(self, prefix: str, *, delimiter: str, start_after: str | None, token: str | None) -> Page: ...

    def get(self, key: str) -> bytes:
        """Return the whole object; ``IntegrityError`` if it isn't what it was stored as."""

    def get_range(self, key: str, start: int, end: int, etag: str | None) -> tuple[Buffer, int, str | None]:
        """Return the bytes, the size of the whole object, and its ETag."""

    def head(self, key: str) -> ObjectInfo: ...

    def put(self, key: str, data: Buffer, *, if_absent: bool, attributes: Attributes) -> None: ...

    def delete_one(self, key: str) -> None: ...

    def check(self, prefix: str) -> None: ...

    def create_bucket(self) -> None: ...

    def close(self) -> None: ...


class Part(NamedTuple):
    """A part of an upload: its number, from 1, and its bytes in pieces."""

    number: int
    pieces: list[Buffer]
    size: int


class UploadsPage(NamedTuple):
    """One answer of a listing of unfinished uploads; ``marker`` asks for the next one and is None on the last."""

    uploads: tuple[PendingUpload, ...]
    marker: tuple[str, str] | None = None


class PartsApi(Protocol):
    """An upload in parts. One call is at most one request and is never retried here."""

    def begin(self, key: str, attributes: Attributes) -> str:
        """Return what names the upload from now on."""

    def put_part(self, key: str, upload: str, part: Part) -> str:
        """Return what :meth:`complete` has to call the part; ``AlteredError`` if the store says it has other bytes."""

    def complete(self, key: str, upload: str, parts: Sequence[str]) -> None:
        """Make the object of its parts, in order."""

    def abort(self, key: str, upload: str) -> None:
        """Drop the upload and all its parts."""

    def unfinished(self, prefix: str, marker: tuple[str, str] | None) -> UploadsPage:
        """Return a page of the uploads that aren't finished, to keys that begin with ``prefix``."""

    def stored(self, key: str, upload: str, marker: str) -> tuple[int, str]:
        """Return the bytes of a page of the parts of an upload, and what asks for the next one (empty: the last)."""
