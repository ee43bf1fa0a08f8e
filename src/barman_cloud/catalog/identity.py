"""Which cluster an archive is of, so that another one can't go on in it by mistake.

Two clusters in one archive can't be told apart by names: their segments have the same ones, and retention would delete
the backups of one for those of the other. What tells them apart is the system identifier that ``initdb`` and
``pg_upgrade`` choose; standbys, promoted or not, and restored copies have that of their origin.

The object ``<server>/system_identifiers`` says whose an archive is: one identifier per line, more than one where the
user agreed to that. The first cluster to archive writes it, by a conditional create. Archives that other programs made
have none: the newest backup tells whose they are, or else a segment.

``wal-archive`` asks for each segment. What it was told is in the spool for a day, so that this costs nothing but
reading a small file; and as little as possible is imported here.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConflictError,
    IntegrityError,
    ObjectExistsError,
    ObjectNotFoundError,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable
    from typing import Protocol

    from barman_cloud.catalog.layout import Layout, WalObject
    from barman_cloud.store.base import ObjectStore, Tags

    class Notes(Protocol):
        """A directory of small text files, such as ``wal.spool.Directory``."""

        def stat(self, name: str) -> os.stat_result: ...

        def read(self, name: str) -> str: ...

        def write(self, name: str, content: str) -> None: ...


log = logs.get_logger(__name__)

MAX_SIZE = 16 << 10
REMEMBERED_SECONDS = 86400
"""An older note in the spool counts for nothing: the archive may have become another cluster's."""
ABANDONED_SECONDS = 3600
"""An archive that holds nothing after this time is free for another cluster."""

_BACKUPS_ASKED = 10
"""Backups that are looked at for one that tells its system identifier, the newest first."""
_WAL_ASKED = 100
_NOTE = "cluster"
_DIGITS = 20
"""Decimal digits of a number of 64 bits."""
_HEAD = 1 << 20
"""Bytes of a WAL object that are read for its header."""


class ArchiveIdentity:
    """Whose the archive of ``layout`` is. ``accepted`` is another identifier that the user lets in.

    ``notes`` keeps what was found out for later processes; ``tags`` are those of the object. Safe to use from several
    threads.
    """

    def __init__(
        self,
        store: ObjectStore,
        layout: Layout,
        *,
        accepted: int | None = None,
        notes: Notes | None = None,
        tags: Tags | None = None,
    ) -> None:
        self._store = store
        self._layout = layout
        self._accepted = accepted
        self._tags = tags
        self._notes = notes
        self._known: int | None = None

    def require(self, system_identifier: int, what: str) -> None:
        """Raise ``ConflictError`` (1), naming both identifiers, if the archive is another cluster's.

        ``what`` is what was to be stored. An archive that is nobody's becomes this cluster's. Where the credentials
        don't allow to find out, nothing is refused.
        """
        if system_identifier == self._known:
            return
        if not self._is_noted(system_identifier):
            self._ask(system_identifier, what)
            self._take_note(system_identifier)
        self._known = system_identifier

    def _ask(self, own: int, what: str) -> None:
        try:
            found = self._read()
            if not found:
                found = self._claim(own)
        except AccessDeniedError as error:
            log.info("the credentials don't allow to tell which cluster %s is of: %s", self._layout.root, error)
            return
        if own in found:
            return
        if own == self._accepted:
            self._store.put(self._layout.identity, _dump([*found, own]), tags=self._tags)
            log.warning("the cluster with system identifier %d shares %s from now on", own, self._url)
        elif self._is_abandoned():
            self._store.put(self._layout.identity, _dump([own]), tags=self._tags)
            log.warning(
                "%s was of the cluster with system identifier %s and is empty: it is taken over",
                self._url,
                _listed(found),
            )
        else:
            raise ConflictError(
                f"{self._url} is the archive of the cluster with system identifier {_listed(found)}, "
                f"and {what} is of another one, with system identifier {own}",
                hint="give this cluster a server name or a URL of its own, also after pg_upgrade; "
                f"--accept-cluster={own} lets it share the archive all the same",
            )

    def _read(self) -> list[int]:
        """Return the identifiers that the object tells, none if there is no object."""
        try:
            text = self._store.get(self._layout.identity, limit=MAX_SIZE)
        except ObjectNotFoundError:
            return []
        except AccessDeniedError as error:
            # S3 says so of a missing object, too, if the bucket must not be listed.
            log.debug("%s can't be read: %s", self._layout.identity, error)
            return []
        except IntegrityError as error:
            log.warning("%s", error)
            return []
        found = _parse(text)
        if not found:
            log.warning("%s names no cluster", self._store.object_url(self._layout.identity))
        return found

    def _claim(self, own: int) -> list[int]:
        """Write the object unless the archive shows that it is another cluster's; return the identifiers."""
        found = self._told_by_content()
        if found not in (None, own):
            return [found]
        try:
            self._store.put(self._layout.identity, _dump([own]), if_absent=True, tags=self._tags)
        except ObjectExistsError:
            return self._read() or [own]
        log.info("%s is the archive of the cluster with system identifier %d", self._url, own)
        # Where a conditional create isn't one, two clusters may both have come through: the last one to write stays.
        return [own] if self._store.capabilities.conditional_create else self._read() or [own]

    def _told_by_content(self) -> int | None:
        try:
            return _of_newest_backup(self._store, self._layout) or _of_a_segment(self._store, self._layout)
        except AccessDeniedError as error:
            log.info("the credentials don't allow to look for the cluster of %s: %s", self._url, error)
            return None

    def _is_abandoned(self) -> bool:
        """Tell whether nothing but an old object with another cluster's identifier is there."""
        try:
            modified = self._store.head(self._layout.identity).last_modified
            if modified is None or time.time() - modified.timestamp() < ABANDONED_SECONDS:
                return False
            folders = (self._layout.base_dir, self._layout.wals_dir)
            return not any(next(self._store.list(folder), None) for folder in folders)
        except (ObjectNotFoundError, AccessDeniedError):
            return False

    @property
    def _url(self) -> str:
        return self._store.object_url(self._layout.root)

    def _is_noted(self, own: int) -> bool:
        if self._notes is None:
            return False
        try:
            age = time.time() - self._notes.stat(_NOTE).st_mtime
            return 0 <= age < REMEMBERED_SECONDS and self._notes.read(_NOTE).encode() == _dump([own])
        except (OSError, ValueError):
            return False

    def _take_note(self, own: int) -> None:
        """Keep it for later processes; that this is impossible costs them a request, nothing else."""
        if self._notes is None:
            return
        try:
            self._notes.write(_NOTE, _dump([own]).decode())
        except OSError as error:
            log.debug("the cluster of %s can't be noted in the spool: %s", self._url, error)


def parse_system_identifier(text: str | None) -> int | None:
    """Return the identifier that ``backup.info`` holds as text, or None if it holds none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= _DIGITS else None


def identifier_of(store: ObjectStore, wal: WalObject) -> int | None:
    """Return the system identifier in the header of an archived segment, or None if that can't be read."""
    from barman_cloud.archive.compression import decompress_stream
    from barman_cloud.postgres.wal import parse_page_header

    try:
        chunks = decompress_stream(store.read(wal.key, end=_HEAD, concurrency=1), wal.compression)
        return parse_page_header(next(iter(chunks))).system_identifier
    except (BarmanCloudError, StopIteration) as error:
        log.info("%s doesn't tell its system identifier: %s", wal.key, error)
        return None


def _of_newest_backup(store: ObjectStore, layout: Layout) -> int | None:
    ids = sorted(filter(None, map(layout.backup_id_of, store.list_level(layout.base_dir).folders)), reverse=True)
    if not ids:
        return None
    from barman_cloud.catalog.catalog import Catalog

    catalog = Catalog(store, layout)
    for backup_id in ids[:_BACKUPS_ASKED]:
        try:
            info = catalog.load_one(backup_id)
        except BarmanCloudError as error:
            log.info("backup %s doesn't tell its system identifier: %s", backup_id, error)
            continue
        if info.is_complete and (found := parse_system_identifier(info.systemid)):
            return found
    return None


def _of_a_segment(store: ObjectStore, layout: Layout) -> int | None:
    for item in islice(store.list(layout.wals_dir), _WAL_ASKED):
        wal = layout.parse_wal_key(item.key)
        if wal is not None and wal.is_full_segment:
            return identifier_of(store, wal)
    return None


def _dump(identifiers: Iterable[int]) -> bytes:
    return "".join(f"{identifier}\n" for identifier in identifiers).encode()


def _parse(text: bytes) -> list[int]:
    lines = (line.strip() for line in text.split(b"\n"))
    return [int(line) for line in lines if line.isdigit() and len(line) <= _DIGITS]


def _listed(identifiers: Iterable[int]) -> str:
    return " or ".join(map(str, identifiers))
