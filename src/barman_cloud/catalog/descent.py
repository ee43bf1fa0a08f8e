"""What builds on a backup, and what a chain of incremental backups weighs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.retention import children_of, find_roots
from barman_cloud.errors import BarmanCloudError, ConnectivityError, NotFoundError

log = logs.get_logger(__name__)


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


def _objects(catalog: Catalog, backup_id: str) -> set[str]:
    return {item.key for item in catalog.store.list_level(catalog.layout.backup_dir(backup_id)).objects}


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What a backup is within its chain. Sizes in bytes, as they lie in the store."""

    type: str
    """``full`` or ``incremental``."""
    parent: str | None
    stored: int
    chain: tuple[str, ...]
    """All that is needed to restore it, the full backup first."""
    chain_size: int
    saved: float | None
    """Percent that it stores less than the full backup of its chain; None for that one."""

    def to_json(self) -> dict[str, object]:
        return {
            "backup_type": self.type,
            "stored_size": self.stored,
            "chain": list(self.chain),
            "chain_size": self.chain_size,
            "saved_percent": None if self.saved is None else round(self.saved, 1),
        }


def chain_facts(catalog: Catalog, view: CatalogView) -> dict[str, ChainFacts]:
    """Return the facts of every backup that can be read; the sizes are those of the archives that are there.

    This lists the folder of each backup.
    """
    ids = list(view.backups)
    sizes = dict(zip(ids, catalog.map(lambda backup_id: _stored(catalog, backup_id), ids), strict=True))
    roots = find_roots(view.backups)
    return {backup_id: _facts(view.backups, backup_id, sizes, roots[backup_id]) for backup_id in ids}


def _stored(catalog: Catalog, backup_id: str) -> int:
    return sum(archive.size for parts in catalog.archives(backup_id).values() for archive in parts)


def _facts(backups: Mapping[str, BackupInfo], backup_id: str, sizes: Mapping[str, int], root: str) -> ChainFacts:
    parent = backups[backup_id].parent_backup_id
    chain = [backup_id]
    while (above := backups[chain[-1]].parent_backup_id) and above in backups and above not in chain:
        chain.append(above)
    saved = 100 * (1 - sizes[backup_id] / sizes[root]) if parent and root != backup_id and sizes[root] else None
    return ChainFacts(
        type="incremental" if parent else "full",
        parent=parent,
        stored=sizes[backup_id],
        chain=tuple(reversed(chain)),
        chain_size=sum(sizes[member] for member in chain),
        saved=saved,
    )
