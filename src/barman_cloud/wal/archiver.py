"""Archiving WAL files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.archive.compression import SUFFIX, compress_stream, compression_level
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConflictError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from barman_cloud.postgres.wal import MAX_SEGMENT_SIZE, WalKind, WalName
from barman_cloud.wal import archive_spool
from barman_cloud.wal.stored import AT_ONCE, open_stored
from barman_cloud.wal.wal_file import WalContent, WalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from barman_cloud.catalog.identity import ArchiveIdentity
    from barman_cloud.catalog.layout import Layout
    from barman_cloud.store.base import Buffer, ObjectKind, ObjectStore
    from barman_cloud.wal.receive_memory import SegmentBytes

log = logs.get_logger(__name__)

PART_SIZE = 8 << 20
CONCURRENCY = 2
"""Of an upload in parts: how large they are, and how many are on their way."""
_MEMORY_PAGE = 4096
_PIECE = 256 << 10
"""What is read, checked and compressed at once stays in the processor's caches."""


class ArchiveOptions(NamedTuple):
    """How WAL files are stored."""

    compression: str | None = None
    level: int | str | None = None
    """``low``, ``medium``, ``high`` or a number of the algorithm; None: what suits WAL."""
    tags: Mapping[str, str] | None = None
    history_tags: Mapping[str, str] | None = None
    """Replace ``tags`` on timeline history files, if given."""
    overwrite: bool = False
    """Replace an object of the same name, whatever it holds."""
    check_content: bool = True
    """Refuse damaged pages, and small files that aren't what PostgreSQL writes."""


class _RecycledError(BarmanCloudError):
    """The file doesn't wait to be archived any more."""


class Archiver:
    """Stores WAL files of one server. Safe to use from several threads."""

    def __init__(
        self, store: ObjectStore, layout: Layout, options: ArchiveOptions, identity: ArchiveIdentity | None = None
    ) -> None:
        """``identity`` refuses the files of a cluster that the archive isn't of."""
        self._objects = store
        self._layout = layout
        self._options = options
        self._identity = identity

    def archive(self, path: str) -> int | None:
        """Store the WAL file at ``path``. On return it is durable in the store, with this content.

        Returns how many bytes were stored, None if it was there. A file that is archived already is compared: equal
        content is success, other content raises ``ConflictError``.
        """
        with WalFile(path, check_content=self._options.check_content) as file:
            stored = self._archive(file, file.pieces)
        archive_spool.release_cache(path)
        return stored

    def archive_content(self, name: str, content: Buffer | SegmentBytes) -> int | None:
        """Store the WAL file ``name`` that is in memory, as :meth:`archive` does."""
        with WalContent(name, content) as file:
            return self._archive(file, file.pieces)

    def drop_partial(self, segment: str) -> None:
        """Delete the partial copies of a segment, given by its 24 digits, that is stored in full.

        ``ConflictError``, and they stay, if one of them has what the full segment doesn't have.
        """
        found = [self._layout.parse_wal_key(info.key) for info in self._objects.list(self._layout.wal_prefix(segment))]
        partials = [wal.key for wal in found if wal is not None and wal.name == f"{segment}.partial"]
        full = next((wal.key for wal in found if wal is not None and wal.name == segment), None)
        if full is None or not partials:
            return
        for key in partials:
            if (position := self._first_contradiction(full, key)) is not None:
                raise ConflictError(
                    f"diverged timeline: {self._objects.object_url(full)} differs from what was acknowledged of it "
                    f"before, {self._objects.object_url(key)}, from byte {position} on; both stay",
                    hint="the server is another copy that went its own way: give it a server name of its own",
                )
        self._objects.delete(partials)

    def _first_contradiction(self, full: str, partial: str) -> int | None:
        """Return where the partial copy has something else than the full one, rather than nothing yet."""
        pairs = zip(self._stored_blocks(full), self._stored_blocks(partial), strict=False)
        for number, (whole, part) in enumerate(pairs):
            if whole != part and (place := contradiction(whole, part)) is not None:
                return number * _PIECE + place
        return None

    def _stored_blocks(self, key: str) -> Iterator[bytes]:
        """Yield the content in pieces of one size, but for the last."""
        block = bytearray()
        for _, part in self._stored_parts(key, MAX_SEGMENT_SIZE):
            block += part
            while len(block) >= _PIECE:
                yield bytes(block[:_PIECE])
                del block[:_PIECE]
        if block:
            yield bytes(block)

    def archive_ahead(self, path: str) -> str | None:
        """Store the WAL file at ``path``, as :meth:`archive`, and return the line that identifies what was stored.

        None, and nothing is stored, if PostgreSQL doesn't wait for it any more: it may be recycled at any moment then.
        So what was read while it waited is sent, and nothing of it before all was read, or is complete in the store.
        """
        folder, name = os.path.split(path)
        mark = os.path.join(folder, "archive_status", f"{name}.ready")
        checksum = 0

        def see(piece: bytes) -> None:
            nonlocal checksum
            checksum = archive_spool.checksum(piece, checksum)

        def pieces(size: int) -> Iterator[bytes]:
            nonlocal checksum
            checksum = 0
            yield from file.pieces(size, see=see)
            if not os.path.exists(mark):  # what was read may be of what came after
                raise _RecycledError(f"{path} doesn't wait to be archived any more")

        if not os.path.exists(mark):
            return None
        with WalFile(path, check_content=self._options.check_content) as file:
            try:
                self._archive(file, pieces)
            except _RecycledError:
                return None
            return archive_spool.identity(file.status, checksum)

    def _archive(self, file: WalFile, pieces: Callable[[int], Iterator[bytes]]) -> int | None:
        if self._identity and (cluster := file.system_identifier) is not None:
            self._identity.require(cluster, file.path)
        key = self._layout.wal(file.name.text, SUFFIX.get(self._options.compression or "", ""))
        if file.name.kind is WalKind.PARTIAL and not self._options.overwrite:
            return self._store_partial(file, key, pieces)
        if not self._options.overwrite and not _is_inner_segment(file.name):
            self._compare_other_compressions(file, key)
        try:
            stored = self._upload(file, key, pieces)
        except ObjectExistsError:
            self._compare(file, key)
            log.info("WAL file %s is archived already as %s", file.path, self._objects.object_url(key))
            return None
        log.info("archived WAL file %s as %s", file.path, self._objects.object_url(key))
        return stored

    def _store_partial(self, file: WalFile, key: str, pieces: Callable[[int], Iterator[bytes]]) -> int | None:
        """Store a partial segment, or leave a stored copy that has more of it.

        PostgreSQL archives one when it is promoted, and ``wal-receive`` stores those that it received: they agree as
        far as both go, and one of them ends in zeros from there on.
        """
        shorter = []
        for stored in self._copies_of(file, key):
            if not self._goes_on_from(file, stored):
                log.info("WAL file %s is archived already as %s", file.path, self._objects.object_url(stored))
                return None
            shorter.append(stored)
        size = self._upload(file, key, pieces, replace=bool(shorter))
        log.info("archived WAL file %s as %s", file.path, self._objects.object_url(key))
        try:
            self._objects.delete(stored for stored in shorter if stored != key)
        except AccessDeniedError as error:
            log.warning("a shorter copy of %s can't be deleted: %s", file.name.text, error)
        return size

    def _copies_of(self, file: WalFile, key: str) -> list[str]:
        try:
            listed = self._objects.list(self._layout.wal_prefix(file.name.text))
            parsed = [self._layout.parse_wal_key(info.key) for info in listed]
        except AccessDeniedError as error:
            log.info("not looking for copies with another compression: %s", error)
            try:
                self._refuse_existing(key)
            except ObjectExistsError:
                return [key]
            return []
        return [found.key for found in parsed if found is not None and found.name == file.name.text]

    def _goes_on_from(self, file: WalFile, key: str) -> bool:
        """Tell whether the file has more of the segment than the stored copy; ``ConflictError`` if they disagree."""
        differ = False
        blank = {"file": True, "stored": True}
        try:
            for position, part in self._stored_parts(key, file.size):
                own = file.read(position, len(part)) if position + len(part) <= file.size else b"\1"
                if not differ:
                    if own == part:
                        continue
                    differ = True
                    same = next((n for n, (a, b) in enumerate(zip(own, part, strict=False)) if a != b), len(own))
                    own, part = own[same:], part[same:]
                blank["file"] &= own.count(0) == len(own)
                blank["stored"] &= part.count(0) == len(part)
        except IntegrityError as error:
            raise ConflictError(f"{self._objects.object_url(key)} can't be read: {error}") from error
        if differ and not any(blank.values()):
            raise self._differs(file, key)
        return differ and blank["stored"]

    def _upload(
        self, file: WalFile, key: str, pieces: Callable[[int], Iterator[bytes]], *, replace: bool = False
    ) -> int:
        """Store the file by one conditional create, or in parts if it stays too large when compressed.

        Returns how many bytes the store got.
        """
        replace |= self._options.overwrite
        tags = self._tags_of(file.name)
        kind: ObjectKind = "wal" if file.name.kind in (WalKind.SEGMENT, WalKind.PARTIAL) else "metadata"
        body, rest = self._packed(file, pieces)
        if rest is None:
            self._objects.put(key, body, kind=kind, if_absent=not replace, tags=tags)
            return len(body)
        if not replace:
            self._refuse_existing(key)
        sizes: list[int] = []
        chunks = _noting(sizes, _chunks(body, rest))
        self._objects.put_stream(key, chunks, kind=kind, part_size=PART_SIZE, concurrency=CONCURRENCY, tags=tags)
        return sum(sizes)

    def _packed(
        self, file: WalFile, pieces: Callable[[int], Iterator[bytes]]
    ) -> tuple[bytes | bytearray, Iterator[Buffer] | None]:
        """Return what is to be stored of the file: its beginning, and the rest if it is too large to be held."""
        name = self._options.compression
        if name is None:
            if file.size > AT_ONCE:
                return b"", pieces(_PIECE)
            return b"".join(pieces(max(1, file.size))), None  # of one piece, so this is no copy
        packed = compress_stream(pieces(_PIECE), name, compression_level(name, self._options.level))
        body = bytearray()
        for piece in packed:
            body += piece
            if len(body) > AT_ONCE:
                return body, packed
        return body, None

    def _refuse_existing(self, key: str) -> None:
        """Look before an upload in parts, which can't be conditional everywhere."""
        try:
            self._objects.head(key)
        except (ObjectNotFoundError, AccessDeniedError):
            return
        raise ObjectExistsError(f"{self._objects.object_url(key)} exists already")

    def _tags_of(self, name: WalName) -> Mapping[str, str] | None:
        if name.kind is WalKind.HISTORY and self._options.history_tags:
            return self._options.history_tags
        return self._options.tags

    def _compare_other_compressions(self, file: WalFile, key: str) -> None:
        """Compare the file with copies of it that were stored with another compression.

        The conditional create can't see those. Looking for them costs a listing, so it is done for the files that are
        rare, and for the first segment of each folder: enough to notice that another cluster (or another
        configuration of this one) archives to the same place.
        """
        try:
            for info in self._objects.list(self._layout.wal_prefix(file.name.text)):
                found = self._layout.parse_wal_key(info.key)
                if found is not None and found.name == file.name.text and info.key != key:
                    self._compare(file, info.key)
        except AccessDeniedError as error:
            log.info("not looking for copies with another compression: %s", error)

    def _compare(self, file: WalFile, key: str) -> None:
        url = self._objects.object_url(key)
        try:
            equal = self._holds(key, file)
        except IntegrityError as error:
            raise ConflictError(f"{url} exists and can't be read, so it isn't {file.path}: {error}") from error
        if not equal:
            raise self._differs(file, key)

    def _differs(self, file: WalFile, key: str) -> ConflictError:
        return ConflictError(
            f"{file.path} differs from what is archived already as {self._objects.object_url(key)}",
            hint="another cluster may be archiving to this place; PostgreSQL keeps the file until this is solved",
        )

    def _holds(self, key: str, file: WalFile) -> bool:
        end = 0
        for position, part in self._stored_parts(key, file.size):
            if part != file.read(position, len(part)):
                return False
            end = position + len(part)
        return end == file.size

    def _stored_parts(self, key: str, size: int) -> Iterator[tuple[int, bytes]]:
        position = 0
        for piece in open_stored(self._objects, key, size).content:
            for start in range(0, len(piece), _PIECE):
                part = bytes(piece[start : start + _PIECE])
                yield position, part
                position += len(part)


def _chunks(body: bytes | bytearray, rest: Iterator[Buffer]) -> Iterator[Buffer]:
    """Yield what was gathered already, then the rest."""
    for start in range(0, len(body), PART_SIZE):
        yield bytes(body[start : start + PART_SIZE])
    if isinstance(body, bytearray):
        body.clear()
    yield from rest


def _noting(sizes: list[int], chunks: Iterator[Buffer]) -> Iterator[Buffer]:
    for chunk in chunks:
        sizes.append(len(chunk))
        yield chunk


def ready_files(path: str) -> list[str]:
    """Return the names of the other files that PostgreSQL waits to have archived, in the order it will ask for them.

    That order is: timeline history files first, then by name (PostgreSQL's ``pgarch.c``).
    """
    folder, own_name = os.path.split(path)
    try:
        entries = os.listdir(os.path.join(folder, "archive_status"))
    except OSError:
        return []
    names = {entry.removesuffix(".ready") for entry in entries if entry.endswith(".ready")}
    return sorted(names - {own_name}, key=lambda name: (not name.endswith(".history"), name))


def contradiction(full: bytes, partial: bytes) -> int | None:
    """Return the place of the first byte of ``partial`` that contradicts ``full``; None if there is none.

    What wasn't written is zeros up to the end of its page of memory: a loss of power may leave out any of these.
    """
    for start in range(0, len(partial), _MEMORY_PAGE):
        whole, part = full[start : start + _MEMORY_PAGE], partial[start : start + _MEMORY_PAGE]
        if whole != part:
            same = next((n for n, (a, b) in enumerate(zip(whole, part, strict=False)) if a != b), len(whole))
            rest = part[same:]
            if rest.count(0) != len(rest):
                return start + same
    return None


def _is_inner_segment(name: WalName) -> bool:
    """Tell whether the file is a segment other than the first of its folder."""
    return name.kind is WalKind.SEGMENT and name.segment != 0
