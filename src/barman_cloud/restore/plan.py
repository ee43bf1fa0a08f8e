"""What a restore will do, decided and checked before a byte is downloaded or a directory made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import ObjectNotFoundError, OperationError, UsageError
from barman_cloud.restore import journal
from barman_cloud.restore.journal import Identity, Journal
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_LOST = "this backup can't be restored; take another one"


@dataclass(frozen=True, slots=True)
class TablespacePlan:
    """A tablespace and the directory it goes to."""

    tablespace: Tablespace
    target: Path

    @property
    def base(self) -> str:
        """The base name of its archives."""
        return str(self.tablespace.oid)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Which archives go where. ``archives`` stand in the order in which Barman extracts them."""

    info: BackupInfo
    target: Path
    tablespaces: tuple[TablespacePlan, ...]
    archives: tuple[ArchiveObject, ...]
    identity: Identity
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


def parse_tablespace_rules(texts: list[str]) -> dict[str, str]:
    """Return tablespace name -> new location from ``NAME:LOCATION`` texts; the last rule of a name holds.

    ``UsageError`` for a text without a colon, or with nothing before or behind it.
    """
    rules: dict[str, str] = {}
    for text in texts:
        name, colon, location = text.partition(":")
        if not colon or not name or not location:
            raise UsageError(f"'{text}' is no tablespace rule", hint="write --tablespace NAME:LOCATION")
        rules[name] = location
    return rules


def make_plan(
    store: ObjectStore, layout: Layout, info: BackupInfo, target: Path, rules: Mapping[str, str]
) -> tuple[RestorePlan, Journal | None]:
    """Check everything that can be checked beforehand, and return the plan and the journal of an interrupted run.

    Raises ``OperationError`` if ``target`` or the directory of a tablespace isn't empty (unless an interrupted restore
    of the same backup left it so), or if archives are missing. The caller closes the journal.
    """
    target = Path(os.path.abspath(target))  # noqa: PTH100 - resolve() would follow the user's links
    tablespaces = _place_tablespaces(info, target, rules)
    identity = Identity(
        store.url.text, layout.root, info.backup_id, {entry.base: str(entry.target) for entry in tablespaces}
    )
    interrupted = journal.resume(target, identity)
    try:
        if interrupted is None:
            _require_empty(target, "recovery directory")
        archives = _find_archives(store, layout, info)
        records = _read_records(store, layout, info, archives)
        if interrupted is None:
            for entry in tablespaces:
                _require_empty(entry.target, f"directory of tablespace {entry.tablespace.name}")
    except BaseException:
        if interrupted is not None:
            interrupted.close()
        raise
    return RestorePlan(info, target, tablespaces, archives, identity, records), interrupted


def _place_tablespaces(info: BackupInfo, target: Path, rules: Mapping[str, str]) -> tuple[TablespacePlan, ...]:
    known = [tablespace.name for tablespace in info.tablespaces or []]
    for name in rules.keys() - set(known):
        log.warning("backup %s has no tablespace %s: that rule has no effect (it has: %s)",
                    info.backup_id, name, ", ".join(known) or "none")  # fmt: skip
    taken = {target.resolve(): "the recovery directory"}
    result = []
    for tablespace in info.tablespaces or []:
        rule = rules.get(tablespace.name)
        # In-place tablespaces (PostgreSQL 15 and later) have a location relative to PGDATA.
        place = Path(os.path.realpath(rule)) if rule else target / tablespace.location
        other = taken.setdefault(place.resolve(), f"tablespace {tablespace.name}")
        if other != f"tablespace {tablespace.name}":
            raise OperationError(
                f"tablespace {tablespace.name} would go to {place}, which is {other}",
                hint="give it a directory of its own with --tablespace NAME:LOCATION",
            )
        result.append(TablespacePlan(tablespace, place))
    return tuple(result)


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
    try:
        text = store.get(key, limit=archives_json.MAX_SIZE).decode()
    except ObjectNotFoundError:
        return None
    folder = layout.backup_dir(info.backup_id)
    records = {folder + record.name: record for record in archives_json.parse(text, store.object_url(key))}
    missing = records.keys() - {archive.key for archive in archives}
    if missing:
        raise OperationError(f"backup {info.backup_id} lacks the archive {min(missing)}", hint=_LOST)
    return records


def _require_empty(directory: Path, what: str) -> None:
    try:
        with os.scandir(directory) as entries:
            occupied = any(entries)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise OperationError(f"{directory}, the {what}, is not a directory") from None
    if occupied:
        raise OperationError(
            f"{directory}, the {what}, is not empty",
            hint="give an empty directory, or one that doesn't exist; nothing is ever overwritten",
        )
