"""A base backup as tar archives in the object store, of a running server.

Order matters to recovery and is kept (PostgreSQL docs, "Making a Base Backup Using the Low Level API"): everything
else, then ``pg_control`` while the server is still in backup mode, then ``backup_label`` from the stop call. The last
archive of ``data`` holds these, the configuration files that are outside PGDATA, and ``backup_manifest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from barman_cloud import logs
from barman_cloud.archive.throttle import Throttle
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.lifecycle import BackupRequest, Run, ServerBackup, take_backup
from barman_cloud.backup.local_files import LocalFiles
from barman_cloud.backup.local_increment import LocalIncrement
from barman_cloud.backup.page_check import PageChecks
from barman_cloud.backup.parent import IncrementRequest
from barman_cloud.backup.source import MemberSource
from barman_cloud.backup.worker import ArchiveForm, Uploads
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import OperationError
from barman_cloud.postgres.backup_mode import BackupStart, BackupStop
from barman_cloud.postgres.connection import Connection, ServerMetadata
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BackupOptions(ArchiveForm):
    """What the user asked for. Bandwidth in bytes per second."""

    request: BackupRequest = field(default_factory=BackupRequest)
    jobs: int = 2
    max_bandwidth: int | None = None
    verify_checksums: bool | None = None
    """Verify page checksums while reading; None: if the cluster has them and NumPy is installed."""
    strict: bool = False
    """A page that fails its checksum is an error."""
    streaming_conninfo: str | None = None
    """Of streamed backups: the connection string of the stream; None: the same server and role as for queries."""
    increment: IncrementRequest | None = None
    """Take an incremental backup."""


def run_backup(store: ObjectStore, layout: Layout, options: BackupOptions) -> BackupInfo:
    """Back up the cluster that ``options.request.connection`` leads to, whose files must be visible here.

    Returns the DONE ``backup.info``; errors are those of :func:`lifecycle.take_backup`. With ``options.strict``,
    damaged pages raise ``OperationError`` although the backup is DONE.
    """
    increment = LocalIncrement(Catalog(store, layout), options.increment) if options.increment else None
    source = LocalFiles(verify_checksums=options.verify_checksums, increment=increment)
    method = ArchiveMethod(options, source)
    info = take_backup(store, layout, options.request, method)
    if options.strict and method.failed_pages:
        raise OperationError(
            f"backup {info.backup_id} is DONE, but {method.failed_pages} pages of the cluster fail their checksum",
            hint="the cluster itself is damaged: keep older backups, and see which relations the files belong to",
        )
    return info


def run_streamed_backup(store: ObjectStore, layout: Layout, options: BackupOptions) -> BackupInfo:
    """Back up the cluster that ``options.request.connection`` leads to, over a replication connection.

    Returns and raises as :func:`run_backup`.
    """
    from barman_cloud.backup.streamed_increment import StreamedIncrement
    from barman_cloud.backup.streaming import ReplicationStream

    source = ReplicationStream(
        layout.server,
        options.max_bandwidth,
        options.streaming_conninfo,
        verify_checksums=options.verify_checksums is not False,
        increment=StreamedIncrement(Catalog(store, layout), options.increment) if options.increment else None,
    )
    try:
        return take_backup(store, layout, options.request, ArchiveMethod(options, source))
    finally:
        source.close()


def make_uploads(
    options: BackupOptions, store: ObjectStore, layout: Layout, backup_id: str, page_checks: PageChecks | None = None
) -> Uploads:
    """Return where and how the archives of a backup are stored."""
    limit = store.capabilities.max_object_size
    if options.max_archive_size > limit:
        log.warning("--max-archive-size is lowered to %d bytes, the largest object of this store", limit)
    return Uploads(
        store,
        layout,
        backup_id,
        compression=options.compression,
        level=options.level,
        max_archive_size=min(options.max_archive_size, limit),
        min_chunk_size=options.min_chunk_size,
        throttle=Throttle(options.max_bandwidth) if options.max_bandwidth else None,
        tags=options.request.tags,
        page_checks=page_checks,
    )


class ArchiveMethod:
    """The copy method (``lifecycle.CopyMethod``) of tar archives, whatever their members come from."""

    def __init__(self, options: BackupOptions, source: MemberSource) -> None:
        self._options = options
        self._source = source
        self._archives: ArchiveSet | None = None
        self._page_checks: PageChecks | None = None
        self.failed_pages = 0
        """How many pages fail their checksum; known when the backup is DONE."""
        self.server_name = source.server_name
        self.mode = source.mode
        self.failure = source.failure

    def check(self, connection: Connection) -> None:
        self._source.check(connection)

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        self._source.check_privileges(connection, metadata)

    def prepare(self, metadata: ServerMetadata) -> None:
        self._source.prepare(metadata)

    def begin(self, connection: Connection, run: Run) -> ServerBackup:
        return self._source.begin(connection, run)

    def copy(self, run: Run) -> None:
        """Make all archives but the last."""
        self._page_checks = self._source.page_checks(run)
        uploads = make_uploads(self._options, run.store, run.layout, run.info.backup_id, self._page_checks)
        self._archives = ArchiveSet(uploads, self._options.jobs)
        self._source.copy(self._archives, run)

    def finish(self, run: Run, start: BackupStart, stop: BackupStop) -> dict[str, Any]:
        """Store the last archive, and what is beside the archives."""
        assert self._archives is not None
        size, members = self._source.last_members(self._archives, start, stop)
        self._archives.add_last(members, size)
        self._source.finish(self._archives, run)
        checksums = self._page_checks.conclude(stop.lsn) if self._page_checks else None
        self._archives.store_sidecar(checksums)
        self.failed_pages = checksums.failed if checksums else 0
        return self._archives.copy_stats()

    def check_stored(self, run: Run, sizes: Mapping[str, int]) -> None:
        assert self._archives is not None
        self._archives.check_stored(sizes)

    def abort(self) -> None:
        """Abort all uploads."""
        if self._archives:
            self._archives.abort()
