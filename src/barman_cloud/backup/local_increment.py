"""Incremental backups of files that are here: what the server must be like, and where the changed blocks are told.

From PostgreSQL 17 on the WAL summaries tell them. On older servers the LSN of each page does, which is to be trusted
only if hint bits have been logged ever since the parent began: with data checksums, or with ``wal_log_hints``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestReader
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lifecycle import Run
from barman_cloud.backup.members import restored_path
from barman_cloud.backup.parent import IncrementRequest, Parent, choose, find_parent, settle_for_full, way_from
from barman_cloud.backup.scan import ScannedBase
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.incremental.changes import SummaryRow, from_summaries
from barman_cloud.incremental.file_format import BLOCK, SEGMENT_BLOCKS
from barman_cloud.incremental.increment import Increment, PageLsnScan, SummarizedChanges
from barman_cloud.incremental.parent_files import VERSION_FILE, ParentFiles, read_parent_files
from barman_cloud.postgres.connection import Connection, ServerMetadata, first_line, read_metadata
from barman_cloud.postgres.timeline import Switch, history_name, parse_history
from barman_cloud.postgres.wal import format_lsn, parse_lsn
from barman_cloud.postgres.wal_summaries import (
    SUMMARIES_SINCE,
    require_first_summary,
    summary_rows,
    wait_for_summaries,
)

log = logs.get_logger(__name__)

_FULL = "take a full backup"
_NOW = "SELECT pg_catalog.pg_walfile_name(lsn), lsn::pg_catalog.text FROM pg_catalog.pg_current_wal_lsn() AS lsn"


class LocalIncrement:
    """What a backup of local files knows of its parent. Methods are called in this order, from the main thread."""

    def __init__(self, catalog: Catalog, request: IncrementRequest) -> None:
        self._catalog = catalog
        self._request = request
        self._parent: Parent | None = None

    def check(self, connection: Connection) -> None:
        """Find the parent, and check what can be checked before the backup begins.

        Raises what stands in the way, in one line; with a full backup to fall back to it only warns.
        """
        self._parent = choose(lambda: self._find(connection), self._request)

    def begin(self, connection: Connection, run: Run) -> None:
        self._connection = connection
        run.info.parent_backup_id = self._parent.info.backup_id if self._parent else None

    def decide(self, run: Run, root: str, trees: Sequence[ScannedBase], metadata: ServerMetadata) -> Increment | None:
        """Return what tells the changed blocks, now that the backup has begun; None: the backup is a full one.

        Waits for the server's WAL summaries.
        """
        parent = self._parent
        if parent is None:
            return None
        timeline, lsn = run.info.timeline or 0, parse_lsn(str(run.info.begin_xlog))
        try:
            history = call_interruptibly(lambda: self._history(root, timeline)) if timeline != parent.timeline else ()
            way = way_from(parent, timeline, lsn, history)
            files = self._files(parent)
            if metadata.version < SUMMARIES_SINCE:
                new = new_databases(trees, files, parent.info.begin_time)
                log.info("pages that changed since %s are told by their LSNs", format_lsn(parent.begin))
                return PageLsnScan(parent.begin, files, new)
            summaries = wait_for_summaries(self._connection, way, self._request.summary_timeout, run.sleep)
            rows = summary_rows(self._connection, summaries)
            changes = from_summaries(SummaryRow(*row) for row in rows)
        except (OperationError, IntegrityError) as error:
            if self._connection.broken:
                raise  # the server has abandoned the backup, a full one as well
            settle_for_full(error, self._request)
            self._parent = run.info.parent_backup_id = None
            return None
        count = sum(len(change.blocks) for change in changes.values())
        log.info(
            "%d WAL summaries tell of %d changed blocks in %d files of relations", len(summaries), count, len(changes)
        )
        return SummarizedChanges(changes, files)

    def label(self, text: str, version: int) -> str:
        """Return the text of ``backup_label`` with what PostgreSQL adds to that of an incremental backup."""
        if self._parent is None:
            return text
        return (
            f"{text}INCREMENTAL FROM LSN: {format_lsn(self._parent.begin, version)}\n"
            f"INCREMENTAL FROM TLI: {self._parent.timeline}\n"
        )

    @property
    def is_incremental(self) -> bool:
        return self._parent is not None

    def _find(self, connection: Connection) -> Parent:
        metadata = read_metadata(connection)
        require_block_sizes(metadata)
        if metadata.version >= SUMMARIES_SINCE:
            require_summaries(metadata)
        parent = find_parent(self._catalog, self._request.parent, metadata.system_identifier, metadata.version)
        if metadata.version < SUMMARIES_SINCE:
            require_logged_hints(connection, metadata, parent)
        if not metadata.in_recovery and metadata.data_directory:
            segment, lsn = _row(connection, _NOW)
            timeline = int(segment[:8], 16)
            history = self._history(metadata.data_directory, timeline) if timeline != parent.timeline else ()
            way = way_from(parent, timeline, parse_lsn(lsn), history)
            if metadata.version >= SUMMARIES_SINCE:
                require_first_summary(connection, way)
        return parent

    def _history(self, root: str, timeline: int) -> tuple[Switch, ...]:
        """Return the ancestors of the server's timeline, from its own file, or else that in the WAL archive."""
        try:
            return parse_history(Path(root, "pg_wal", history_name(timeline)).read_bytes(), timeline)
        except OSError:
            return WalArchive(self._catalog.store, self._catalog.layout).history(timeline)

    def _files(self, parent: Parent) -> ParentFiles:
        began = time.monotonic()
        reader = ManifestReader(parent.manifest, f"the manifest of backup {parent.info.backup_id}")
        files = read_parent_files(reader)
        log.info("the parent has %d files of relations (read in %.1f s)", len(files.sizes), time.monotonic() - began)
        return files


def require_block_sizes(metadata: ServerMetadata) -> None:
    """Raise ``OperationError`` if the server was built with other sizes than PostgreSQL's own."""
    if (metadata.block_size, metadata.relation_segment_blocks) != (BLOCK, SEGMENT_BLOCKS):
        raise OperationError(
            f"the server has blocks of {metadata.block_size} bytes and {metadata.relation_segment_blocks} of them in a "
            f"file: incremental backups are only of {BLOCK} and {SEGMENT_BLOCKS}",
            hint=_FULL,
        )


def require_summaries(metadata: ServerMetadata) -> None:
    """Raise ``OperationError`` if the server doesn't summarize its WAL."""
    if metadata.summarize_wal != "on":
        raise OperationError(
            f"the server has no WAL summaries: summarize_wal is {metadata.summarize_wal}",
            hint="set summarize_wal = on (a reload is enough) and take a full backup, on which increments can build",
        )


def require_logged_hints(connection: Connection, metadata: ServerMetadata, parent: Parent) -> None:
    """Raise ``OperationError`` unless the LSNs of pages have told of every change since the parent began."""
    if metadata.data_checksums == "on" == parent.info.data_checksums:
        return
    log_hints = _value(connection, "SELECT pg_catalog.current_setting('wal_log_hints')")
    if log_hints != "on":
        raise OperationError(
            f"pages of PostgreSQL {metadata.version // 10000} tell of all their changes only with data checksums or "
            f"wal_log_hints: data_checksums is {metadata.data_checksums}, wal_log_hints is {log_hints}",
            hint="set wal_log_hints = on, restart the server, and take a full backup, on which increments can build",
        )
    # The setting changes with a restart only.
    started = _value(connection, "SELECT pg_catalog.pg_postmaster_start_time()")
    if parent.info.begin_time is None or started >= parent.info.begin_time:
        raise OperationError(
            f"the server was started at {started}, after backup {parent.info.backup_id} began: without data checksums "
            "it isn't known whether wal_log_hints was on before",
            hint=f"{_FULL}, on which increments can build until the next restart",
        )


def new_databases(trees: Sequence[ScannedBase], parent: ParentFiles, began: datetime | None = None) -> frozenset[str]:
    """Return the directories of databases (below the restored PGDATA) that aren't surely those of the parent.

    A database may be a file by file copy of another one, in the place of one that was dropped: its pages have old LSNs,
    but its ``PG_VERSION`` is new. A manifest tells seconds: what is of the one in which the parent began (``began``)
    may be either.
    """
    first = began.timestamp() // 1 if began else math.inf
    found: list[str] = []
    for tree in trees:
        for run in tree.runs:
            if run.directory and VERSION_FILE in run.names:
                path = restored_path(tree.base, f"{run.directory}/{VERSION_FILE}")
                modified = _modified(f"{tree.root}/{run.directory}/{VERSION_FILE}")
                if modified is None or modified >= first or _as_in_manifest(modified) != parent.versions.get(path):
                    found.append(path.rpartition("/")[0])
    return frozenset(found)


def _as_in_manifest(modified: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(modified))


def _modified(path: str) -> int | None:
    """Return the second in which a file was modified."""
    try:
        return int(os.stat(path).st_mtime)  # noqa: PTH116
    except FileNotFoundError:
        return None


def _value(connection: Connection, query: Any) -> Any:
    return _row(connection, query)[0]


def _row(connection: Connection, query: Any) -> tuple[Any, ...]:
    try:
        row = connection.execute(query).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"the server does not tell what an increment must know: {first_line(error)}") from error
    assert row is not None
    return row
