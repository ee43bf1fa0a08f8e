"""What a restore will do, decided and checked before a byte is downloaded or a directory made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import IntegrityError, ObjectNotFoundError, OperationError
from barman_cloud.restore import journal
from barman_cloud.restore.journal import Identity, Journal
from barman_cloud.restore.places import TablespacePlan, place_tablespaces
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LOST = "this backup can't be restored; take another one"


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Which archives go where. ``archives`` stand in the order in which Barman extracts them."""

    info: BackupInfo
    target: Path
    tablespaces: tuple[TablespacePlan, ...]
    archives: tuple[ArchiveObject, ...]
    identity: Identity
    delta: bool = False
    """The directories aren't empty: what is as the backup has it is kept."""
    records: Mapping[str, ArchiveRecord] | None = None
    """What ``archives.json`` says of each archive, by key; None if the backup has none because another program made it.

    Only with it is a ``backup_manifest`` in PGDATA known to describe this backup, and not one that was restored before.
    """

    @property
    def directories(self) -> dict[str, Path]:
        """The target directory of each base name."""
        return {DATA: self.target, **{entry.base: entry.target for entry in self.tablespaces}}

    @property
    def stored_size(self) -> int:
        """Bytes that lie in the store."""
        return sum(archive.size for archive in self.archives)


def make_plan(
    store: ObjectStore,
    layout: Layout,
    info: BackupInfo,
    target: Path,
    rules: Mapping[str, str],
    *,
    delta: bool = False,
    dry_run: bool = False,
) -> tuple[RestorePlan, Journal | None]:
    """Check everything that can be checked beforehand, and return the plan and the journal of an interrupted run.

    Raises ``OperationError`` if ``target`` or the directory of a tablespace isn't empty (unless an interrupted restore
    of the same backup left it so, or with ``delta``), or if archives are missing. The caller closes the journal. With
    ``dry_run`` an interrupted run isn't looked into, and nothing is refused because of it.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow the user's links
    tablespaces = place_tablespaces(info, target, rules)
    identity = Identity(
        store.url.text, layout.root, info.backup_id, {entry.base: str(entry.target) for entry in tablespaces}, delta
    )
    interrupted = None if dry_run else journal.resume(target, identity)
    fresh = interrupted is None and not (dry_run and (target / journal.NAME).exists())
    delta = interrupted.delta if interrupted else delta and _is_occupied(target, "recovery directory")
    try:
        if fresh and not delta:
            _require_empty(target, "recovery directory")
        archives = _find_archives(store, layout, info)
        records = _read_records(store, layout, info, archives)
        for entry in tablespaces if fresh else ():
            name = entry.tablespace.name
            if not (delta and _is_linked(target, entry)):
                _require_empty(entry.target, f"directory of tablespace {name}", f"--tablespace {name}:LOCATION")
    except BaseException:
        if interrupted is not None:
            interrupted.close()
        raise
    return RestorePlan(info, target, tablespaces, archives, identity, delta, records), interrupted


def _find_archives(store: ObjectStore, layout: Layout, info: BackupInfo) -> tuple[ArchiveObject, ...]:
    found = Catalog(store, layout).archives(info.backup_id)
    wanted = [DATA, *(str(tablespace.oid) for tablespace in info.tablespaces or [])]
    for base in wanted:
        parts = [archive.part for archive in found.get(base, [])]
        if 0 not in parts:
            raise OperationError(
                f"backup {info.backup_id} has no archive {layout.archive(info.backup_id, base)}[.*]",
                hint=_LOST,
            )
        missing = sorted(set(range(max(parts) + 1)) - set(parts))
        if missing:
            raise OperationError(
                f"backup {info.backup_id} lacks the archive {layout.archive(info.backup_id, base, missing[0])}[.*]",
                hint=_LOST,
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


def _is_linked(target: Path, entry: TablespacePlan) -> bool:
    """Tell whether the data directory that is there has this directory as that tablespace."""
    link = target / "pg_tblspc" / entry.base
    return os.path.realpath(link) == os.path.realpath(entry.target)


def _is_occupied(directory: Path, what: str, hint: str | None = None) -> bool:
    try:
        with os.scandir(directory) as entries:
            return any(entries)
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise OperationError(f"{directory}, the {what}, is not a directory", hint=hint) from None


def _require_empty(directory: Path, what: str, option: str | None = None) -> None:
    if _is_occupied(directory, what, option):
        place = f"{option}, where LOCATION is an" if option else "an"
        raise OperationError(
            f"{directory}, the {what}, is not empty",
            hint=f"give {place} empty directory, or one that doesn't exist; nothing is ever overwritten",
        )
