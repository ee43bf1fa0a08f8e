"""Parents and children of incremental backups: writing a link between two, and following the links.

Each end of a link names the other, as Barman's server writes it: ``parent_backup_id`` and ``children_backup_ids``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.retention import children_of, find_roots
from barman_cloud.errors import AccessDeniedError, BarmanCloudError, ConnectivityError, NotFoundError, OperationError
from barman_cloud.store.base import Tags

log = logs.get_logger(__name__)

_TRIES = 5


def adopt(catalog: Catalog, parent_id: str, child_id: str, tags: Tags | None = None) -> None:
    """Add a child to the parent's ``backup.info``; the child's own says DONE already.

    ``OperationError`` if the parent is gone or being deleted. A deletion that begins between our look at the object and
    our writing it would be undone by that: so the parent is looked at once more, and what belongs to it, and a deletion
    that shows is marked again. Two children that are added at the same moment both stay: who doesn't find its own
    afterwards adds it again. Credentials that may not replace the object leave the link to the child alone.
    """
    for _ in range(_TRIES):
        info = _living(catalog, parent_id)
        children = info.children_backup_ids or []
        if child_id in children:
            return
        objects = _objects(catalog, parent_id)
        try:
            catalog.save(replace(info, children_backup_ids=sorted({*children, child_id})), tags)
        except AccessDeniedError as error:
            log.warning("backup %s doesn't name its child %s: %s", parent_id, child_id, error)
            return
        if not objects <= _objects(catalog, parent_id):
            mark = DeletionMark(catalog, parent_id)
            mark.announce()
            mark.begin()
            raise _gone(parent_id)
    _living(catalog, parent_id)
    log.warning("backup %s doesn't name its child %s: other programs write it all the time", parent_id, child_id)


def disown(catalog: Catalog, parent_id: str, child_id: str) -> None:
    """Take a child that was deleted off the list of its parent, if that is still there.

    Readers ignore children that don't exist, so what goes wrong here is a WARNING. A deletion of the parent that begins
    between our look at ``backup.info`` and our writing it would lose its mark: that shows by what is gone, and the mark
    is put again.
    """
    try:
        info = catalog.load_one(parent_id)
        if info.deletion is not None or child_id not in (info.children_backup_ids or ()):
            return
        objects = _objects(catalog, parent_id)
        children = [other for other in info.children_backup_ids or () if other != child_id]
        catalog.save(replace(info, children_backup_ids=children or None))
        if not objects <= _objects(catalog, parent_id):
            mark = DeletionMark(catalog, parent_id)
            mark.announce()
            mark.begin()
    except NotFoundError:
        return
    except ConnectivityError:
        raise
    except BarmanCloudError as error:
        log.warning("backup %s still names its deleted child %s: %s", parent_id, child_id, error)


def _living(catalog: Catalog, parent_id: str) -> BackupInfo:
    try:
        info = catalog.load_one(parent_id)
    except NotFoundError:
        raise _gone(parent_id) from None
    if info.deletion is not None or not info.is_complete:
        raise _gone(parent_id)
    return info


def _gone(parent_id: str) -> OperationError:
    return OperationError(
        f"its parent {parent_id} was deleted while it was made", hint="take another backup; last-full is a parent"
    )


def _objects(catalog: Catalog, backup_id: str) -> set[str]:
    try:
        level = catalog.store.list_level(catalog.layout.backup_dir(backup_id))
    except AccessDeniedError:
        return set()
    return {item.key for item in level.objects}


@dataclass(frozen=True, slots=True)
class Kinship:
    """What a backup is to the others of its chain."""

    root: str
    """The full backup that the chain begins with; the oldest that is left if that is gone."""
    parent: str | None
    children: tuple[str, ...]
    chain: tuple[str, ...]
    """All that is needed to restore it, the root first; itself alone if it is a full backup."""
    is_broken: bool
    """A parent is gone, so that it can't be restored."""
    type: str
    """``full``, ``incremental`` or ``snapshot``."""


def type_of(info: BackupInfo) -> str:
    """Return the type of a backup as Barman calls it: ``full``, ``incremental`` or ``snapshot``."""
    if info.parent_backup_id:
        return "incremental"
    return "snapshot" if info.snapshots_info else "full"


def kinship_of(backups: Mapping[str, BackupInfo], backup_id: str) -> Kinship:
    """Return what the catalog knows of a backup's chain."""
    chain = [backup_id]
    while (parent := backups[chain[-1]].parent_backup_id) and parent in backups and parent not in chain:
        chain.append(parent)
    return Kinship(
        root=find_roots(backups)[backup_id],
        parent=backups[backup_id].parent_backup_id,
        children=tuple(children_of(backups, backup_id)),
        chain=tuple(reversed(chain)),
        is_broken=backups[chain[-1]].parent_backup_id is not None,
        type=type_of(backups[backup_id]),
    )


def descendants(backups: Mapping[str, BackupInfo], backup_id: str) -> list[str]:
    """Return every existing backup that builds on this one, a child before what it builds on."""
    found: list[str] = []
    seen = {backup_id}

    def visit(parent: str) -> None:
        for child in sorted(children_of(backups, parent), reverse=True):
            if child not in seen:
                seen.add(child)
                visit(child)
                found.append(child)

    visit(backup_id)
    return found


@dataclass(frozen=True, slots=True)
class Weight:
    """What a backup and its chain take in the store, in bytes."""

    stored: int
    chain: int
    """Of all that is needed to restore it, itself included."""
    saved: float | None
    """Percent that an incremental backup stores less than the full one of its chain; None of a full backup."""


def weigh(kinship: Kinship, sizes: Mapping[str, int]) -> Weight:
    """Return what the last of a chain and the chain weigh; ``sizes`` are those of :func:`stored_sizes`."""
    *older, stored = (sizes[member] for member in kinship.chain)
    saved = 100 * (1 - stored / older[0]) if older and older[0] else None
    return Weight(stored, sum(older) + stored, saved)


def stored_sizes(catalog: Catalog, backup_ids: Iterable[str]) -> dict[str, int]:
    """Return the bytes of the archives of each backup, from a listing of its folder."""

    def size_of(backup_id: str) -> int:
        return sum(archive.size for parts in catalog.archives(backup_id).values() for archive in parts)

    ids = list(backup_ids)
    return dict(zip(ids, catalog.map(size_of, ids), strict=True))
