"""Listing, loading and saving the backups of one server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from barman_cloud import logs
from barman_cloud.catalog import backup_info
from barman_cloud.catalog.backup_info import BackupInfo, UnknownKeyError, UnreadableBackupInfoError
from barman_cloud.catalog.layout import ArchiveName, Layout
from barman_cloud.errors import NotFoundError, ObjectNotFoundError, ObjectTooLargeError, OperationError
from barman_cloud.report.text import counted
from barman_cloud.store.base import ObjectStore, Tags

log = logs.get_logger(__name__)

READERS = 16
"""How many small objects are read at a time."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class ArchiveObject:
    """One base archive as it is in the bucket; ``size`` in stored bytes, part 0 is the unnumbered first one."""

    key: str
    size: int
    base: str
    part: int
    compression: str | None


@dataclass(frozen=True, slots=True)
class CatalogView:
    """The catalog as it was at one moment; both mappings ascend by id."""

    backups: dict[str, BackupInfo]
    unreadable: dict[str, UnreadableBackupInfoError] = field(default_factory=dict)

    def require_readable(self, doing: str) -> None:
        """Raise ``OperationError`` (1) naming every object that can't be read, if there is one."""
        if self.unreadable:
            reasons = "; ".join(map(str, self.unreadable.values()))
            raise OperationError(
                f"{doing} needs the whole catalog, and of {counted(len(self.unreadable), 'backup')} "
                f"({', '.join(self.unreadable)}) it isn't known what is needed: {reasons}",
                hint="repair these objects, or remove the folders of those backups by hand",
            )


class Catalog:
    """The backups of one server in one bucket."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self.store = store
        self.layout = layout

    def load(self) -> CatalogView:
        """Read every ``backup.info``, several at a time.

        Folders without one are no backups. ``UnknownKeyError`` as soon as one file has a key that isn't known; files
        that can't be parsed are reported in ``unreadable``, and callers must not present the rest as complete.
        """
        folders = self.store.list_level(self.layout.base_dir).folders
        ids = sorted(filter(None, map(self.layout.backup_id_of, folders)))
        view = CatalogView({})
        for backup_id, found in zip(ids, self.map(self._read, ids), strict=True):
            if isinstance(found, BackupInfo):
                view.backups[backup_id] = found
            elif found is not None:
                view.unreadable[backup_id] = found
        log.debug(
            "%s: %s, %d unreadable", self.layout.base_dir, counted(len(view.backups), "backup"), len(view.unreadable)
        )
        return view

    def load_one(self, backup_id: str) -> BackupInfo:
        """Read one backup; ``NotFoundError`` if it isn't there, ``UnreadableBackupInfoError`` if it can't be parsed."""
        return self.parse_info(backup_id, self.read_info(backup_id))

    def parse_info(self, backup_id: str, text: str) -> BackupInfo:
        """Return what the text of a ``backup.info`` says; ``UnreadableBackupInfoError`` names the object."""
        try:
            return backup_info.parse(text, backup_id)
        except UnreadableBackupInfoError as error:
            raise self._unreadable(backup_id, str(error)) from error

    def read_info(self, backup_id: str) -> str:
        """Return the text of a ``backup.info``; raises as :meth:`load_one` does."""
        key = self.layout.backup_info(backup_id)
        try:
            return self.store.get(key, limit=backup_info.MAX_SIZE).decode("utf-8")
        except ObjectNotFoundError as error:
            raise NotFoundError(
                f"backup {backup_id} of server {self.layout.server} doesn't exist ({self.store.object_url(key)})",
                hint="barman-cloud-backup-list shows what there is",
            ) from error
        except UnicodeDecodeError as error:
            raise self._unreadable(backup_id, "it is not UTF-8") from error
        except ObjectTooLargeError as error:
            raise UnreadableBackupInfoError(str(error), hint=error.hint) from error

    def save(self, info: BackupInfo, tags: Tags | None = None) -> None:
        """Write ``backup.info``, replacing the one that is there."""
        data = backup_info.dump(info).encode("utf-8", "backslashreplace")
        self.store.put(self.layout.backup_info(info.backup_id), data, tags=tags)

    def archives(self, backup_id: str) -> dict[str, list[ArchiveObject]]:
        """Return the archives of a backup: ``data`` and each oid found, with their parts in the order of extraction.

        Where the same part is there in two compressions the last listed counts, as for Barman, with a WARNING.
        """
        parts: dict[tuple[str, int], ArchiveObject] = {}
        for item in self.store.list_level(self.layout.backup_dir(backup_id)).objects:
            name = self.layout.parse_archive_key(item.key)
            if name is None:
                if item.key == self.layout.configuration(backup_id):
                    continue
                self._warn_of_foreign_archive(item.key)
                continue
            if (name.base, name.part) in parts:
                other = parts[name.base, name.part].key
                log.warning("%s and %s are the same part of one archive: the second counts", other, item.key)
            parts[name.base, name.part] = _archive(name, item.size)
        result: dict[str, list[ArchiveObject]] = {}
        for _, archive in sorted(parts.items(), key=lambda entry: (_by_base(entry[0][0]), entry[0][1])):
            result.setdefault(archive.base, []).append(archive)
        return result

    def map(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
        """Call ``function`` for each item, several at a time, and return the results in order."""
        with ThreadPoolExecutor(READERS, thread_name_prefix="catalog") as pool:
            return list(pool.map(function, items))

    def _read(self, backup_id: str) -> BackupInfo | UnreadableBackupInfoError | None:
        try:
            return self.load_one(backup_id)
        except UnknownKeyError:
            raise
        except NotFoundError:
            return None
        except UnreadableBackupInfoError as error:
            return error

    def _unreadable(self, backup_id: str, why: str) -> UnreadableBackupInfoError:
        url = self.store.object_url(self.layout.backup_info(backup_id))
        return UnreadableBackupInfoError(f"{url} can't be read: {why}")

    def _warn_of_foreign_archive(self, key: str) -> None:
        if ".tar" in key.rpartition("/")[2]:
            log.warning("%s is ignored: its name isn't that of an archive that can be read", key)


def by_extraction(archive: ArchiveName) -> tuple[tuple[bool, int], int, str]:
    """Sort key: PGDATA first, then the tablespaces by oid, each by part."""
    return _by_base(archive.base), archive.part, archive.key


def _by_base(base: str) -> tuple[bool, int]:
    return (True, int(base)) if base.isdigit() else (False, 0)


def _archive(name: ArchiveName, size: int) -> ArchiveObject:
    return ArchiveObject(name.key, size, name.base, name.part, name.compression)
