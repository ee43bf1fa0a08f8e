"""Archiving WAL files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud import logs
from barman_cloud.archive.compression import SUFFIX, compress_stream, compression_of, decompress_bytes, wal_level
from barman_cloud.errors import (
    AccessDeniedError,
    ConflictError,
    IntegrityError,
    ObjectExistsError,
    UsageError,
)
from barman_cloud.postgres.wal import WalKind, WalName, check_segment, parse_wal_name
from barman_cloud.wal import archive_spool, spool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barman_cloud.catalog.layout import Layout
    from barman_cloud.store.base import Buffer, ObjectStore

log = logs.get_logger(__name__)

_PIECE = 256 << 10
"""Compressing piece by piece stays in the processor's caches."""


class ArchiveOptions(NamedTuple):
    """How WAL files are stored."""

    compression: str | None = None
    level: int | str | None = None
    """``low``, ``medium``, ``high`` or a number of the algorithm; None means medium."""
    tags: Mapping[str, str] | None = None
    history_tags: Mapping[str, str] | None = None
    """Replace ``tags`` on timeline history files, if given."""
    overwrite: bool = False
    """Replace an object of the same name, whatever it holds."""


class WalFile(NamedTuple):
    """A WAL file, read and checked. ``data`` is a view of the file itself, not a copy."""

    path: str
    name: WalName
    data: memoryview
    status: os.stat_result


class Archiver:
    """Stores WAL files of one server. Safe to use from several threads."""

    def __init__(self, store: ObjectStore, layout: Layout, options: ArchiveOptions) -> None:
        self._objects = store
        self._layout = layout
        self._options = options

    def archive(self, path: str) -> None:
        """Store the WAL file at ``path``. On return it is durable in the store, with this content.

        A file that is archived already is compared: equal content is success, other content raises ``ConflictError``.
        """
        self._store(read_wal_file(path))
        archive_spool.release_cache(path)

    def archive_ahead(self, path: str) -> str | None:
        """Store the WAL file at ``path``, as :meth:`archive`, and return the line that identifies what was stored.

        None, and nothing is stored, if PostgreSQL doesn't wait for it any more: it may be recycled at any moment then.
        That is also why a copy is sent, whose bytes were the file's as long as it waited.
        """
        folder, name = os.path.split(path)
        mark = os.path.join(folder, "archive_status", f"{name}.ready")
        if not os.path.exists(mark):
            return None
        file = read_wal_file(path)
        file = file._replace(data=memoryview(bytes(file.data)))
        if not os.path.exists(mark):  # the copy may be of what came after
            return None
        self._store(file)
        return archive_spool.identity(file.status, archive_spool.checksum(file.data))

    def _store(self, file: WalFile) -> None:
        path = file.path
        key = self._layout.wal(file.name.text, SUFFIX.get(self._options.compression or "", ""))
        if not self._options.overwrite and not _is_inner_segment(file.name):
            self._compare_other_compressions(file, key)
        try:
            self._objects.put(
                key,
                self._compress(file),
                kind="wal" if file.name.kind in (WalKind.SEGMENT, WalKind.PARTIAL) else "metadata",
                if_absent=not self._options.overwrite,
                tags=self._tags_of(file.name),
            )
        except ObjectExistsError:
            self._compare(file, key)
            log.info("WAL file %s is archived already as %s", path, self._objects.object_url(key))
        else:
            log.info("archived WAL file %s as %s", path, self._objects.object_url(key))

    def _compress(self, file: WalFile) -> Buffer:
        name = self._options.compression
        if name is None:
            return file.data
        pieces = (file.data[start : start + _PIECE] for start in range(0, len(file.data), _PIECE))
        return b"".join(compress_stream(pieces, name, wal_level(name, self._options.level)))

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
            stored = decompress_bytes(self._objects.get_buffer(key), compression_of(key))
        except IntegrityError as error:
            raise ConflictError(f"{url} exists and can't be read, so it isn't {file.path}: {error}") from error
        if stored != bytes(file.data):  # comparing with the view itself would go byte by byte
            raise ConflictError(
                f"{file.path} differs from what is archived already as {url}",
                hint="another cluster may be archiving to this place; PostgreSQL keeps the file until this is solved",
            )


def wal_name_of(path: str) -> WalName:
    """Return the parsed name of the WAL file at ``path``; ``UsageError`` if no WAL file is named so."""
    name = parse_wal_name(os.path.basename(path))
    if name is None:
        raise UsageError(
            f"{path} is not named like a WAL file",
            hint="expected are 24 hexadecimal digits (with .partial or .<offset>.backup), or 8 with .history",
        )
    return name


def read_wal_file(path: str) -> WalFile:
    """Read the WAL file at ``path`` and check that it is what its name says.

    Raises ``UsageError`` for a name that no WAL file has, ``IntegrityError`` for a segment whose header doesn't fit its
    name, size or cluster, and OSError.
    """
    name = wal_name_of(path)
    with open(path, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        data = _view(file.fileno(), status.st_size)
    if name.kind in (WalKind.SEGMENT, WalKind.PARTIAL):
        check_segment(data, name, system_identifier=spool.own_system_identifier(os.path.abspath(path)))
    return WalFile(path, name, data, status)


def _view(file: int, size: int) -> memoryview:
    """Return the content of an open file, mapped: to fill 16 MiB of fresh memory takes longer than to compress them.

    Nobody shortens a WAL file that waits to be archived, which is what a mapping must not see.
    """
    if size == 0:
        return memoryview(b"")
    import mmap

    return memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))


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


def _is_inner_segment(name: WalName) -> bool:
    """Tell whether the file is a segment other than the first of its folder."""
    return name.kind is WalKind.SEGMENT and name.segment != 0
