"""Finding a WAL file in the archive and fetching it, complete and checked."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.archive.compression import compression_of, decompress_pieces
from barman_cloud.errors import IntegrityError, NotFoundError, ObjectNotFoundError, UsageError
from barman_cloud.postgres.wal import (
    LONG_HEADER_SIZE,
    MAX_SEGMENT_SIZE,
    WalKind,
    WalName,
    check_segment,
    parse_wal_name,
)
from barman_cloud.wal import memory, spool
from barman_cloud.wal.delivery import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from barman_cloud.catalog.layout import Layout, WalObject
    from barman_cloud.store.base import Buffer, ObjectStore

log = logs.get_logger(__name__)

_LISTED_AT_MOST = 1000
"""One page of a listing: what one request returns."""


def wal_name(text: str) -> WalName:
    """Return the parsed WAL file name; ``UsageError`` (exit 3) if it is none."""
    name = parse_wal_name(text)
    if name is None:
        raise UsageError(
            f"{text!r} is not the name of a WAL file",
            hint="expected are 24 hexadecimal digits (with .partial or .<offset>.backup), or 8 with .history",
        )
    return name


class Restorer:
    """Fetches WAL files of one server. With a ``memory_dir`` it remembers where the next segment is likely to be."""

    def __init__(
        self, store: ObjectStore, layout: Layout, *, partial: bool = True, memory_dir: str | None = None
    ) -> None:
        self._store = store
        self._layout = layout
        self._partial = partial
        self._memory_dir = memory_dir

    def restore(self, name: WalName, destination: str) -> None:
        """Put the WAL file at ``destination``: complete, checked, and all at once.

        Raises ``NotFoundError`` only when the archive, asked just now, has no such file. A partial segment is delivered
        only if there is no full one.
        """
        if name.kind is WalKind.BACKUP:
            raise NotFoundError(
                f"{name.text} is a backup history file, which is never restored", hint="recovery doesn't need it"
            )
        data = self._fetch_expected(name)
        if data is None:
            data = self._fetch_listed(name)
        if name.kind is not WalKind.HISTORY:
            _refuse_foreign(name, data, destination)
        deliver(data, destination)
        log.info("restored WAL file %s to %s", name.text, destination)

    def fetch(self, name: WalName, key: str) -> list[Buffer]:
        """Return the WAL file stored under ``key``, decompressed, in pieces; segments are checked against ``name``."""
        try:
            data = decompress_pieces(self._store.get_buffer(key), compression_of(key), limit=MAX_SEGMENT_SIZE)
            if name.kind is not WalKind.HISTORY:
                check_segment(beginning(data), name, size=sum(map(len, data)))
        except IntegrityError as error:
            raise IntegrityError(f"{self._store.object_url(key)}: {error}", hint=error.hint) from error
        return data

    def listing(self, name: WalName) -> Iterator[WalObject]:
        """Yield what one request tells about the archive from the segment ``name`` on, to the end of its folder."""
        folder = self._layout.wal_folder(name.text)
        # All but the last digit: the greatest key that is surely before every form of the name.
        listed = self._store.list(folder, start_after=f"{folder}{name.text[:-1]}")
        for info in islice(listed, _LISTED_AT_MOST):
            found = self._layout.parse_wal_key(info.key)
            if found is not None:
                yield found

    def _fetch_expected(self, name: WalName) -> list[Buffer] | None:
        if self._memory_dir is None or name.kind is not WalKind.SEGMENT:
            return None
        seen = memory.load(self._memory_dir)
        if seen is None or not seen.expects(name.text):
            return None
        try:
            return self.fetch(name, self._layout.wal(name.text, seen.suffix))
        except ObjectNotFoundError:
            return None

    def _fetch_listed(self, name: WalName) -> list[Buffer]:
        candidates = self._candidates(name)
        if not candidates:
            raise NotFoundError(
                f"WAL file {name.text} is not in the archive {self._store.object_url(self._layout.wals_dir)}"
            )
        for number, found in enumerate(candidates, 1):
            if found.name != name.text:
                log.warning("there is only a partial copy of segment %s: %s", name.text, found.key)
            try:
                return self.fetch(name, found.key)
            except IntegrityError as error:
                if number == len(candidates):
                    raise
                log.warning("%s; trying its other copy", error)
        raise AssertionError("unreachable")

    def _candidates(self, name: WalName) -> list[WalObject]:
        """Return the stored copies to try: full ones in the order of their keys, or else the partial ones."""
        if name.kind is WalKind.SEGMENT and self._memory_dir is not None:
            found = list(self.listing(name))
            seen = memory.learn(name.text, found)
            if seen is not None:
                memory.save(self._memory_dir, seen)
        else:
            listed = self._store.list(self._layout.wal_prefix(name.text))
            parsed = (self._layout.parse_wal_key(info.key) for info in listed)
            found = [wal for wal in parsed if wal is not None]
        full = [wal for wal in found if wal.name == name.text]
        if full or name.kind is not WalKind.SEGMENT or not self._partial:
            return full
        return [wal for wal in found if wal.name == f"{name.text}.partial"]


def beginning(data: list[Buffer]) -> Buffer:
    """Return as much of the beginning of a file in pieces as holds a segment's header, if the file is that long."""
    if not data or len(data[0]) < LONG_HEADER_SIZE:
        return b"".join(data)
    return data[0]


def _refuse_foreign(name: WalName, data: list[Buffer], destination: str) -> None:
    """Refuse a segment of another cluster than the one whose ``pg_wal`` (if it is one) it would go to."""
    own = spool.own_system_identifier(os.path.abspath(destination))
    if own is not None:
        check_segment(beginning(data), name, size=sum(map(len, data)), system_identifier=own)
