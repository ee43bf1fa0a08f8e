"""The life of a backup, whatever copies the data: id, backup mode, and ``backup.info`` from STARTED to DONE or FAILED.

The main thread waits here and is the one that signals interrupt; transfers run in threads of the copy method. Whatever
goes wrong after the id was chosen, the server leaves backup mode, the method is told to stop, and ``backup.info`` says
FAILED with the reason and without an end time (clients take a backup with an end time for a finished one).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from barman_cloud import logs
from barman_cloud.backup.helper_threads import Events, call_interruptibly
from barman_cloud.backup.naming import unused_backup_id, warn_of_same_name
from barman_cloud.backup.readable import HINT as READABLE_HINT
from barman_cloud.backup.record import Record, reason_of, save_in_time
from barman_cloud.backup.signals import interruptible
from barman_cloud.backup.wal_check import warn_of_missing_wal, why_not_archived
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.heartbeat import Heartbeat
from barman_cloud.catalog.identity import ArchiveIdentity
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.lineage import adopt
from barman_cloud.catalog.needed_wal import missing_segments
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.errors import (
    BarmanCloudError,
    OperationError,
)
from barman_cloud.postgres.backup_mode import BackupStart, BackupStop
from barman_cloud.postgres.connection import (
    Connection,
    ConnectionParameters,
    ServerMetadata,
    connect,
    read_metadata,
    read_system_identifier,
)
from barman_cloud.postgres.wal import format_lsn, segment_name
from barman_cloud.report import progress
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """What the user asked for, whatever copies the data."""

    connection: ConnectionParameters = field(default_factory=ConnectionParameters)
    backup_name: str | None = None
    immediate_checkpoint: bool = False
    keepalive_interval: float = 60
    """Seconds between uses of the connection that holds backup mode; 0: never."""
    include_wal: bool = False
    """Store the WAL along that makes the backup consistent."""
    tags: Mapping[str, str] | None = None
    accept_cluster: int | None = None
    """System identifier of a cluster that may share the archive of another one."""
    wal_timeout: float = 0
    """Seconds to wait until the backup's WAL is in the archive; 0: look once."""
    before: Callable[[BackupInfo], None] | None = None
    """Called once the backup has an id, before anything of it is stored; what it raises ends the backup."""
    server_name: str | None = None
    """What ``backup.info`` calls the server; None: what the copy method calls it."""
    mode: str | None = None
    """What ``backup.info`` says of how the backup was made; None: what the copy method says."""
    announce: Callable[[BackupInfo], None] = lambda _info: None
    """Called in the main thread when the catalog says STARTED, and when it says DONE, before WAL is waited for."""


class Run(Events):
    """A backup while it is taken: what is known of it, and the main thread's place to wait."""

    def __init__(self, store: ObjectStore, layout: Layout, info: BackupInfo, request: BackupRequest) -> None:
        super().__init__()
        self.store = store
        self.layout = layout
        self.info = info
        self.request = request
        self.tags = request.tags
        self.heartbeat = Heartbeat(store, layout, info.backup_id, request.tags)
        self.archiving_problem: str | None = None
        """Why the server's WAL doesn't get into an archive, as far as was seen before the begin."""


class ServerBackup(Protocol):
    """A backup as the server sees it; closing it before its stop makes the server abandon it."""

    def start(self, label: str, *, immediate_checkpoint: bool) -> BackupStart:
        """Begin, after a checkpoint (spread over time unless ``immediate_checkpoint``)."""

    def stop(self) -> BackupStop:
        """End, and wait until the server has archived the WAL that the backup needs, if it archives."""

    def switch_wal(self) -> None:
        """See that the last segment is finished soon; not called on a standby."""

    def create_restore_point(self, name: str) -> None:
        """Write a named restore point; a failure is only logged. Not called on a standby."""

    def close(self) -> None:
        """End the session."""


class CopyMethod(Protocol):
    """How the data of a backup gets to where it is kept. Methods are called in this order, from the main thread."""

    server_name: str
    """What ``backup.info`` calls the server: Barman's constant ``cloud``, or the server's own name."""
    mode: str | None
    """What ``backup.info`` says of how the backup was made."""
    failure: str
    """What has failed if the backup has, in Barman's words."""

    def check(self, connection: Connection) -> None:
        """Check what can be checked before anything is written; an error here leaves no trace in the catalog."""

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        """Raise ``OperationError`` naming what the role lacks."""

    def begin(self, connection: Connection, run: Run) -> ServerBackup:
        """Return the server's side of the backup, not started yet."""

    def prepare(self, metadata: ServerMetadata) -> None:
        """Check that what the server says can be copied; once more if its tablespaces change before the start."""

    def copy(self, run: Run) -> None:
        """Copy the data while the server is in backup mode; long waits go through ``run.wait``."""

    def finish(self, run: Run, start: BackupStart, stop: BackupStop) -> dict[str, Any]:
        """Store what is known only after the stop call; returns ``copy_stats``."""

    def check_stored(self, run: Run, sizes: Mapping[str, int]) -> None:
        """Raise ``OperationError`` if an object of the backup isn't among those in its folder (key to size)."""

    def abort(self) -> None:
        """Stop transfers and undo what can be undone; called after any failure of the other methods but ``check``."""


def take_backup(store: ObjectStore, layout: Layout, request: BackupRequest, method: CopyMethod) -> BackupInfo:
    """Take a backup and return its DONE ``backup.info``.

    Errors before the backup has an id are raised as they are; any later failure, signals included, raises
    ``OperationError`` after the catalog says FAILED.
    """
    began = time.monotonic()
    work = progress.current()
    work.phase("connecting to PostgreSQL")
    with interruptible(), closing(connect(request.connection)) as connection, ExitStack() as at_end:
        work.phase("looking at the archive")
        method.check(connection)
        _refuse_foreign_cluster(connection, store, layout, request)
        try:
            backup_id = call_interruptibly(lambda: unused_backup_id(store, layout))
            if name := request.backup_name:
                call_interruptibly(lambda: warn_of_same_name(store, layout, name))
        except BarmanCloudError as error:
            raise OperationError(f"cannot begin a backup: {error}", hint=error.hint) from error
        info = BackupInfo(
            backup_id, server_name=request.server_name or method.server_name, mode=request.mode or method.mode
        )
        if request.before:
            request.before(info)
        run = Run(store, layout, info, request)
        record = Record(store, layout, info, request.tags)
        at_end.callback(run.heartbeat.stop)
        try:
            _take(connection, run, record, request, method)
        except BaseException as error:
            _fail(run, record, request, method, error)
            raise _failure(info, error) from error
        work.phase("completing the catalog")
        try:
            call_interruptibly(record.save)
        except BaseException as error:
            raise OperationError(
                f"backup {backup_id} is complete but backup.info could not be stored: {reason_of(error)}",
                hint="its archives are useless without it; take the backup again",
            ) from error
        try:
            call_interruptibly(lambda: refuse_if_deleted(run, method.check_stored))
            if parent := info.parent_backup_id:
                call_interruptibly(lambda: adopt(Catalog(store, layout), parent, backup_id, request.tags))
        except OperationError as error:
            _fail(run, record, request, method, error)
            raise _failure(info, error) from error
        log.info("backup %s is done after %.1f s; it ends at %s", backup_id, time.monotonic() - began, info.end_xlog)
        request.announce(info)
        if request.include_wal:
            work.notes["wal"] = "included"
        else:
            work.phase("waiting for WAL in the archive")
            missing = _look_for_wal(run, request)
            work.notes["wal"] = "unknown" if missing is None else "missing" if missing else "archived"
    return info


def _refuse_foreign_cluster(connection: Connection, store: ObjectStore, layout: Layout, request: BackupRequest) -> None:
    """Raise ``OperationError`` if the archive is another cluster's, before anything of this one is in it."""
    try:
        cluster = int(read_system_identifier(connection))
    except BarmanCloudError as error:
        log.debug("the system identifier can't be read: %s", error)
        return  # the backup fails for the same reason, and the catalog is to say so
    identity = ArchiveIdentity(store, layout, accepted=request.accept_cluster, tags=request.tags)
    try:
        call_interruptibly(lambda: identity.require(cluster, "this server"))
    except BarmanCloudError as error:
        raise OperationError(f"cannot begin a backup: {error}", hint=error.hint) from error


def refuse_if_deleted(run: Run, check_stored: Callable[[Run, Mapping[str, int]], None]) -> None:
    """Raise ``OperationError`` if a deletion of the backup began before the catalog said DONE.

    The deletion puts an object beside ``backup.info`` before it marks this, so that a mark which DONE has replaced can
    still be told (``catalog.deletion_mark``). What begins later finds DONE, and marks it.
    """
    layout, backup_id = run.layout, run.info.backup_id
    try:
        level = run.store.list_level(layout.backup_dir(backup_id))
    except OperationError:
        raise
    except BarmanCloudError as error:
        log.warning("backup %s is done, but could not be looked at once more: %s", backup_id, error)
        return
    sizes = {item.key: item.size for item in level.objects}
    if layout.being_deleted(backup_id) in sizes:
        raise OperationError("it was deleted while it was made", hint="take another backup")
    check_stored(run, sizes)


def _take(connection: Connection, run: Run, record: Record, request: BackupRequest, method: CopyMethod) -> None:
    info = run.info
    info.systemid = read_system_identifier(connection)
    metadata = read_metadata(connection)
    _describe(info, metadata)
    method.check_privileges(connection, metadata)
    if not request.include_wal:
        run.archiving_problem = why_not_archived(connection, metadata, run.store, run.layout)
        if run.archiving_problem:
            log.warning("the backup can be recovered only with its WAL, but %s", run.archiving_problem)
    work = progress.current()
    work.phase("looking at the files")
    method.prepare(metadata)
    with closing(method.begin(connection, run)) as mode:
        work.phase("waiting for the checkpoint")
        start = mode.start(
            f"Barman backup {info.server_name} {info.backup_id}", immediate_checkpoint=request.immediate_checkpoint
        )
        # What the server did before its checkpoint is in no WAL of the backup: a tablespace made until then counts.
        metadata = _once_more(connection, metadata, info, method)
        info.begin_time = start.time
        info.begin_xlog = format_lsn(start.lsn, metadata.version)
        info.begin_wal = segment_name(start.timeline, start.lsn, metadata.segment_size)
        info.begin_offset = start.lsn % metadata.segment_size
        info.timeline = start.timeline
        info.status = backup_info.STARTED
        call_interruptibly(record.save)
        log.info("backup %s began at %s on timeline %d", info.backup_id, info.begin_xlog, start.timeline)
        request.announce(info)
        run.heartbeat.start()
        work.phase("copying")
        method.copy(run)
        log.info("waiting for the server to stop the backup and to archive its WAL")
        work.phase("waiting for WAL")
        stop = mode.stop()
        info.end_time = stop.time
        info.end_xlog = format_lsn(stop.lsn, metadata.version)
        info.end_wal = segment_name(stop.timeline, stop.lsn, metadata.segment_size)
        info.end_offset = stop.lsn % metadata.segment_size
        info.backup_label = stop.label
        if not metadata.in_recovery:
            mode.switch_wal()
            mode.create_restore_point(f"barman_{info.backup_id}")
    info.copy_stats = method.finish(run, start, stop)
    call_interruptibly(record.require_untouched)
    info.backup_name = request.backup_name
    info.status = backup_info.DONE


def _once_more(connection: Connection, before: ServerMetadata, info: BackupInfo, method: CopyMethod) -> ServerMetadata:
    """Return what the server says of itself now; if its tablespaces changed, the method prepares for them."""
    metadata = read_metadata(connection)
    if metadata.tablespaces != before.tablespaces:
        _describe(info, metadata)
        method.prepare(metadata)
    return metadata


def _look_for_wal(run: Run, request: BackupRequest) -> list[str] | None:
    archive = WalArchive(run.store, run.layout)

    def find() -> list[str]:
        return call_interruptibly(lambda: missing_segments(archive, run.info))

    return warn_of_missing_wal(
        find, run.info, timeout=request.wal_timeout, sleep=time.sleep, reason=run.archiving_problem
    )


def _describe(info: BackupInfo, metadata: ServerMetadata) -> None:
    info.version = metadata.version
    info.xlog_segment_size = metadata.segment_size
    info.pgdata = metadata.data_directory
    info.config_file = metadata.config_file
    info.hba_file = metadata.hba_file
    info.ident_file = metadata.ident_file
    info.included_files = list(metadata.included_files) or None
    info.tablespaces = [Tablespace(*tablespace) for tablespace in metadata.tablespaces] or None
    info.data_checksums = metadata.data_checksums
    info.summarize_wal = metadata.summarize_wal
    info.cluster_size = metadata.cluster_size


def _fail(run: Run, record: Record, request: BackupRequest, method: CopyMethod, error: BaseException) -> None:
    """Clean up after ``error``: nothing in here may hide it, and none of it may take long."""
    log.debug("backup %s fails", run.info.backup_id, exc_info=error)
    info = run.info
    info.status = backup_info.FAILED
    info.error = f"failure {method.failure} ({reason_of(error)})"
    info.end_time = None
    info.copy_stats = None
    info.snapshots_info = None
    info.backup_name = request.backup_name
    try:
        method.abort()
    except Exception as problem:  # noqa: BLE001 - the first error is the one to report
        log.warning("cleaning up after the failed backup: %s", reason_of(problem))
    save_in_time(record)


def _failure(info: BackupInfo, error: BaseException) -> OperationError:
    hint = READABLE_HINT if isinstance(error, PermissionError) else getattr(error, "hint", None)
    return OperationError(f"backup {info.backup_id} failed: {reason_of(error)}", hint=hint)
