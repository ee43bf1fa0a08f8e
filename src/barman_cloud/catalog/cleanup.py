"""Removing what runs that were killed left in a bucket, or telling what would be removed.

What is found (``catalog.leftovers``) is looked at once more just before it is removed: a backup that gives a sign of
life again, is done, or is kept meanwhile, stays. What can't be removed is told, and doesn't keep the rest from going.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from barman_cloud import logs
from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id
from barman_cloud.catalog.leftovers import (
    Age,
    Kind,
    Leftover,
    find_leftovers,
    has_keep,
    objects_in,
    orphaned_wal,
    what_is_missing,
    why_abandoned,
)
from barman_cloud.catalog.lineage import disown
from barman_cloud.catalog.removal import DeletionOptions, delete_objects, remove_data, remove_infos
from barman_cloud.catalog.wal_sweep import WalSweep
from barman_cloud.errors import BarmanCloudError, ConnectivityError, NotFoundError, OperationError
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.report.text import size as in_words

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """What the user asked for."""

    dry_run: bool = False
    age: Age = field(default_factory=Age)
    delete_broken: bool = False
    """Delete complete backups that lost objects, with those that build on them."""
    minimum_redundancy: int = 0
    """Full backups that must be left when broken ones are deleted."""
    batch_size: int | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one thing that was found."""

    leftover: Leftover
    result: str
    """``removed``, ``would be removed`` (a dry run), ``stays`` or ``failed``."""
    problem: str | None = None
    """Why it stays, and what to do, or why it could not be removed."""

    def to_json(self) -> dict[str, Any]:
        found = self.leftover
        return {
            "kind": str(found.kind),
            "name": found.name,
            "reason": found.reason,
            "objects": found.objects,
            "size": found.size,
            "result": self.result,
            "problem": self.problem,
        }

    def describe(self) -> str:
        """Return one line for people."""
        found = self.leftover
        size = "" if found.size is None else f", {in_words(found.size)}"
        what = "" if found.kind is Kind.UPLOAD else counted(found.objects, "object")
        name = f"before {found.name}" if found.kind is Kind.WAL else found.name
        line = f"{self.result}: {found.kind} {name} ({what}{size if what else size[2:]}): {found.reason}"
        return f"{line}; {self.problem}" if self.problem else line


REMOVED = "removed"
WOULD_BE_REMOVED = "would be removed"
STAYS = "stays"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CleanupReport:
    """What a clean-up found and did."""

    outcomes: tuple[Outcome, ...]
    dry_run: bool

    @property
    def freed(self) -> int:
        """Bytes that were freed, or would be, as far as the store tells sizes."""
        return sum(outcome.leftover.size or 0 for outcome in self._gone)

    @property
    def _gone(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.result in (REMOVED, WOULD_BE_REMOVED)]

    @property
    def has_failed(self) -> bool:
        return any(outcome.result == FAILED for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "command": "cleanup",
            "dry_run": self.dry_run,
            "freed": self.freed,
            "leftovers": [outcome.to_json() for outcome in self.outcomes],
        }

    def to_text(self) -> str:
        """Return lines for people, the sum last."""
        lines = [outcome.describe() for outcome in self.outcomes]
        if not lines:
            lines.append("nothing is left over")
        verb = "would free" if self.dry_run else "freed"
        lines.append(f"{verb} {in_words(self.freed)} ({counted(len(self._gone), 'leftover')})")
        return "".join(f"{line}\n" for line in lines)


def clean_up(catalog: Catalog, options: CleanupOptions, now: datetime | None = None) -> CleanupReport:
    """Find what is left over and remove it, unless ``options.dry_run``.

    ``OperationError`` if a ``backup.info`` can't be read: what that backup needs isn't known. ``ConnectivityError`` as
    soon as the store doesn't answer any more; everything else that goes wrong is in the report.
    """
    now = now or datetime.now().astimezone()
    progress.current().phase("looking for what is left over")
    view = catalog.load()
    view.require_readable("a clean-up")
    keeps = keep.read_all(catalog)
    found = find_leftovers(catalog, view, keeps, options.age, now, delete_broken=options.delete_broken)
    return CleanupReport(tuple(_outcomes(catalog, found, options, now)), options.dry_run)


def _outcomes(catalog: Catalog, found: list[Leftover], options: CleanupOptions, now: datetime) -> Iterator[Outcome]:
    for leftover in found:
        if leftover.stays is not None:
            yield Outcome(leftover, STAYS, leftover.stays)
        elif options.dry_run:
            yield Outcome(leftover, WOULD_BE_REMOVED)
        else:
            progress.current().phase(f"removing {leftover.kind} {leftover.name}")
            try:
                problem = _REMOVERS[leftover.kind](catalog, leftover, options, now)
            except ConnectivityError:
                raise
            except BarmanCloudError as error:
                log.debug("%s stays", leftover.name, exc_info=error)
                yield Outcome(leftover, FAILED, str(error))
            else:
                log.info("%s %s: %s", leftover.kind, leftover.name, problem or REMOVED)
                yield Outcome(leftover, STAYS if problem else REMOVED, problem)


def _remove_deletion(catalog: Catalog, leftover: Leftover, options: CleanupOptions, _now: datetime) -> str | None:
    try:
        info = catalog.load_one(leftover.name)
    except NotFoundError:
        return None
    if info.deletion is None:
        return "its deletion was taken back meanwhile"
    _remove_backup(catalog, info, options)
    return None


def _remove_abandoned(catalog: Catalog, leftover: Leftover, options: CleanupOptions, now: datetime) -> str | None:
    try:
        info = catalog.load_one(leftover.name)
    except NotFoundError:
        return None
    if info.is_complete or why_abandoned(catalog, info, options.age, now) is None:
        return "it came to life meanwhile"
    _remove_backup(catalog, info, options)
    return None


def _remove_backup(catalog: Catalog, info: BackupInfo, options: CleanupOptions) -> None:
    how = DeletionOptions(batch_size=options.batch_size)
    remove_infos(catalog, [remove_data(catalog, info, how)], how)
    if info.parent_backup_id:
        disown(catalog, info.parent_backup_id, info.backup_id)


def _remove_objects(catalog: Catalog, leftover: Leftover, options: CleanupOptions, _now: datetime) -> str | None:
    keys = [item.key for item in objects_in(catalog, leftover.name)]
    if catalog.layout.backup_info(leftover.name) in keys or has_keep(catalog, leftover.name):
        return "there is a backup now"
    delete_objects(catalog, keys, DeletionOptions(batch_size=options.batch_size))
    return None


def _remove_broken(catalog: Catalog, leftover: Leftover, options: CleanupOptions, _now: datetime) -> str | None:
    view = catalog.load()
    view.require_readable("a deletion")
    info = view.backups.get(leftover.name)
    if info is None:
        return None
    if not what_is_missing(catalog, info):
        return "nothing is missing any more"
    how = DeletionOptions(batch_size=options.batch_size)
    delete_by_id(catalog, view, info.backup_id, options.minimum_redundancy, how, _Nowhere(), with_children=True)
    return None


def _remove_wal(catalog: Catalog, leftover: Leftover, options: CleanupOptions, _now: datetime) -> str | None:
    """Delete the WAL that no backup needs which is there now: what could not be removed before keeps its own."""
    view = catalog.load()
    view.require_readable("a clean-up")
    plan = orphaned_wal(catalog, view.backups, keep.read_all(catalog))
    if plan is None:
        return "it can't be told which WAL is needed"
    log.info("%s", plan.describe())
    sweep = WalSweep(catalog.store, catalog.layout, [plan])
    try:
        catalog.store.delete((taken.key for taken in sweep), batch_size=options.batch_size)
    except ConnectivityError:
        raise
    except BarmanCloudError as error:
        raise OperationError(f"not all of it could be deleted: {error}") from error
    return None


def _remove_upload(catalog: Catalog, leftover: Leftover, _options: CleanupOptions, _now: datetime) -> str | None:
    assert leftover.upload is not None
    dropped = catalog.store.abort_upload(leftover.upload)
    return None if dropped else "the store drops it only by itself"


class _Nowhere:
    """Where lines go that nobody reads."""

    def write(self, text: str) -> int:
        return len(text)


_REMOVERS: dict[Kind, Callable[[Catalog, Leftover, CleanupOptions, datetime], str | None]] = {
    Kind.DELETION: _remove_deletion,
    Kind.ABANDONED: _remove_abandoned,
    Kind.OBJECTS: _remove_objects,
    Kind.BROKEN: _remove_broken,
    Kind.WAL: _remove_wal,
    Kind.UPLOAD: _remove_upload,
}
