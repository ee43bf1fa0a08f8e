"""Finding a WAL file in the archive and fetching it, complete and checked."""

from __future__ import annotations

import os
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import IntegrityError, NotFoundError, ObjectNotFoundError, UsageError
from barman_cloud.postgres.wal import (
    LONG_HEADER_SIZE,
    MAX_SEGMENT_SIZE,
    PageHeader,
    WalKind,
    WalName,
    check_header,
    check_size,
    parse_wal_name,
    refuse_foreign,
)
from barman_cloud.postgres.wal_check import SegmentCheck, refuse_damage
from barman_cloud.wal import key_hint, spool
from barman_cloud.wal.delivery import deliver
from barman_cloud.wal.stored import SMALL_FILE_LIMIT, Stored, open_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barman_cloud.catalog.layout import Layout, WalObject
    from barman_cloud.store.base import Buffer, ObjectStore
    from barman_cloud.wal.spool import Directory

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
    """Fetches WAL files of one server. With a ``memory`` it remembers where the next segment is likely to be."""

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        *,
        partial: bool = True,
        memory: Directory | None = None,
        check_pages: bool = True,
    ) -> None:
        self._store = store
        self._layout = layout
        self._partial = partial
        self._memory = memory
        self._check_pages = check_pages

    def restore(
        self, name: WalName, destination: str, *, on_found: Callable[[], None] = lambda: None, thorough: bool = False
    ) -> None:
        """Put the WAL file at ``destination``: complete, checked, and all at once.

        ``on_found`` is called as soon as it is known to be in the archive; ``thorough`` is explained at :meth:`fetch`.
        Raises ``NotFoundError`` only when the archive, asked just now, has no such file. A partial segment is delivered
        only if there is no full one.
        """
        if name.kind is WalKind.BACKUP:
            raise NotFoundError(
                f"{name.text} is a backup history file, which is never restored", hint="recovery doesn't need it"
            )
        if not self._restore_expected(name, destination, on_found, thorough):
            self._restore_listed(name, destination, on_found, thorough)
        log.info("restored WAL file %s to %s", name.text, destination)

    def fetch(self, name: WalName, key: str, *, thorough: bool = False) -> tuple[PageHeader | None, Iterator[Buffer]]:
        """Return the header of the WAL file stored under ``key`` (None for a history file) and its content in pieces.

        The header is checked against ``name``, and the content is decompressed and checked as it is taken: it raises
        ``IntegrityError`` when it is damaged or, at its end, if it isn't complete. All page headers of a segment are
        checked, and if ``thorough`` the checksums of its records, unless the stored form has a checksum of its own:
        that takes too long (up to 250 ms for 16 MiB) for the call that recovery waits for.
        """
        if name.kind is WalKind.HISTORY:
            return None, self._history(name, key)
        stored = open_stored(self._store, key, MAX_SEGMENT_SIZE)
        with self._naming(key):
            first: Buffer = next(stored.content, b"")
            while len(first) < LONG_HEADER_SIZE and (more := next(stored.content, b"")):
                first = bytes(first) + more
            header = check_header(first, name)
        check = SegmentCheck(name, header, records=thorough and not stored.has_checksum) if self._check_pages else None
        return header, self._checked(name, key, header, first, stored, check)

    def _history(self, name: WalName, key: str) -> Iterator[Buffer]:
        from barman_cloud.postgres.wal_files import check_history

        with self._naming(key):
            content = b"".join(open_stored(self._store, key, SMALL_FILE_LIMIT).content)
            if self._check_pages:
                check_history(content, name)
        yield content

    def _checked(
        self, name: WalName, key: str, header: PageHeader, first: Buffer, stored: Stored, check: SegmentCheck | None
    ) -> Iterator[Buffer]:
        """Yield the content of a segment, and no more of it than is right."""
        with self._naming(key):
            size = 0
            piece: Buffer | None = first
            while piece is not None:
                size += len(piece)
                if size > header.segment_size:
                    check_size(size, name, header)
                if check:
                    refuse_damage(name, check.feed(piece))
                yield piece
                piece = next(stored.content, None)
            check_size(size, name, header)
            if check:
                refuse_damage(name, check.finish())

    @contextmanager
    def _naming(self, key: str) -> Iterator[None]:
        """Let an ``IntegrityError`` say which object is damaged."""
        try:
            yield
        except IntegrityError as error:
            raise IntegrityError(f"{self._store.object_url(key)}: {error}", hint=error.hint) from error

    def _deliver(
        self,
        name: WalName,
        key: str,
        destination: str,
        *,
        thorough: bool,
        fetched: Callable[[], None] = lambda: None,
    ) -> None:
        header, content = self.fetch(name, key, thorough=thorough)
        fetched()
        if header is not None:
            # The segment must not go to the pg_wal, if it is one, of another cluster.
            refuse_foreign(name, header, spool.own_system_identifier(os.path.abspath(destination)))
        deliver(content, destination)

    def listing(self, name: WalName) -> Iterator[WalObject]:
        """Yield what one request tells about the archive from the segment ``name`` on, to the end of its folder."""
        folder = self._layout.wal_folder(name.text)
        # All but the last digit: the greatest key that is surely before every form of the name.
        listed = self._store.list(folder, start_after=f"{folder}{name.text[:-1]}")
        for info in islice(listed, _LISTED_AT_MOST):
            found = self._layout.parse_wal_key(info.key)
            if found is not None:
                yield found

    def _restore_expected(self, name: WalName, destination: str, on_found: Callable[[], None], thorough: bool) -> bool:
        """Restore the segment if it has the suffix that the last ones had."""
        if self._memory is None or name.kind is not WalKind.SEGMENT:
            return False
        seen = key_hint.load(self._memory)
        if seen is None or not seen.expects(name.text):
            return False
        try:
            key = self._layout.wal(name.text, seen.suffix)
            self._deliver(name, key, destination, thorough=thorough, fetched=on_found)
        except ObjectNotFoundError:
            return False
        return True

    def _restore_listed(self, name: WalName, destination: str, on_found: Callable[[], None], thorough: bool) -> None:
        candidates = self._candidates(name)
        if not any(found.name == name.text for found in candidates) and self._restore_unfinished(
            name, candidates, destination, on_found
        ):
            return
        if not candidates:
            raise NotFoundError(
                f"WAL file {name.text} is not in the archive {self._store.object_url(self._layout.wals_dir)}"
            )
        on_found()
        for number, candidate in enumerate(candidates, 1):
            if candidate.name != name.text:
                log.warning("there is only a partial copy of segment %s: %s", name.text, candidate.key)
            try:
                self._deliver(name, candidate.key, destination, thorough=thorough)
            except IntegrityError as error:
                if number == len(candidates):
                    raise
                log.warning("%s; trying its other copy", error)
            else:
                return

    def _restore_unfinished(
        self, name: WalName, partial: list[WalObject], destination: str, on_found: Callable[[], None]
    ) -> bool:
        """Restore the segment from the pieces of it, if there are any; ``partial`` are copies that may go farther."""
        if name.kind is not WalKind.SEGMENT or not self._partial:
            return False
        from barman_cloud.wal.unfinished import assemble, in_parts

        found = assemble(self._store, self._layout, name)
        if found is None or any(self._goes_farther(name, copy.key, found.end) for copy in partial):
            return False
        on_found()
        log.warning(
            "segment %s isn't complete: restored are its first %d bytes, from %d pieces",
            name.text,
            found.end,
            len(found.pieces),
        )
        header = check_header(found.data[:LONG_HEADER_SIZE], name)
        refuse_foreign(name, header, spool.own_system_identifier(os.path.abspath(destination)))
        deliver(in_parts(found.data), destination)
        return True

    def _goes_farther(self, name: WalName, key: str, end: int) -> bool:
        """Tell whether a partial copy has anything but zeros from ``end`` on; a damaged one has nothing."""
        try:
            content = b"".join(self.fetch(name, key)[1])
        except IntegrityError as error:
            log.warning("%s", error)
            return False
        return content.count(0, end) < len(content) - end

    def _candidates(self, name: WalName) -> list[WalObject]:
        """Return the stored copies to try: full ones in the order of their keys, or else the partial ones."""
        if name.kind is WalKind.SEGMENT and self._memory is not None:
            found = list(self.listing(name))
            seen = key_hint.learn(name.text, found)
            if seen is not None:
                key_hint.save(self._memory, seen)
        else:
            listed = self._store.list(self._layout.wal_prefix(name.text))
            parsed = (self._layout.parse_wal_key(info.key) for info in listed)
            found = [wal for wal in parsed if wal is not None]
        full = [wal for wal in found if wal.name == name.text]
        if full or name.kind is not WalKind.SEGMENT or not self._partial:
            return full
        return [wal for wal in found if wal.name == f"{name.text}.partial"]
