"""Restoring a base backup: check everything, extract the archives in parallel, finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from barman_cloud import logs
from barman_cloud.catalog.backup_info import STREAMED, BackupInfo
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import ObjectNotFoundError, OperationError, UnexpectedError
from barman_cloud.report import progress
from barman_cloud.restore import journal, room
from barman_cloud.restore.chain import Chain, open_chain
from barman_cloud.restore.combined import verify_combined
from barman_cloud.restore.delta import (
    Comparison,
    compare,
    need_manifest,
    prepare,
    require_no_server,
    require_same_system,
    strangers,
)
from barman_cloud.restore.extraction import Extraction
from barman_cloud.restore.finish import SET_ASIDE, finish, reopen
from barman_cloud.restore.journal import Journal
from barman_cloud.restore.layer import LABEL
from barman_cloud.restore.merge import Merge, fits
from barman_cloud.restore.plan import RestorePlan, make_plan
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.restore.stale_maps import clear_in_place, warn_of_stale_maps
from barman_cloud.restore.stored_manifest import entries, fetch_manifest
from barman_cloud.restore.tree import Outcome, Tree, split
from barman_cloud.restore.verify import WrittenFiles
from barman_cloud.restore.worker import Window, read_archive
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did. Sizes in bytes; ``seconds`` includes making everything durable."""

    files: int
    """Files that were written."""
    size: int
    stored_size: int
    verified: int | None
    """Files that were compared with the backup's manifest; None if it has none."""
    seconds: float
    comparison: Comparison | None = None
    """With ``delta``: what was kept and removed."""


def restore_backup(
    store: ObjectStore,
    layout: Layout,
    info: BackupInfo,
    target: Path,
    tablespaces: Mapping[str, str],
    jobs: int,
    settings: RecoverySettings | None = None,
    *,
    delta: bool = False,
    force: bool = False,
) -> RestoreReport:
    """Restore ``info`` into ``target`` and its tablespaces; ``tablespaces`` maps names to new places.

    When this returns, everything is on disk and PostgreSQL can be started. Until then the directory has a journal, and
    the same call goes on where an interrupted one stopped. Raises ``OperationError`` for directories that aren't empty
    (unless ``delta``, and they are of the same cluster), missing archives, a backup without label and too little room
    (unless ``force``), ``UnsafeArchiveError`` for an archive that would write elsewhere, ``IntegrityError`` for damaged
    content. An incremental backup is put together with those that it builds on: in memory while the files are
    written (``merge``), or in place, oldest first.
    """
    began = time.monotonic()
    work = progress.current()
    work.phase("looking at the backup")
    plan, interrupted = make_plan(store, layout, info, target, tablespaces, delta=delta)
    files = WrittenFiles()
    with ExitStack() as stack:
        if interrupted:
            stack.enter_context(closing(interrupted))
        _check_status(store, plan)
        chain = open_chain(store, layout, plan.sources, stack) if plan.older else None
        comparison = look_before(
            store, layout, plan, jobs, files, force=force, interrupted=interrupted is not None, chain=chain
        )
        notes = _open_directories(stack, plan, interrupted)
        trees = _open_trees(stack, plan)
        if comparison is not None:
            prepare(plan, trees, comparison)
            notes.forget()
        extraction = Extraction(store, trees, notes, files, jobs, comparison)
        older, verify = _extract(extraction, plan, chain, is_new=interrupted is None and comparison is None)
        work.phase("making everything durable")
        try:
            verified = finish(plan, trees, notes, files, settings, verify)
        except OSError as error:
            raise UnexpectedError(f"{plan.target}: can't be completed: {error}") from error
    outcomes = [*older, *(outcome for tree in trees.values() for outcome in tree.outcomes.values())]
    report = RestoreReport(
        files=sum(outcome.files for outcome in outcomes),
        size=sum(outcome.size for outcome in outcomes),
        stored_size=plan.stored_size,
        verified=verified,
        seconds=time.monotonic() - began,
        comparison=comparison,
    )
    _tell(report, plan, info)
    _tell_of_configuration(store, layout, info)
    return report


def look_before(
    store: ObjectStore,
    layout: Layout,
    plan: RestorePlan,
    jobs: int,
    files: WrittenFiles,
    *,
    force: bool = False,
    interrupted: bool = False,
    chain: Chain | None = None,
) -> Comparison | None:
    """Look whether there is enough room and, for a delta restore, at what is there; nothing is changed yet.

    ``chain`` is that of an incremental backup.

    Returns what can be kept, None unless ``plan.delta``. Raises ``OperationError`` as ``restore_backup`` does.
    """
    with ExitStack() as stack:
        manifest: list[BinaryIO | None] = []

        def fetched() -> BinaryIO | None:
            if not manifest:
                manifest.append(fetch_manifest(store, layout, plan.source))
                if manifest[0] is not None:
                    stack.enter_context(manifest[0])
            return manifest[0]

        def exactly() -> Mapping[str, int] | None:
            found = fetched()
            return None if found is None else room.exact(entries(found), plan.directories)

        if not plan.delta:
            # How long the files of a chain become, no manifest tells.
            room.require(plan, (lambda: None) if plan.older else exactly, force=force)
            return None
        if interrupted:
            require_no_server(plan.target)
        else:
            require_same_system(plan.target, plan.info.systemid, plan.info.backup_id)
        found = chain.restored_files() if chain else entries(need_manifest(fetched(), plan.info.backup_id))
        room.require(plan, (lambda: None) if chain else exactly, force=force)
        trees = _open_trees(stack, plan)
        progress.current().phase("comparing with what is there")
        comparison = compare(found, trees, jobs, files)
        comparison.removed = sum(not directory for _, directory in strangers(trees, comparison.listed))
        return comparison


def _open_directories(stack: ExitStack, plan: RestorePlan, interrupted: Journal | None) -> Journal:
    """Make the directories that are missing, and return the journal."""
    plan.target.mkdir(mode=0o700, parents=True, exist_ok=True)
    notes = interrupted or stack.enter_context(closing(journal.start(plan.target, plan.identity)))
    # The directory of a tablespace may be in the recovery directory, which without a journal has to be empty.
    for directory in plan.directories.values():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not plan.delta:
        reopen(plan.target)
    return notes


def _open_trees(stack: ExitStack, plan: RestorePlan) -> dict[str, Tree]:
    """Open those directories that are there."""
    return {
        base: stack.enter_context(closing(Tree(directory, SET_ASIDE if base == DATA else None)))
        for base, directory in plan.directories.items()
        if directory.exists()
    }


def _tell(report: RestoreReport, plan: RestorePlan, info: BackupInfo) -> None:
    log.info(
        "restored backup %s into %s: %d files, %.1f MiB (%.1f MiB stored) in %.1f s; recovery needs the WAL from %s on",
        info.backup_id,
        plan.target,
        report.files,
        report.size / 2**20,
        report.stored_size / 2**20,
        report.seconds,
        info.begin_wal,
    )
    if report.verified is not None:
        log.info("all %d files of the backup's manifest have the right size and checksum", report.verified)


def _tell_of_configuration(store: ObjectStore, layout: Layout, info: BackupInfo) -> None:
    """Say where the configuration files are that were outside PGDATA, if a streamed backup has them."""
    if info.mode != STREAMED or not info.configuration_outside:
        return
    key = layout.configuration(info.backup_id)
    try:
        store.head(key)
    except ObjectNotFoundError:
        where = "aren't in the backup"
    else:
        where = f"are in {store.object_url(key)}"
    log.warning(
        "%s were outside PGDATA and %s; PostgreSQL needs them to start", ", ".join(info.configuration_outside), where
    )


def _check_status(store: ObjectStore, plan: RestorePlan) -> None:
    """Refuse a backup that isn't complete, unless its archives hold the label without which it must not be started."""
    info = plan.info
    if info.is_complete:
        return
    log.info("backup %s is %s: looking for its %s first", info.backup_id, info.status, LABEL)
    # The label is the last member of the last archive of PGDATA.
    for archive in reversed([archive for archive in plan.archives if archive.base == DATA]):
        members = read_archive(store, archive, window=Window.of_each(1), stop=threading.Event())
        if any(split(member.name) == (LABEL,) for member, _ in members):
            return
    raise OperationError(
        f"backup {info.backup_id} is {info.status} and holds no {LABEL}",
        hint="PostgreSQL would start on it and silently be corrupt; restore another backup",
    )


def _extract(
    extraction: Extraction, plan: RestorePlan, chain: Chain | None, *, is_new: bool
) -> tuple[list[Outcome], Callable[[], int] | None]:
    """Extract everything. Returns what older backups left, and how the result is verified if not as a full backup."""
    if chain is None:
        extraction.extract(plan.source)
        return [], None
    notes = extraction.notes
    if is_new and fits(chain.changed_size):
        notes.add_merging()
    warn_of_stale_maps(chain)
    merge = Merge(chain.maps) if notes.merging else None
    older = extraction.extract_chain(chain, merge)
    trees, files = extraction.trees, extraction.files

    def verify() -> int:
        if merge is None:
            clear_in_place(chain, trees)
        made = merge.made if merge else {}
        return verify_combined(chain.manifests[-1], trees, files, extraction.jobs, plan.info.version, made)

    return older, verify
