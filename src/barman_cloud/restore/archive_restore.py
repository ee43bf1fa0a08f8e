"""Restoring a base backup: check everything, extract the archives in parallel, finish."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from barman_cloud import logs
from barman_cloud.catalog.backup_info import STREAMED, BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import ObjectNotFoundError, OperationError, UnexpectedError
from barman_cloud.report import progress
from barman_cloud.report.progress import Progress
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
from barman_cloud.restore.finish import SET_ASIDE, finish, reopen
from barman_cloud.restore.journal import Journal
from barman_cloud.restore.layer import LABEL, Layer, LayerOfArchive
from barman_cloud.restore.pipeline import run_all
from barman_cloud.restore.plan import RestorePlan, make_plan
from barman_cloud.restore.recovery_settings import RecoverySettings
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.stored_manifest import entries, fetch_manifest
from barman_cloud.restore.tree import Outcome, Tree, split
from barman_cloud.restore.verify import WrittenFiles
from barman_cloud.restore.worker import Window, extract_archive, read_archive
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
    content. An incremental backup is put on top of those that it builds on, oldest first, in the same files.
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
        comparison = look_before(store, layout, plan, jobs, files, force=force, interrupted=interrupted is not None)
        notes = _open_directories(stack, plan, interrupted)
        trees = _open_trees(stack, plan)
        if comparison is not None:
            prepare(plan, trees, comparison)
            notes.forget()
        older = _extract_chain(store, chain, trees, notes, jobs) if chain else []
        newest = chain.layer(len(plan.older)) if chain else None
        _extract(store, plan.source, trees, notes, files, jobs, comparison, newest)
        work.phase("making everything durable")
        verify = partial(verify_combined, chain.manifests[-1], trees, files, jobs, info.version) if chain else None
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
) -> Comparison | None:
    """Look whether there is enough room and, for a delta restore, at what is there; nothing is changed yet.

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
        found = need_manifest(fetched(), plan.info.backup_id)
        room.require(plan, exactly, force=force)
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


def _extract_chain(
    store: ObjectStore, chain: Chain, trees: Mapping[str, Tree], notes: Journal, jobs: int
) -> list[Outcome]:
    """Extract what the newest backup needs of the older ones, one after another; the newest is left to be done."""
    outcomes: list[Outcome] = []
    for number, source in enumerate(chain.sources[:-1]):
        outcomes += _extract(store, source, trees, notes, None, jobs, None, chain.layer(number))
    return outcomes


def _extract(
    store: ObjectStore,
    source: ArchiveSource,
    trees: Mapping[str, Tree],
    notes: Journal,
    files: WrittenFiles | None,
    jobs: int,
    comparison: Comparison | None,
    layer: Layer | None,
) -> list[Outcome]:
    """Extract what the journal doesn't know as extracted, the largest archives first.

    ``layer`` tells what to do with the members of a backup of a chain. Of an older one nothing but files counts.
    """
    turn = threading.Lock()
    archives = [archive for archive in source.archives if archive.base in trees]
    outcomes = [notes.finished[archive.key] for archive in archives if archive.key in notes.finished]
    is_older = layer is not None and not layer.is_newest

    def done(order: int, base: str, outcome: Outcome) -> None:
        if not is_older:
            trees[base].add(order, outcome)

    for order, archive in enumerate(archives):
        if archive.key in notes.finished:
            done(order, archive.base, notes.finished[archive.key])
    pending = [(order, archive) for order, archive in enumerate(archives) if archive.key not in notes.finished]
    work = _begin_phase(source, pending, len(archives), of_chain=layer is not None)
    window = Window.of_each(max(1, min(jobs, len(pending))))

    def task(order: int, archive: ArchiveObject) -> Callable[[threading.Event], None]:
        def run(stop: threading.Event) -> None:
            record = files.recorder(archive.base) if files else None
            part = LayerOfArchive(layer, archive.base) if layer else None
            with work.item(archive.key.rpartition("/")[2], archive.size) as item:
                outcome = extract_archive(
                    store,
                    archive,
                    trees[archive.base],
                    order,
                    window=window,
                    expected=(source.records or {}).get(archive.key),
                    record=part.recorder(record) if part else record,
                    keep=comparison.keeper(archive.base) if comparison else None,
                    layer=part,
                    stop=stop,
                    item=item,
                )
            done(order, archive.base, outcome)
            with turn:
                notes.add(archive.key, outcome)
                outcomes.append(outcome)

        return run

    run_all([task(*entry) for entry in sorted(pending, key=lambda entry: -entry[1].size)], jobs)
    if layer is not None:
        layer.require_all(sum(outcome.files if is_older else outcome.overlaid for outcome in outcomes))
    return outcomes


def _begin_phase(
    source: ArchiveSource, pending: list[tuple[int, ArchiveObject]], count: int, *, of_chain: bool
) -> Progress:
    if len(pending) < count:
        log.info("%d of %d archives were extracted before", count - len(pending), count)
    work = progress.current()
    size = sum(archive.size for _, archive in pending)
    name = f"restoring {source.info.backup_id}" if of_chain else "restoring"
    work.phase(name, total=size, items=len(pending), measure=progress.STORED)
    return work
