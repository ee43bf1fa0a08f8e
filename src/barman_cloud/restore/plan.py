"""What a restore will do, decided and checked before a byte is downloaded or a directory made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from barman_cloud import logs
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import ArchiveObject, Catalog
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import OperationError
from barman_cloud.restore import journal
from barman_cloud.restore.chain import find_chain
from barman_cloud.restore.journal import Identity, Journal
from barman_cloud.restore.places import TablespacePlan, place_tablespaces
from barman_cloud.restore.source import ArchiveSource, find_source
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Which archives go where."""

    source: ArchiveSource
    """The backup that is restored."""
    target: Path
    tablespaces: tuple[TablespacePlan, ...]
    identity: Identity
    delta: bool = False
    """The directories aren't empty: what is as the backup has it is kept."""
    older: tuple[ArchiveSource, ...] = ()
    """The backups that an incremental one builds on, the full one first."""

    @property
    def info(self) -> BackupInfo:
        """The backup that is restored."""
        return self.source.info

    @property
    def archives(self) -> tuple[ArchiveObject, ...]:
        """Its own archives."""
        return self.source.archives

    @property
    def records(self) -> Mapping[str, ArchiveRecord] | None:
        """What ``archives.json`` says of its own archives."""
        return self.source.records

    @property
    def sources(self) -> tuple[ArchiveSource, ...]:
        """The whole chain, the full backup first; of a full backup itself alone."""
        return (*self.older, self.source)

    @property
    def directories(self) -> dict[str, Path]:
        """The target directory of each base name."""
        return {DATA: self.target, **{entry.base: entry.target for entry in self.tablespaces}}

    @property
    def stored_size(self) -> int:
        """Bytes that are read of the store, those of the whole chain."""
        return sum(source.stored_size for source in self.sources)


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
    of the same backup left it so, or with ``delta``), or if archives are missing, of this backup or of one that it
    builds on. The caller closes the journal. With
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
        chain = find_chain(Catalog(store, layout), info)
        *older, source = (find_source(store, layout, member) for member in (*chain, info))
        for entry in tablespaces if fresh else ():
            name = entry.tablespace.name
            if not (delta and _is_linked(target, entry)):
                _require_empty(entry.target, f"directory of tablespace {name}", f"--tablespace {name}:LOCATION")
    except BaseException:
        if interrupted is not None:
            interrupted.close()
        raise
    return RestorePlan(source, target, tablespaces, identity, delta, tuple(older)), interrupted


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
