"""What the store holds of one backup: its archives, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.catalog.backup_info import EMPTY, STARTED, BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import IntegrityError, ObjectNotFoundError, OperationError
from barman_cloud.store.base import ObjectStore

_LOST = "this backup can't be restored; take another one"
_UNFINISHED = "it isn't finished: wait for its end, or restore another backup"


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """A backup and its archives. ``archives`` stand in the order in which Barman extracts them."""

    info: BackupInfo
    archives: tuple[ArchiveObject, ...]
    records: Mapping[str, ArchiveRecord] | None = None
    """What ``archives.json`` says of each archive, by key; None if the backup has none because another program made it.

    Only with it is a ``backup_manifest`` in PGDATA known to describe this backup, and not one that was restored before.
    """

    @property
    def stored_size(self) -> int:
        """Bytes that are in the store."""
        return sum(archive.size for archive in self.archives)


def find_source(store: ObjectStore, layout: Layout, info: BackupInfo) -> ArchiveSource:
    """Return what there is of a backup; ``OperationError`` if archives are missing."""
    archives = _find_archives(store, layout, info)
    return ArchiveSource(info, archives, _read_records(store, layout, info, archives))


def _find_archives(store: ObjectStore, layout: Layout, info: BackupInfo) -> tuple[ArchiveObject, ...]:
    found = Catalog(store, layout).archives(info.backup_id)
    wanted = [DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or [])]
    hint = _UNFINISHED if info.status in (STARTED, EMPTY) else _LOST
    for base in wanted:
        parts = [archive.part for archive in found.get(base, [])]
        if 0 not in parts:
            raise OperationError(
                f"backup {info.backup_id} has no archive {layout.archive(info.backup_id, base)}[.*]",
                hint=hint,
            )
        missing = sorted(set(range(max(parts) + 1)) - set(parts))
        if missing:
            raise OperationError(
                f"backup {info.backup_id} lacks the archive {layout.archive(info.backup_id, base, missing[0])}[.*]",
                hint=hint,
            )
    return tuple(archive for base in wanted for archive in found[base])


def _read_records(
    store: ObjectStore, layout: Layout, info: BackupInfo, archives: tuple[ArchiveObject, ...]
) -> dict[str, ArchiveRecord] | None:
    key = layout.archives_json(info.backup_id)
    source = store.object_url(key)
    try:
        text = store.get(key, limit=archives_json.largest_plausible(len(archives))).decode()
    except ObjectNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{source}: not a readable list of archives ({error})") from error
    folder = layout.backup_dir(info.backup_id)
    records = {folder + record.name: record for record in archives_json.parse(text, source)}
    missing = records.keys() - {archive.key for archive in archives}
    if missing:
        raise OperationError(f"backup {info.backup_id} lacks the archive {min(missing)}", hint=_LOST)
    return records
