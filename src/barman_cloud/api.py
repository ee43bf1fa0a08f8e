"""The public Python API: what the commands do, as functions with typed values.

    from barman_cloud.api import Repository

    with Repository.open("s3://backups/prod", "main") as repository:
        info = repository.take_backup()
        repository.restore("latest", "/var/lib/postgresql/17/restored")

``docs/reference/python.md`` shows each call at work. Errors are those of ``barman_cloud.errors``. The commands are
made of the same calls, except ``wal-archive`` and ``wal-restore``: these two run once for each segment and load even
this module only with their spool; what they call is what :meth:`Repository.archive_wal` and
:meth:`Repository.fetch_wal` call.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions

if TYPE_CHECKING:
    from barman_cloud.backup.archive_backup import BackupOptions
    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.cleanup import CleanupOptions, CleanupReport
    from barman_cloud.catalog.dry_run import Writer
    from barman_cloud.catalog.receiver_state import ReceiverState
    from barman_cloud.catalog.removal import DeletionOptions
    from barman_cloud.consolidation.consolidate import ConsolidationOptions
    from barman_cloud.overview.model import Overview
    from barman_cloud.restore.archive_restore import RestoreReport
    from barman_cloud.restore.recovery_settings import RecoverySettings
    from barman_cloud.store.base import ObjectStore
    from barman_cloud.verify.drill import DrillOptions, DrillResult
    from barman_cloud.verify.findings import Finding, Report
    from barman_cloud.verify.limits import Limits
    from barman_cloud.verify.verify import VerifyOptions
    from barman_cloud.wal.archiver import ArchiveOptions

log = logs.get_logger(__name__)


class _Nowhere:
    """Where lines go that nobody reads."""

    def write(self, text: str) -> int:
        return len(text)


class Repository:
    """The backups and the WAL of one server below one URL. May be used by several threads."""

    def __init__(self, store: ObjectStore, server: str) -> None:
        self.store = store
        self.layout = Layout.of(store.url, server)
        self.catalog = Catalog(store, self.layout)

    @classmethod
    def open(
        cls,
        url: str,
        server: str,
        *,
        provider: str | None = None,
        options: StoreOptions | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Repository:
        """Open the repository of ``server`` at ``url``; no request is made.

        ``provider`` is the value of ``--cloud-provider``, for URLs that don't tell. Credentials and endpoints come from
        ``environ`` and the provider's files. Raises ``ConfigurationError`` and, for a server's name, ``UsageError``.
        """
        return cls(open_store(url, provider, options, environ), server)

    def __enter__(self) -> Repository:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the store's connections."""
        self.store.close()

    # Backups ------------------------------------------------------------------------------------------------------

    def backups(self) -> list[BackupInfo]:
        """Return all backups, whatever their status, by id. ``OperationError`` if one of them can't be read."""
        view = self.view()
        view.require_readable("the list")
        return list(view.backups.values())

    def view(self) -> CatalogView:
        """Return all backups, and apart from them those that can't be read. A wrong server name is a WARNING."""
        from barman_cloud.catalog import servers

        return servers.load(self.catalog)

    def backup(self, name: str) -> BackupInfo:
        """Return one backup by id, name or shortcut (``last``, ``first``, ``last-failed``).

        ``NotFoundError`` or ``SelectionError`` if there is none.
        """
        return self.catalog.load_one(self.resolve(name))

    def resolve(self, name: str) -> str:
        """Return the id that a name or shortcut means; an id is returned without a look into the catalog."""
        from barman_cloud.catalog import selection

        return selection.resolve(name, self.view)

    def take_backup(self, options: BackupOptions | None = None, *, streamed: bool = False) -> BackupInfo:
        """Take a backup and return its DONE ``backup.info``.

        Of the files of this machine, or ``streamed`` over a replication connection. ``OperationError`` for whatever
        goes wrong once PostgreSQL was reached; the catalog then has a FAILED backup.
        """
        from barman_cloud.backup.archive_backup import BackupOptions, run_backup, run_streamed_backup

        run = run_streamed_backup if streamed else run_backup
        return run(self.store, self.layout, options or BackupOptions())

    def consolidate(self, name: str, options: ConsolidationOptions | None = None) -> BackupInfo:
        """Make a full backup of the state of an incremental one (an id, name or shortcut of a complete backup).

        Returns its DONE ``backup.info``. The chain is left as it is. See ``consolidation.consolidate`` for the rest.
        """
        from barman_cloud.catalog import selection
        from barman_cloud.consolidation.consolidate import ConsolidationOptions, consolidate

        info = selection.resolve_for_restore(name, self.catalog)
        return consolidate(self.catalog, info, options or ConsolidationOptions())

    def restore(
        self,
        backup: str | BackupInfo,
        target: str | Path,
        *,
        tablespaces: Mapping[str, str] | None = None,
        jobs: int = 2,
        settings: RecoverySettings | None = None,
        delta: bool = False,
        force: bool = False,
    ) -> RestoreReport:
        """Restore a backup into ``target``; see ``restore.archive_restore.restore_backup`` for the rest.

        ``backup`` is an id, a name or a shortcut, of complete backups only; ``tablespaces`` maps names to directories.
        """
        from barman_cloud.catalog import selection
        from barman_cloud.restore.archive_restore import restore_backup

        info = selection.resolve_for_restore(backup, self.catalog) if isinstance(backup, str) else backup
        return restore_backup(
            self.store, self.layout, info, Path(target), tablespaces or {}, jobs, settings, delta=delta, force=force
        )

    # Retention ----------------------------------------------------------------------------------------------------

    def keep(self, name: str, target: str = "full") -> None:
        """Keep a backup regardless of policies: with all WAL since (``full``), or only its own (``standalone``)."""
        from barman_cloud.catalog import keep

        keep.keep(self.catalog, self.resolve(name), target)

    def release(self, name: str) -> None:
        """Stop keeping a backup."""
        from barman_cloud.catalog import keep

        keep.release(self.catalog, self.resolve(name))

    def kept(self, name: str) -> str | None:
        """Return how a backup is kept: ``full``, ``standalone`` or None."""
        from barman_cloud.catalog import keep

        return keep.read(self.catalog, self.resolve(name))

    def delete(
        self,
        name: str,
        *,
        minimum_redundancy: int = 0,
        options: DeletionOptions | None = None,
        out: Writer | None = None,
        with_children: bool = False,
    ) -> None:
        """Delete one backup, ``with_children`` all that build on it too, and the WAL that only they needed.

        ``out`` gets the lines that the command prints. ``OperationError`` if one is kept, if others build on it (unless
        ``with_children``), or if too few would remain.
        """
        from barman_cloud.catalog import deletion, selection
        from barman_cloud.catalog.removal import DeletionOptions
        from barman_cloud.snapshots.base import SnapshotOptions
        from barman_cloud.snapshots.deletion import with_snapshots

        view = self._whole_view()
        backup_id = selection.resolve(name, lambda: view)
        how = with_snapshots(options or DeletionOptions(), SnapshotOptions())
        deletion.delete_by_id(
            self.catalog, view, backup_id, minimum_redundancy, how, out or _Nowhere(), with_children=with_children
        )

    def enforce(
        self,
        policy: str,
        *,
        minimum_redundancy: int = 0,
        options: DeletionOptions | None = None,
        out: Writer | None = None,
    ) -> None:
        """Delete what ``policy`` calls obsolete: ``REDUNDANCY n`` or ``RECOVERY WINDOW OF n DAYS|WEEKS|MONTHS``."""
        from barman_cloud.catalog import deletion
        from barman_cloud.catalog.removal import DeletionOptions
        from barman_cloud.catalog.retention import parse_policy
        from barman_cloud.snapshots.base import SnapshotOptions
        from barman_cloud.snapshots.deletion import with_snapshots

        parsed = parse_policy(policy)
        view, now = self._whole_view(), datetime.now().astimezone()
        how = with_snapshots(options or DeletionOptions(), SnapshotOptions())
        deletion.delete_by_policy(self.catalog, view, parsed, minimum_redundancy, now, how, out or _Nowhere())

    def clean_up(self, options: CleanupOptions | None = None) -> CleanupReport:
        """Remove what runs that were killed left in the bucket, or tell what would be removed (``options.dry_run``)."""
        from barman_cloud.catalog.cleanup import CleanupOptions, clean_up

        return clean_up(self.catalog, options or CleanupOptions())

    def _whole_view(self) -> CatalogView:
        view = self.view()
        view.require_readable("a deletion")
        return view

    # WAL ----------------------------------------------------------------------------------------------------------

    def archive_wal(self, path: str | Path, options: ArchiveOptions | None = None) -> None:
        """Store one WAL file. On return it is durable in the store, with exactly this content.

        ``ConflictError`` if a file of that name and other content is there, or the archive is another cluster's;
        ``IntegrityError`` if the file isn't what its name says.
        """
        from barman_cloud.catalog.identity import ArchiveIdentity
        from barman_cloud.wal.archiver import ArchiveOptions, Archiver

        identity = ArchiveIdentity(self.store, self.layout)
        Archiver(self.store, self.layout, options or ArchiveOptions(), identity).archive(str(path))

    def fetch_wal(self, name: str, destination: str | Path) -> None:
        """Put one WAL file at ``destination``: complete, checked and fsynced. ``NotFoundError`` if there is none."""
        from barman_cloud.wal.restorer import Restorer, wal_name

        Restorer(self.store, self.layout).restore(wal_name(name), str(destination))

    # Do they work? ------------------------------------------------------------------------------------------------

    def check(self, limits: Limits | None = None, extra: Callable[[], tuple[Finding, ...]] | None = None) -> Report:
        """Judge backups and WAL from listings alone. ``extra`` returns findings from elsewhere, such as the server."""
        from barman_cloud.verify.check import check
        from barman_cloud.verify.limits import Limits

        return check(self.store, self.layout, limits or Limits(), extra=extra() if extra else ())

    def receiver(self) -> ReceiverState | None:
        """Return what ``wal-receive`` last said of itself; None if there never was one, or its word isn't understood.

        ``is_alive(now)`` of it tells whether it runs.
        """
        from barman_cloud.catalog import receiver_state

        try:
            return receiver_state.read(self.store, self.layout)
        except IntegrityError as error:
            log.warning("%s", error)
            return None

    def overview(self, *, storage_class: str | None = None) -> Overview:
        """Return what ``report`` shows, from listings: backups, WAL and its gaps, growth, an estimate of the cost."""
        from barman_cloud.overview.gather import gather
        from barman_cloud.overview.prices import TABLE

        return gather(self.store, self.layout, TABLE, storage_class)

    def verify(
        self, backup: str | None = None, *, newest: int | None = None, options: VerifyOptions | None = None
    ) -> Report:
        """Read a backup (an id, name or shortcut), the ``newest`` so many, or ``all``, and the WAL that they need."""
        from barman_cloud.verify.verify import VerifyOptions, verify

        return verify(self.catalog, backup, newest, options or VerifyOptions())

    def drill(
        self, backup: str | None = None, *, settings: RecoverySettings, options: DrillOptions | None = None
    ) -> DrillResult:
        """Restore a backup, recover it as ``settings`` say, start PostgreSQL on it in private, and throw it away.

        ``backup`` is an id, name or shortcut; None: the newest that can reach the target. See ``verify.drill.drill``.
        """
        from barman_cloud.verify.drill import DrillOptions, drill

        return drill(self.catalog, backup, settings, options or DrillOptions())
