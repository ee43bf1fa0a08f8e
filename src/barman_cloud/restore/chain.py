"""The backups that an incremental one builds on: found, checked and planned before the first byte is written.

A chain is restored oldest first, one backup after another, into the same files (``overlay``). So what is known of each
backup decides everything beforehand: its ``backup.info``, its archives and its manifest.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import BinaryIO

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import IntegrityError, NotFoundError, OperationError
from barman_cloud.incremental.chains import ChainPlan, plan_chain
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.file_format import BLOCK, Header
from barman_cloud.incremental.visibility import StaleMaps
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.restore.layer import LABEL, Layer
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.stored_manifest import entries, fetch_manifest
from barman_cloud.store.base import ObjectStore

UNKNOWN = -1
"""The size of a file that only its blocks tell."""
_ANOTHER = "restore another backup"


def find_chain(catalog: Catalog, info: BackupInfo) -> tuple[BackupInfo, ...]:
    """Return the backups that ``info`` builds on, the full one first; empty if it is a full backup itself.

    ``OperationError`` if one is missing, isn't DONE, or is of another cluster; ``IntegrityError`` if they build on each
    other in a circle, or one doesn't begin where the next one counts from.
    """
    newest = info
    found: list[BackupInfo] = []
    while parent_id := info.parent_backup_id:
        what = f"{parent_id}, on which backup {info.backup_id} builds,"
        if parent_id in (newest.backup_id, *(other.backup_id for other in found)):
            raise IntegrityError(f"backup {newest.backup_id} builds on itself, by way of {info.backup_id}")
        try:
            parent = catalog.load_one(parent_id)
        except NotFoundError:
            raise OperationError(f"{what} doesn't exist", hint=f"the chain is broken; {_ANOTHER}") from None
        if not parent.is_complete:
            raise OperationError(f"{what} is {parent.status}, not DONE", hint=_ANOTHER)
        if parent.systemid != info.systemid:
            raise OperationError(
                f"{what} is of cluster {parent.systemid}, not of {info.systemid}",
                hint=f"the chain is wrong; {_ANOTHER}",
            )
        _require_same_begin(parent, info)
        found.append(parent)
        info = parent
    if newest.parent_backup_id is None and _counts_from(newest) is not None:
        raise OperationError(
            f"backup {newest.backup_id} is incremental, and its backup.info doesn't tell what it builds on",
            hint=f"give it the parent_backup_id that it lost, or {_ANOTHER}",
        )
    if found and not newest.is_complete:
        raise OperationError(f"backup {newest.backup_id} is incremental and {newest.status}, not DONE", hint=_ANOTHER)
    return tuple(reversed(found))


def _require_same_begin(parent: BackupInfo, info: BackupInfo) -> None:
    since = _counts_from(info)
    if since is not None and parent.begin_xlog and parse_lsn(since) != parse_lsn(parent.begin_xlog):
        raise IntegrityError(
            f"backup {info.backup_id} holds what changed since {since}, but {parent.backup_id}, on which it builds, "
            f"began at {parent.begin_xlog}",
            hint=f"the chain is wrong; {_ANOTHER}",
        )


def _counts_from(info: BackupInfo) -> str | None:
    """Return the LSN since which an incremental backup holds changes, as its label says; None if it says none."""
    label = (info.backup_label or "").replace("\\n", "\n")
    for line in label.splitlines():
        if line.startswith("INCREMENTAL FROM LSN: "):
            return line.rpartition(" ")[2]
    return None


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain that can be restored: its backups, oldest first, with their manifests, and what to do with each file."""

    sources: Sequence[ArchiveSource]
    manifests: Sequence[BinaryIO]
    plan: ChainPlan
    maps: StaleMaps
    changed_size: int
    """Bytes of all files of changed blocks, those included that later backups make useless."""

    def restored_files(self) -> Iterator[ManifestFile]:
        """Yield the files of the restored directory with what the manifests tell of them.

        A relation file that no increment has changed is as its base has it: then each stands for it by an incremental
        file without blocks that cuts nothing off, which its size and checksum tell. Where only the blocks would tell,
        size is ``UNKNOWN``. Memory is about 300 bytes for each file of the former kind.
        """
        unchanged: dict[str, ManifestFile] = {}
        for number, manifest in enumerate(self.manifests):
            written, overlaid = self.plan.written[number], self.plan.overlaid[number]
            for entry in entries(manifest):
                if entry.path in written and entry.checksum and entry.size % BLOCK == 0:
                    unchanged[entry.path] = entry
                path = restored_path(entry.path)
                if path in overlaid and (base := unchanged.get(path)) and not _changes_nothing(entry, base.size):
                    del unchanged[path]
        for entry in entries(self.manifests[-1]):
            path = restored_path(entry.path)
            if path is not None:
                yield unchanged.get(path) or replace(entry, path=path, size=UNKNOWN)
            else:
                yield replace(entry, size=UNKNOWN) if entry.path == LABEL else entry

    def layer(self, number: int) -> Layer:
        """Return what there is to know while the archives of one backup are extracted."""
        return Layer(self.plan, number, self.sources[number].info.backup_id, entries(self.manifests[number]))


def _changes_nothing(entry: ManifestFile, size: int) -> bool:
    """Tell whether an incremental file leaves a file of ``size`` bytes as it is."""
    header = Header(array("I"), size // BLOCK).to_bytes()
    return entry.size == len(header) and entry.crc == crc32c(header)


def open_chain(store: ObjectStore, layout: Layout, sources: Sequence[ArchiveSource], stack: ExitStack) -> Chain:
    """Fetch the manifests of these backups, oldest first, and plan; ``stack`` closes them.

    ``OperationError`` if a backup has no manifest, ``IntegrityError`` if the manifests don't fit each other.
    """
    manifests = []
    for source in sources:
        manifest = fetch_manifest(store, layout, source)
        if manifest is None:
            raise OperationError(
                f"backup {source.info.backup_id} has no backup_manifest of its own, so that no incremental backup on "
                "top of it can be restored",
                hint="neither beside its archives nor in the last one; if it is still on the host of Barman's server, "
                f"store it as {store.object_url(layout.manifest(source.info.backup_id))}",
            )
        manifests.append(stack.enter_context(manifest))
    names = [source.info.backup_id for source in sources]
    changed = 0

    def paths(manifest: BinaryIO) -> Iterator[str]:
        nonlocal changed
        for entry in entries(manifest):
            if restored_path(entry.path) is not None:
                changed += entry.size
            yield entry.path

    plan = plan_chain([paths(manifest) for manifest in manifests], names)
    return Chain(sources, manifests, plan, StaleMaps(plan, [source.info.version for source in sources]), changed)
