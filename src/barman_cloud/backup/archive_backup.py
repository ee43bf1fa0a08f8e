"""A base backup as tar archives in the object store, of a running server.

Order matters to recovery and is kept (PostgreSQL docs, "Making a Base Backup Using the Low Level API"): everything
else, then ``pg_control`` while the server is still in backup mode, then ``backup_label`` from the stop call. The last
archive of ``data`` holds these, the configuration files that lie outside PGDATA, and ``backup_manifest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from barman_cloud import logs
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import EntrySpool, WalRange, manifest_stream
from barman_cloud.archive.tar import Member
from barman_cloud.archive.throttle import Throttle
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.lifecycle import BackupRequest, Run, take_backup
from barman_cloud.backup.members import Content, describe
from barman_cloud.backup.scan import CONTROL_FILE, Tree, scan_data_directory, scan_tablespace
from barman_cloud.backup.server_files import (
    external_files,
    external_member,
    require_backup_mode_here,
    visible_data_directory,
)
from barman_cloud.backup.worker import Uploads
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.postgres.backup_mode import BackupStart, BackupStop
from barman_cloud.postgres.connection import ServerMetadata
from barman_cloud.postgres.control_file import read_control_file
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

SERVER_NAME = "cloud"
"""What ``backup.info`` and the backup's label call the server: a constant, as Barman writes it."""

MANIFEST = "backup_manifest"
LABEL = "backup_label"

_LABEL_MODE = 0o644
_MANIFEST_MODE = 0o600


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """What the user asked for. Sizes in bytes, bandwidth in bytes per second."""

    request: BackupRequest = field(default_factory=BackupRequest)
    jobs: int = 2
    compression: str | None = None
    level: int | None = None
    max_archive_size: int = 100 << 30
    min_chunk_size: int | None = None
    max_bandwidth: int | None = None


def run_backup(store: ObjectStore, layout: Layout, options: BackupOptions) -> BackupInfo:
    """Back up the cluster that ``options.request.connection`` leads to, whose files must be visible here.

    Returns the DONE ``backup.info``; errors are those of :func:`lifecycle.take_backup`.
    """
    return take_backup(store, layout, options.request, ArchiveMethod(options))


def make_uploads(options: BackupOptions, store: ObjectStore, layout: Layout, backup_id: str) -> Uploads:
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
    )


class ArchiveMethod:
    """The copy method (``lifecycle.CopyMethod``) of tar archives."""

    server_name = SERVER_NAME

    def __init__(self, options: BackupOptions) -> None:
        self._options = options
        self._archives: ArchiveSet | None = None
        self._control = b""

    def check(self) -> None:
        """Nothing can be checked before the server was asked where its files are."""

    def prepare(self, metadata: ServerMetadata) -> None:
        """Check that the data directory of this very server, its tablespaces and its configuration are visible."""
        self._metadata = metadata
        self._root = visible_data_directory(metadata)
        self._external = external_files(self._root, metadata)

    def copy(self, run: Run) -> None:
        """Archive tablespaces and PGDATA, then read ``pg_control``, as the last file of the copy."""
        require_backup_mode_here(self._root, parse_lsn(str(run.info.begin_xlog)))
        uploads = make_uploads(self._options, run.store, run.layout, run.info.backup_id)
        self._archives = ArchiveSet(uploads, self._options.jobs)
        self._archives.make(self._scan(), run)
        self._control = read_control_file(Path(self._root, CONTROL_FILE))

    def finish(self, run: Run, start: BackupStart, stop: BackupStop) -> dict[str, Any]:
        """Store the last archive and the sidecar."""
        assert self._archives is not None
        size = sum(spool.size for spool in self._archives.spools) + (1 << 20)
        self._archives.add_last(self._last_members(self._archives, start, stop), size)
        self._archives.store_sidecar()
        return self._archives.copy_stats()

    def check_stored(self, run: Run, sizes: Mapping[str, int]) -> None:
        assert self._archives is not None
        self._archives.check_stored(sizes)

    def abort(self) -> None:
        """Abort all uploads."""
        if self._archives:
            self._archives.abort()

    def _scan(self) -> list[Tree]:
        metadata = self._metadata
        trees = [scan_tablespace(oid, location, metadata.version) for _, oid, location in metadata.tablespaces]
        tablespaces = [(oid, location) for _, oid, location in metadata.tablespaces]
        replaced = [Path(file).name for file in self._external]
        trees.append(scan_data_directory(self._root, tablespaces, replaced=replaced))
        return trees

    def _last_members(
        self, archives: ArchiveSet, start: BackupStart, stop: BackupStop
    ) -> Iterator[tuple[Member, Content]]:
        spool = EntrySpool()
        member = replace(describe(CONTROL_FILE, "file", Path(self._root, CONTROL_FILE).stat()), size=len(self._control))
        spool.add(member.name, member.size, member.mtime, crc32c(self._control))
        yield member, iter([self._control])
        for path in self._external:
            yield from external_member(path, spool)

        label = stop.label.encode()
        time = stop.time.timestamp()
        owner = describe("", "file", Path(self._root).stat())
        spool.add(LABEL, len(label), time, crc32c(label))
        size, manifest = manifest_stream(
            [*archives.spools, spool],
            [WalRange(start.timeline, start.lsn, stop.lsn)],
            int(self._metadata.system_identifier) if self._metadata.version >= 170000 else None,
        )
        yield replace(owner, name=MANIFEST, mode=_MANIFEST_MODE, size=size, mtime=time), manifest
        yield replace(owner, name=LABEL, mode=_LABEL_MODE, size=len(label), mtime=time), iter([label])
