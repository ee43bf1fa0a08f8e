"""The source of a backup whose files this machine sees, with the server in backup mode meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.archive.tar import Member
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lifecycle import Run
from barman_cloud.backup.local_increment import LocalIncrement
from barman_cloud.backup.members import Content, describe
from barman_cloud.backup.page_check import PageChecks
from barman_cloud.backup.readable import refusal, require_readable
from barman_cloud.backup.scan import CONTROL_FILE, ScannedBase, scan_data_directory, scan_tablespace
from barman_cloud.backup.server_files import (
    configuration_files,
    external_files,
    external_member,
    require_backup_mode_here,
    visible_data_directory,
)
from barman_cloud.backup.source import LABEL, LABEL_MODE, MANIFEST, MANIFEST_MODE
from barman_cloud.postgres import page_checksum
from barman_cloud.postgres.backup_mode import BackupMode, BackupStart, BackupStop, check_privileges
from barman_cloud.postgres.connection import Connection, ServerMetadata
from barman_cloud.postgres.control_file import read_control_file
from barman_cloud.postgres.wal import parse_lsn

log = logs.get_logger(__name__)

SERVER_NAME = "cloud"
"""What ``backup.info`` and the backup's label call the server: a constant, as Barman's cloud commands write it."""


class LocalFiles:
    """The member source (``source.MemberSource``) of local files."""

    server_name = SERVER_NAME
    mode: str | None = None
    failure = "uploading data"

    def __init__(self, *, verify_checksums: bool | None = None, increment: LocalIncrement | None = None) -> None:
        """``verify_checksums`` of pages while reading; None: if the cluster has them and NumPy is installed.

        With an ``increment`` the backup is an incremental one, if that is possible.
        """
        self._verify_checksums = verify_checksums
        self._increment = increment
        self._control = b""
        self._spools: Sequence[EntrySpool] = ()

    def check(self, connection: Connection) -> None:
        """Find the parent; nothing else can be checked before the server was asked where its files are."""
        if self._increment:
            self._increment.check(connection)

    def check_privileges(self, connection: Connection, metadata: ServerMetadata) -> None:
        check_privileges(connection, in_recovery=metadata.in_recovery)

    def prepare(self, metadata: ServerMetadata) -> None:
        """Check that all files of this very server can be read: data directory, tablespaces, configuration."""
        self._metadata = metadata
        self._root = visible_data_directory(metadata)
        self._external = external_files(self._root, metadata)
        try:
            trees = self._scan()
        except PermissionError as error:
            raise refusal(error) from error
        require_readable(trees, self._external)

    def begin(self, connection: Connection, run: Run) -> BackupMode:
        if self._increment:
            self._increment.begin(connection, run)
        return BackupMode(connection, run.fail, keepalive_interval=run.request.keepalive_interval)

    def page_checks(self, run: Run) -> PageChecks | None:
        metadata = self._metadata
        if self._verify_checksums is False:
            return None
        if metadata.data_checksums != "on":
            log.info("page checksums are not verified: data_checksums is %s", metadata.data_checksums)
            return None
        if not page_checksum.is_available():
            log.info("page checksums are not verified: that needs NumPy (pip install 'barman-cloud[verify]')")
            return None
        return PageChecks(parse_lsn(str(run.info.begin_xlog)), metadata.block_size, metadata.relation_segment_blocks)

    def copy(self, archives: ArchiveSet, run: Run) -> None:
        """Archive tablespaces and PGDATA, then read ``pg_control``, as the last file of the copy."""
        require_backup_mode_here(self._root, parse_lsn(str(run.info.begin_xlog)))
        trees = self._scan()
        for tree in trees:
            tree.log_notes()
        increment = self._increment.decide(run, self._root, trees, self._metadata) if self._increment else None
        archives.make(trees, run, increment)
        self._control = read_control_file(Path(self._root, CONTROL_FILE))

    def last_members(
        self, archives: ArchiveSet, start: BackupStart, stop: BackupStop
    ) -> tuple[int, Iterator[tuple[Member, Content]]]:
        size = sum(spool.size for spool in archives.spools) + (1 << 20)
        self._label = stop.label
        if self._increment:
            self._label = self._increment.label(stop.label, self._metadata.version)
        self._wal = WalRange(start.timeline, start.lsn, stop.lsn)
        self._spools = [*archives.spools, EntrySpool()]
        return size, self._last_members(self._spools[-1], stop)

    def finish(self, archives: ArchiveSet, run: Run) -> None:
        """Store the manifest as an object of its own, which increments on top of this backup need."""
        _, manifest = self._manifest()
        key = run.layout.manifest(run.info.backup_id)
        call_interruptibly(lambda: run.store.put_stream(key, manifest, kind="metadata", tags=run.tags))
        if self._is_incremental:
            run.info.backup_label = self._label
            run.info.size = run.info.deduplicated_size = archives.stored_size

    def _scan(self) -> list[ScannedBase]:
        metadata = self._metadata
        trees = [scan_tablespace(oid, location, metadata.version) for _, oid, location in metadata.tablespaces]
        tablespaces = [(oid, location) for _, oid, location in metadata.tablespaces]
        replaced = [Path(file).name for file in self._external]
        configuration = configuration_files(metadata)
        trees.append(scan_data_directory(self._root, tablespaces, replaced=replaced, configuration=configuration))
        return trees

    def _last_members(self, spool: EntrySpool, stop: BackupStop) -> Iterator[tuple[Member, Content]]:
        member = replace(describe(CONTROL_FILE, "file", Path(self._root, CONTROL_FILE).stat()), size=len(self._control))
        spool.add(member.name, member.size, member.mtime, crc32c(self._control))
        yield member, iter([self._control])
        for path in self._external:
            yield from external_member(path, spool)

        label = self._label.encode()
        time = stop.time.timestamp()
        owner = describe("", "file", Path(self._root).stat())
        spool.add(LABEL, len(label), time, crc32c(label))
        size, manifest = self._manifest()
        yield replace(owner, name=MANIFEST, mode=MANIFEST_MODE, size=size, mtime=time), manifest
        yield replace(owner, name=LABEL, mode=LABEL_MODE, size=len(label), mtime=time), iter([label])

    def _manifest(self) -> tuple[int, Iterator[bytes]]:
        """Return size and content of the manifest; that of an increment is of version 2, as its readers want it."""
        version = self._metadata.version
        has_identifier = version >= 170000 or self._is_incremental
        return manifest_stream(
            self._spools,
            [self._wal],
            int(self._metadata.system_identifier) if has_identifier else None,
            padded_lsns=version >= 190000,
        )

    @property
    def _is_incremental(self) -> bool:
        return self._increment is not None and self._increment.is_incremental
