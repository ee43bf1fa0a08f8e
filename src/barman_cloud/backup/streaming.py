"""The source of a backup that PostgreSQL streams over a replication connection (``BASE_BACKUP``).

Nothing of the server's files has to be visible here, and nothing is written to a disk here: the server's tars are taken
apart, and their members go to the archives as they come. ``pg_control``, ``backup_label`` and the server's manifest are
kept for the last archive; the manifest also becomes an object of its own, because an incremental backup on top of this
one needs it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import psycopg

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestSpool
from barman_cloud.archive.tar import Member
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.configuration import ConfigurationFiles
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lanes import Lanes
from barman_cloud.backup.lifecycle import Run
from barman_cloud.backup.members import Content
from barman_cloud.backup.page_check import PageChecks
from barman_cloud.backup.scan import CONTROL_FILE, DATA
from barman_cloud.backup.source import LABEL, LABEL_MODE, MANIFEST, MANIFEST_MODE
from barman_cloud.backup.streamed_increment import StreamedIncrement
from barman_cloud.catalog.backup_info import STREAMED, Tablespace
from barman_cloud.errors import IntegrityError, OperationError
from barman_cloud.postgres.backup_mode import BackupStart, BackupStop, create_restore_point, label_start, label_timeline
from barman_cloud.postgres.connection import Connection, ServerMetadata, first_line
from barman_cloud.postgres.wal import segment_name
from barman_cloud.replication.base_backup import (
    BaseBackup,
    BaseBackupOptions,
    StreamedTablespace,
    StreamStart,
    TarStream,
)
from barman_cloud.replication.refusals import require_streaming
from barman_cloud.replication.session import ReplicationSession, ServerRefusal, open_session

log = logs.get_logger(__name__)

_SIGNAL_FILES = frozenset(("recovery.signal", "standby.signal"))
"""They say what the server that was backed up is, not what its copy is to be; ``pg_verifybackup`` doesn't miss them."""
_SEGMENT = re.compile(r"pg_wal/[0-9A-F]{24}")
"""The only files that a manifest doesn't list (``basebackup.c``)."""
_LINKS_PREFIX = "pg_tblspc/"
_WAL_GONE = "58P01"
_CORRUPTED = "XX001"


class ReplicationStream:
    """The member source (``source.MemberSource``) of a stream. Sizes in bytes, bandwidth in bytes per second."""

    mode: str | None = STREAMED
    failure = "copying files"

    def __init__(
        self,
        server_name: str,
        max_bandwidth: int | None = None,
        conninfo: str | None = None,
        *,
        verify_checksums: bool = True,
        increment: StreamedIncrement | None = None,
    ) -> None:
        self.server_name = server_name
        self._increment = increment
        self._wanted = BaseBackupOptions("", max_rate=max_bandwidth, verify_checksums=verify_checksums)
        self._conninfo = conninfo
        self._session: ReplicationSession | None = None
        self._backup: StreamedBackup | None = None

    def check(self, connection: Connection) -> None:
        """Open the replication connection: ``OperationError`` names the setting that is in the way."""
        require_streaming(connection, same_role=self._conninfo is None)
        self._session = open_session(connection, self._conninfo)
        if self._increment:
            self._increment.check(connection, self._session)

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        """The server has let us in, and asks for nothing more."""

    def prepare(self, metadata: ServerMetadata) -> None:
        self._metadata = metadata
        if metadata.data_directory is None:
            log.warning("the role can't read all settings: backup.info won't tell where the data directory was")

    def begin(self, connection: Connection, run: Run) -> StreamedBackup:
        assert self._session is not None
        self._configuration = ConfigurationFiles.read(connection, run.info)
        wanted = replace(self._wanted, include_wal=run.request.include_wal)
        if self._increment:
            wanted = replace(wanted, incremental_manifest=self._increment.begin(run))
        self._backup = StreamedBackup(self._session, connection, wanted, self._increment)
        return self._backup

    def page_checks(self, run: Run) -> PageChecks | None:
        """The server verifies its own pages as it sends them."""
        return None

    def copy(self, archives: ArchiveSet, run: Run) -> None:
        assert self._backup is not None
        self._backup.receive(archives, run, in_recovery=self._metadata.in_recovery)
        names = {oid: name for name, oid, _ in self._metadata.tablespaces}
        run.info.tablespaces = [
            Tablespace(names.get(tablespace.oid, str(tablespace.oid)), tablespace.oid, tablespace.location)
            for tablespace in self._backup.received
            if tablespace.oid is not None
        ] or None

    def last_members(
        self, archives: ArchiveSet, start: BackupStart, stop: BackupStop
    ) -> tuple[int, Iterator[tuple[Member, Content]]]:
        assert self._backup is not None
        return self._backup.manifest.size + (1 << 20), self._backup.last_members(stop)

    def finish(self, archives: ArchiveSet, run: Run) -> None:
        """Store the manifest and the configuration files as objects of their own."""
        assert self._backup is not None
        info, manifest = run.info, self._backup.manifest
        key = run.layout.manifest(info.backup_id)
        call_interruptibly(lambda: run.store.put_stream(key, manifest, tags=run.tags))
        self._configuration.store(run)
        info.size = info.deduplicated_size = archives.stored_size
        # A segment that the end only touches isn't needed, and on an idle server not finished for long.
        last = max(self._backup.end_lsn - 1, self._backup.start_lsn)
        info.end_wal = segment_name(info.timeline or 0, last, info.xlog_segment_size)

    def close(self) -> None:
        """End the replication connection, if it isn't yet."""
        if self._session:
            self._session.close()


class StreamedBackup:
    """The server's side of a streamed backup (``lifecycle.ServerBackup``), and what comes out of the stream."""

    def __init__(
        self,
        session: ReplicationSession,
        connection: Connection,
        wanted: BaseBackupOptions,
        increment: StreamedIncrement | None = None,
    ) -> None:
        """``wanted`` has all that is asked for but the label and how the checkpoint is made."""
        self._increment = increment
        self._session = session
        self._connection = connection
        self._wanted = wanted
        self._archives: ArchiveSet | None = None
        self._label: tuple[Member, bytes] | None = None
        self._control: tuple[Member, bytes] | None = None
        self._files = 0
        self._total = 0
        self.manifest = ManifestSpool()
        self.received: list[StreamedTablespace] = []
        """The tablespaces that there is something of."""
        self.start_lsn = 0
        self.end_lsn = 0

    def start(self, label: str, *, immediate_checkpoint: bool) -> BackupStart:
        """Let the server begin and announce its tablespaces; waits for its checkpoint."""
        began = _server_time(self._connection)
        self._data_mode = _data_directory_mode(self._connection)
        if self._wanted.include_wal:
            _keep_wal(self._session)
        start = self._begin(replace(self._wanted, label=label, fast=immediate_checkpoint))
        self.start_lsn = start.lsn
        self._timeline = start.timeline
        self._total = sum(tablespace.size for tablespace in start.tablespaces)
        return BackupStart(start.lsn, began, start.timeline)

    def _begin(self, wanted: BaseBackupOptions) -> StreamStart:
        self._backup = BaseBackup(self._session, wanted)
        try:
            return self._backup.begin()
        except ServerRefusal as error:
            if self._increment is None or wanted.incremental_manifest is None:
                raise
            self._increment.refused(error)
        self._session.finish()
        return self._begin(replace(wanted, incremental_manifest=None))

    def receive(self, archives: ArchiveSet, run: Run, *, in_recovery: bool) -> None:
        """Let the archives have what the server sends, until all of it is stored."""
        self._archives = archives
        log.info("the server sends about %.1f MiB", self._total / 2**20)
        archives.receive(lambda lanes: self._deal(lanes, in_recovery), self._total, run, known=self._increment is None)

    def stop(self) -> BackupStop:
        """Take the manifest and the end; before them the server waits for its archiver, unless WAL is included."""
        try:
            for piece in self._backup.manifest():
                self.manifest.add(piece)
            end = self._backup.end()
        except ServerRefusal as error:
            raise _explained(error) from error
        if end.timeline != self._timeline:
            raise OperationError(
                f"the server moved from timeline {self._timeline} to {end.timeline} during the backup",
                hint="take the backup again",
            )
        self.manifest.finish()
        if self.manifest.count != self._files:
            raise IntegrityError(f"{self._files} files came, but the manifest lists {self.manifest.count}")
        self.end_lsn = end.lsn
        return BackupStop(
            end.lsn, _server_time(self._connection), end.timeline, self._kept(self._label, LABEL)[1].decode()
        )

    def switch_wal(self) -> None:
        """The server has done so already."""

    def create_restore_point(self, name: str) -> None:
        create_restore_point(self._connection, name)

    def close(self) -> None:
        """End the session; the transfers first, if they aren't at their end, since they read from it."""
        self._session.interrupt()
        if self._archives and self._archives.is_receiving:
            self._archives.abort()
        if not (self._archives and self._archives.is_receiving):
            self._session.close()

    def last_members(self, stop: BackupStop) -> Iterator[tuple[Member, Content]]:
        """Yield ``pg_control``, the manifest and the label."""
        member, control = self._kept(self._control, CONTROL_FILE)
        yield member, iter([control])
        member, label = self._kept(self._label, LABEL)
        owner = replace(member, mtime=stop.time.timestamp())
        yield replace(owner, name=MANIFEST, mode=MANIFEST_MODE, size=self.manifest.size), iter(self.manifest)
        yield replace(owner, mode=LABEL_MODE, size=len(label)), iter([label])

    def _deal(self, lanes: Lanes, in_recovery: bool) -> None:
        try:
            for archive in self._backup.archives():
                if archive.tablespace.oid is None:
                    self._deal_data(lanes, archive, in_recovery)
                else:
                    self._deal_tablespace(lanes, archive)
        except ServerRefusal as error:
            raise _explained(error) from error
        log.info("all files have come")

    def _deal_tablespace(self, lanes: Lanes, archive: TarStream) -> None:
        lanes.begin(str(archive.tablespace.oid), archive.tablespace.size)
        empty = True
        for member, content in archive.members:
            empty = False
            self._files += member.kind == "file"
            lanes.deal(member, content)
        if empty:
            log.info("tablespace %s was dropped meanwhile", archive.tablespace.oid)
        else:
            self.received.append(archive.tablespace)

    def _deal_data(self, lanes: Lanes, archive: TarStream, in_recovery: bool) -> None:
        lanes.begin(DATA, archive.tablespace.size)
        root = True
        for member, content in archive.members:
            name = member.name.removeprefix("./")
            if root:
                lanes.deal(replace(member, name=".", kind="directory", mode=self._data_mode, size=0), ())
                root = False
            self._files += member.kind == "file" and _SEGMENT.fullmatch(name) is None
            if name == LABEL:
                self._label = member, b"".join(map(bytes, content))
                check_label(self._label[1].decode(), self.start_lsn, self._timeline, in_recovery=in_recovery)
            elif name == CONTROL_FILE:
                self._control = member, b"".join(map(bytes, content))
            elif not (name in _SIGNAL_FILES or (member.kind == "symlink" and name.startswith(_LINKS_PREFIX))):
                lanes.deal(member, content)

    @staticmethod
    def _kept(found: tuple[Member, bytes] | None, name: str) -> tuple[Member, bytes]:
        if found is None:
            raise IntegrityError(f"the server's stream has no {name}")
        return found


def check_label(label: str, start_lsn: int, timeline: int, *, in_recovery: bool) -> None:
    """Check that a label is of the backup that began there, on a server that is in recovery or isn't, as we were told.

    ``OperationError`` if the two connections led to a primary and its replica, ``IntegrityError`` otherwise.
    """
    if ("BACKUP FROM: standby\n" in label) != in_recovery:  # PostgreSQL 13 has another word for a primary
        raise OperationError(
            "the replication connection leads to another server than the ordinary one, which is a "
            + ("standby" if in_recovery else "primary"),
            hint="both must reach the same server: check the addresses, and what a proxy in between does",
        )
    if (label_start(label), label_timeline(label)) != (start_lsn, timeline):
        raise IntegrityError("the backup_label in the server's stream is of another backup")


def _keep_wal(session: ReplicationSession) -> None:
    """Make the server keep its WAL while this session lasts, from before the backup's begin on."""
    name = f"barman_cloud_{secrets.token_hex(6)}"
    try:
        session.query(f"CREATE_REPLICATION_SLOT {name} TEMPORARY PHYSICAL RESERVE_WAL")
    except ServerRefusal as error:
        log.warning(
            "no temporary replication slot: if the server removes WAL before it is sent, the backup fails (%s)", error
        )


def _explained(error: ServerRefusal) -> OperationError:
    """Return an error of the stream with what to do about it, where the server doesn't say that."""
    hint = error.hint or {
        _WAL_GONE: "raise max_replication_slots or wal_keep_size on the server, or leave out --include-wal",
        _CORRUPTED: "keep older backups; the server's log names the blocks; --no-verify-checksums stores them",
    }.get(error.sqlstate)
    return OperationError(str(error), hint=hint)


def _server_time(connection: Connection) -> datetime:
    """Return the server's time; if that connection is gone, which a backup doesn't depend on, our own."""
    try:
        row = connection.execute("SELECT pg_catalog.now()::pg_catalog.text").fetchone()
        assert row is not None
        return datetime.fromisoformat(row[0])
    except psycopg.Error as error:
        log.warning("the time of this machine is taken for the server's: %s", first_line(error))
        return datetime.now().astimezone()


def _data_directory_mode(connection: Connection) -> int:
    row = connection.execute("SELECT pg_catalog.current_setting('data_directory_mode')").fetchone()
    assert row is not None
    return int(row[0], 8)
