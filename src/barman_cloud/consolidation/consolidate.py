"""Making a full backup out of a chain: its id, and ``backup.info`` from STARTED to DONE or FAILED.

No server is asked and nothing is written to a disk. The chain is only read. The new backup is of the same moment as the
chain's member that it is made of, and its id is that of the next free second: whoever sorts backups by their ids, as
retention policies and Barman do, finds it where its WAL says that it belongs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestReader, ManifestSpool
from barman_cloud.backup.archive_backup import BackupOptions, make_uploads
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.backup.lanes import Lanes
from barman_cloud.backup.lifecycle import Run, refuse_if_deleted
from barman_cloud.backup.naming import unused_backup_id, warn_of_same_name
from barman_cloud.backup.record import Record, reason_of, save_in_time
from barman_cloud.backup.signals import interruptible
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.needed_wal import missing_segments
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.consolidation.held_blocks import HeldBlocks
from barman_cloud.consolidation.members import MergedMembers, OpenChain
from barman_cloud.errors import AccessDeniedError, BarmanCloudError, IntegrityError, ObjectNotFoundError, OperationError
from barman_cloud.incremental.chains import plan_chain
from barman_cloud.incremental.visibility import StaleMaps
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.restore.chain import find_chain
from barman_cloud.restore.layer import Layer
from barman_cloud.restore.source import ArchiveSource, find_source
from barman_cloud.restore.stored_manifest import manifest_chunks
from barman_cloud.restore.verify import is_of

log = logs.get_logger(__name__)

MEMORY = 1 << 30
"""Bytes of changed blocks that are held at a time, if nothing else is asked for."""
_LARGEST_CONFIGURATION = 64 << 20
_ID = "%Y%m%dT%H%M%S"
_ANOTHER = "consolidate another backup, or take a full one"


@dataclass(frozen=True, slots=True)
class ConsolidationOptions:
    """What the user asked for. Memory in bytes."""

    archives: BackupOptions = field(default_factory=BackupOptions)
    """How the new archives are made, their name and their tags; what concerns a server counts for nothing."""
    memory: int = MEMORY


def consolidate(catalog: Catalog, info: BackupInfo, options: ConsolidationOptions) -> BackupInfo:
    """Make a full backup of the state of ``info``, which is incremental, and return its DONE ``backup.info``.

    ``OperationError`` or ``IntegrityError`` before anything is written if the chain can't be restored. Any later
    failure, signals included, raises ``OperationError`` after the catalog says FAILED.
    """
    began = time.monotonic()
    work = progress.current()
    work.phase("looking at the chain")
    store, layout, request = catalog.store, catalog.layout, options.archives.request
    with interruptible(), ExitStack() as at_end:
        stop = threading.Event()
        chain = call_interruptibly(lambda: _open(catalog, info, options.archives.jobs, stop))
        if name := request.backup_name:
            call_interruptibly(lambda: warn_of_same_name(store, layout, name))
        new = _begin(info, call_interruptibly(lambda: _id_after(catalog, info.backup_id)), name)
        run = Run(store, layout, new, request)
        record = Record(store, layout, new, request.tags)
        at_end.callback(run.heartbeat.stop)
        job = _Consolidation(chain, run, options)
        try:
            call_interruptibly(record.save)
            run.heartbeat.start()
            older = counted(chain.newest, "older backup")
            log.info("backup %s is made of %s and %s", new.backup_id, info.backup_id, older)
            job.copy()
            _describe_end(new, info, job)
            call_interruptibly(record.require_untouched)
        except BaseException as error:
            stop.set()
            raise _failure(new, record, job, error) from error
        new.status = backup_info.DONE
        try:
            call_interruptibly(record.save)
        except BaseException as error:
            raise OperationError(
                f"backup {new.backup_id} is complete but backup.info could not be stored: {reason_of(error)}",
                hint="its archives are useless without it; consolidate again",
            ) from error
        try:
            call_interruptibly(lambda: refuse_if_deleted(run, job.check_stored))
        except OperationError as error:
            raise _failure(new, record, job, error) from error
        log.info("backup %s is done after %.1f s", new.backup_id, time.monotonic() - began)
        work.notes["made_of"] = [source.info.backup_id for source in chain.sources]
        work.notes["wal"] = (
            "included" if job.members.holds_wal else call_interruptibly(partial(_state_of_wal, catalog, new))
        )
    return new


def _open(catalog: Catalog, info: BackupInfo, jobs: int, stop: threading.Event) -> OpenChain:
    older = find_chain(catalog, info)
    if not older:
        raise OperationError(f"backup {info.backup_id} is a full backup already", hint="name an incremental one")
    sources = [find_source(catalog.store, catalog.layout, backup) for backup in (*older, info)]
    manifests = [_manifest(catalog, source) for source in sources]
    names = [source.info.backup_id for source in sources]
    paths = ((entry.path for entry in ManifestReader(iter(manifest))) for manifest in manifests)
    plan = plan_chain(list(paths), names)
    maps = StaleMaps(plan, [source.info.version for source in sources])
    return OpenChain(catalog.store, sources, manifests, plan, maps, jobs, stop)


def _manifest(catalog: Catalog, source: ArchiveSource) -> ManifestSpool:
    backup_id = source.info.backup_id
    found = ManifestSpool()
    for chunk in manifest_chunks(catalog.store, catalog.layout, source):
        found.add(chunk)
    if not found.size:
        raise OperationError(
            f"backup {backup_id} has no backup_manifest, neither beside its archives nor in the last one",
            hint=f"if it is still on the host of Barman's server, store it as "
            f"{catalog.store.object_url(catalog.layout.manifest(backup_id))}",
        )
    try:
        found.finish()
    except IntegrityError as error:
        raise IntegrityError(f"the manifest of backup {backup_id} fails its own checksum", hint=_ANOTHER) from error
    reader = ManifestReader(iter(found))
    for _ in reader:
        pass
    if not is_of(reader.wal_ranges, source.info):
        raise IntegrityError(f"the backup_manifest of {backup_id} is of another backup", hint=_ANOTHER)
    return found


def _id_after(catalog: Catalog, backup_id: str) -> str:
    """Return the id of the next second that no backup has; credentials that may not list are trusted with the first."""
    try:
        moment = datetime.strptime(backup_id, _ID)
    except ValueError:
        return unused_backup_id(catalog.store, catalog.layout)
    while True:
        moment += timedelta(seconds=1)
        candidate = moment.strftime(_ID)
        try:
            level = catalog.store.list_level(catalog.layout.backup_dir(candidate))
        except AccessDeniedError:
            return candidate
        if not level.objects and not level.folders:
            return candidate


def _begin(info: BackupInfo, backup_id: str, name: str | None) -> BackupInfo:
    return replace(
        info, backup_id=backup_id, backup_name=name, status=backup_info.STARTED, parent_backup_id=None,
        children_backup_ids=None, deletion=None, error=None, end_time=None, end_wal=None, end_xlog=None,
        end_offset=None, backup_label=None, copy_stats=None, size=None, deduplicated_size=None, compression=None,
        encryption=None,
    )  # fmt: skip


def _describe_end(new: BackupInfo, info: BackupInfo, job: _Consolidation) -> None:
    new.end_time, new.end_wal, new.end_xlog, new.end_offset = (
        info.end_time,
        info.end_wal,
        info.end_xlog,
        info.end_offset,
    )
    new.backup_label = job.members.label.decode("utf-8", "backslashreplace")
    new.size = new.deduplicated_size = job.archives.stored_size
    new.copy_stats = job.archives.copy_stats()


def _failure(new: BackupInfo, record: Record, job: _Consolidation, error: BaseException) -> OperationError:
    """Clean up after ``error``, let the catalog say FAILED, and return what to raise."""
    log.debug("backup %s fails", new.backup_id, exc_info=error)
    new.status = backup_info.FAILED
    new.error = f"failure consolidating backups ({reason_of(error)})"
    new.end_time = None
    new.copy_stats = None
    try:
        job.archives.abort()
    except Exception as problem:  # noqa: BLE001 - the first error is the one to report
        log.warning("cleaning up after the failed backup: %s", reason_of(problem))
    save_in_time(record)
    return OperationError(f"backup {new.backup_id} failed: {reason_of(error)}", hint=getattr(error, "hint", None))


def _state_of_wal(catalog: Catalog, new: BackupInfo) -> str:
    """Return whether the WAL that the new backup needs is there, with a WARNING if a deletion of the chain took it."""
    try:
        missing = missing_segments(WalArchive(catalog.store, catalog.layout), new)
    except BarmanCloudError as error:
        log.info("the WAL of backup %s is not looked for: %s", new.backup_id, error)
        return "unknown"
    if missing:
        log.warning(
            "backup %s can't become consistent without WAL that the archive lacks: %s",
            new.backup_id,
            ", ".join(missing[:5]),
        )
    return "missing" if missing else "archived"


class _Consolidation:
    """The copying, with what has to be stopped if it fails."""

    def __init__(self, chain: OpenChain, run: Run, options: ConsolidationOptions) -> None:
        self._chain = chain
        self._run = run
        self._layers = [
            Layer(chain.plan, number, source.info.backup_id, chain.entries(number))
            for number, source in enumerate(chain.sources)
        ]
        increments = {number: layer for number, layer in enumerate(self._layers) if number}
        self._held = HeldBlocks(chain, increments, chain.maps, options.archives.jobs, options.memory)
        self.members = MergedMembers(chain, self._layers, self._held)
        self.archives = ArchiveSet(
            make_uploads(options.archives, run.store, run.layout, run.info.backup_id), options.archives.jobs
        )

    def copy(self) -> None:
        """Make all objects of the new backup but ``backup.info``."""
        progress.current().phase("reading changed blocks")
        for layer, files in call_interruptibly(self._held.learn_all).items():
            if files != (planned := len(self._chain.plan.overlaid[layer])):
                raise IntegrityError(
                    f"the archives of backup {self._chain.sources[layer].info.backup_id} hold {files} of the {planned} "
                    "files of changed blocks that are needed of it",
                    hint=f"the backup is damaged; {_ANOTHER}",
                )
            self.members.files[layer] += files
        if not self._held.fits:
            log.info("the changed blocks don't fit into memory: the order of the files is looked for first")
            call_interruptibly(lambda: self._held.in_order(self.members.places()))
        sizes = self._chain.sizes()
        self.archives.receive(self._dealer(sizes), sum(sizes.values()), self._run)
        self.members.finish()
        size, _ = self.members.manifest()
        self.archives.add_last(self.members.last_members(), size + (1 << 20))
        self._store_manifest()
        self._copy_configuration()
        self.archives.store_sidecar()

    def check_stored(self, _run: Run, sizes: Mapping[str, int]) -> None:
        """Raise ``OperationError`` if an archive isn't among the objects (key to size)."""
        self.archives.check_stored(sizes)

    def _dealer(self, sizes: Mapping[str, int]) -> Callable[[Lanes], None]:
        return lambda lanes: self.members.deal(lanes, sizes)

    def _store_manifest(self) -> None:
        run = self._run
        _, content = self.members.manifest()
        key = run.layout.manifest(run.info.backup_id)
        call_interruptibly(lambda: run.store.put_stream(key, content, kind="metadata", tags=run.tags))

    def _copy_configuration(self) -> None:
        """Copy the configuration files from outside PGDATA that a streamed backup has beside its archives."""
        run = self._run
        source = run.layout.configuration(self._chain.sources[-1].info.backup_id)
        target = run.layout.configuration(run.info.backup_id)
        try:
            data = call_interruptibly(lambda: run.store.get(source, limit=_LARGEST_CONFIGURATION))
        except ObjectNotFoundError:
            return
        call_interruptibly(lambda: run.store.put(target, data, tags=run.tags))
