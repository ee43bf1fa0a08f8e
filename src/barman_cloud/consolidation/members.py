"""The members of a consolidated backup: those of the chain's newest backup, with relation files put together.

The archives of each base are read once, those of the newest backup first, and each member goes on to the new archives
as it comes. A file that increments have changed blocks of comes from the backup that has it whole, and these blocks are
put in from memory (``held_blocks``). Everything that goes on was compared with the manifest of the backup it is from.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally, crc32c
from barman_cloud.archive.manifest import EntrySpool, ManifestFile, ManifestReader, ManifestSpool
from barman_cloud.archive.tar import Member
from barman_cloud.backup.lanes import Lanes
from barman_cloud.backup.scan import CONTROL_FILE
from barman_cloud.backup.source import MANIFEST_MODE
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.catalog.layout import DATA
from barman_cloud.consolidation.held_blocks import HeldBlocks, Place
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.chains import Action, ChainPlan
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.file_format import BLOCK, PREFIX
from barman_cloud.incremental.visibility import StaleMaps
from barman_cloud.postgres.wal import is_wal_name
from barman_cloud.restore.combined import combined_manifest, modified
from barman_cloud.restore.layer import LABEL, Layer, in_manifest, without_parent
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.tree import split
from barman_cloud.restore.verify import LEFT_OUT, MANIFEST
from barman_cloud.restore.worker import Window, read_archive
from barman_cloud.store.base import ObjectStore

_LARGEST_KEPT = 1 << 20
"""Bytes of ``pg_control`` or a label, which are held in memory."""
_SEEN = -1
_ANOTHER = "the backup is damaged; consolidate an older one"


@dataclass(frozen=True, slots=True)
class OpenChain:
    """A chain with its manifests, oldest first, and what each of its backups gives."""

    store: ObjectStore
    sources: Sequence[ArchiveSource]
    manifests: Sequence[ManifestSpool]
    plan: ChainPlan
    maps: StaleMaps
    jobs: int
    stop: threading.Event
    """Set to end all reading."""

    @property
    def newest(self) -> int:
        """The number of the newest backup."""
        return len(self.sources) - 1

    @property
    def bases(self) -> list[str]:
        """The tablespaces of the newest backup, then PGDATA."""
        return [*(str(tablespace.oid) for tablespace in self.sources[-1].info.tablespaces or ()), DATA]

    def entries(self, layer: int) -> Iterator[ManifestFile]:
        """Yield the files of a backup's manifest."""
        return iter(ManifestReader(self.manifests[layer], f"backup_manifest of {self.sources[layer].info.backup_id}"))

    def archives(self, layer: int) -> list[ArchiveObject]:
        """Return the archives of a backup of the bases that the newest has."""
        bases = set(self.bases)
        return [archive for archive in self.sources[layer].archives if archive.base in bases]

    def read(
        self, layer: int, archive: ArchiveObject, stop: threading.Event
    ) -> Iterator[tuple[Member, Iterator[Buffer]]]:
        """Read an archive, compared with what is recorded of it at its end; raises ``Stopped`` after ``stop``."""
        expected = (self.sources[layer].records or {}).get(archive.key)
        window = Window.of_each(self.jobs)
        for member, content in read_archive(self.store, archive, window=window, stop=self.stop, expected=expected):
            if stop.is_set():
                return
            yield member, content

    def sizes(self) -> dict[str, int]:
        """Return about how many bytes the files of each base have."""
        found = dict.fromkeys(self.bases, 0)
        for layer in range(len(self.sources)):
            for entry in self.entries(layer):
                if entry.path in self.plan.written[layer]:
                    base = entry.path.split("/")[1] if entry.path.startswith("pg_tblspc/") else DATA
                    found[base if base in found else DATA] += entry.size
        return found


class MergedMembers:
    """Deals the members of the consolidated backup, and knows what its last archive and its manifest get."""

    def __init__(self, chain: OpenChain, layers: Sequence[Layer], held: HeldBlocks) -> None:
        self.label = b""
        """``backup_label`` of the consolidated backup."""
        self.files = [0] * len(layers)
        """How many files each backup gave, of those that are put together."""
        self.holds_wal = False
        """The WAL that makes it consistent is among its files."""
        self._chain = chain
        self._layers = layers
        self._held = held
        self._expected = _Expected(chain)
        self._made: dict[str, tuple[int, int]] = {}
        """Size and CRC-32C of the files that no manifest has them of."""
        self._kept: dict[str, tuple[Member, bytes]] = {}
        self._manifest: tuple[EntrySpool, ManifestReader] | None = None

    def places(self) -> Iterator[Place]:
        """Yield the files with changed blocks in the order in which they are going to be put together."""
        for base in self._chain.bases:
            for layer, archive in self._archives(base):
                if layer == self._chain.newest:
                    continue
                for member, _ in self._chain.read(layer, archive, self._chain.stop):
                    path = in_manifest(base, "/".join(split(member.name)))
                    if self._layers[layer].action(DATA, path) is Action.WRITE and self._held.files[path].is_changed:
                        yield Place(path, member.size)

    def deal(self, lanes: Lanes, sizes: Mapping[str, int]) -> None:
        """Put all members on the lanes but those of the last archive; ``sizes`` are those of the bases, in bytes."""
        for base in self._chain.bases:
            lanes.begin(base, sizes[base])
            for layer, archive in self._archives(base):
                take = self._newest if layer == self._chain.newest else self._older
                for member, content in self._chain.read(layer, archive, self._chain.stop):
                    path = in_manifest(base, "/".join(split(member.name)))
                    take(lanes, layer, path, member, content)

    def finish(self) -> None:
        """Check that everything came; ``IntegrityError`` if something is missing."""
        for layer, files in zip(self._layers, self.files, strict=True):
            layer.require_all(files)
        self._expected.require_all()
        for path in (CONTROL_FILE, LABEL):
            if path not in self._kept:
                raise IntegrityError(f"backup {self._chain.sources[-1].info.backup_id} has no {path}", hint=_ANOTHER)
        _, label = self._kept[LABEL]
        self.label = without_parent(label)
        self._made[LABEL] = len(self.label), crc32c(self.label)

    def manifest(self) -> tuple[int, Iterator[bytes]]:
        """Return size in bytes and content of the manifest, after :meth:`finish`."""
        if self._manifest is None:
            reader, spool = ManifestReader(self._chain.manifests[-1]), EntrySpool()
            for entry in reader:
                path = restored_path(entry.path) or entry.path
                size, crc = self._made.get(path, (entry.size, entry.crc))
                spool.add(path, size, modified(entry), crc)
            self._manifest = spool, reader
        return combined_manifest(*self._manifest, self._chain.sources[-1].info.version)

    def last_members(self) -> Iterator[tuple[Member, Iterator[Buffer]]]:
        """Yield ``pg_control``, the manifest and the label, in the order that recovery needs."""
        member, control = self._kept[CONTROL_FILE]
        yield member, iter([control])
        owner, _ = self._kept[LABEL]
        size, content = self.manifest()
        yield replace(owner, name=MANIFEST, mode=MANIFEST_MODE, size=size), content
        yield replace(owner, size=len(self.label)), iter([self.label])

    def _archives(self, base: str) -> Iterator[tuple[int, ArchiveObject]]:
        """Yield the archives of a base that hold something to go on, those of the newest backup first."""
        for layer in reversed(range(len(self._layers))):
            if self._chain.plan.written[layer]:
                for archive in self._chain.archives(layer):
                    if archive.base == base:
                        yield layer, archive

    def _newest(self, lanes: Lanes, layer: int, path: str, member: Member, content: Iterator[Buffer]) -> None:
        if member.kind != "file":
            lanes.deal(member, ())
        elif path in (CONTROL_FILE, LABEL):
            self._keep(layer, path, member, content)
        elif path != MANIFEST and self._layers[layer].action(DATA, path) is Action.WRITE:
            tally = Tally(content)
            lanes.deal(member, tally)
            self._check(path, tally.size, tally.crc32c)
            folder, _, name = path.rpartition("/")
            self.holds_wal |= folder == "pg_wal" and is_wal_name(name)

    def _keep(self, layer: int, path: str, member: Member, content: Iterable[Buffer]) -> None:
        if member.size > _LARGEST_KEPT:
            raise IntegrityError(f"{path} has {member.size} bytes, more than any server writes", hint=_ANOTHER)
        data = b"".join(map(bytes, content))
        if path == LABEL:
            self._layers[layer].check(DATA, path, len(data), crc32c(data))
        else:
            self._check(path, len(data), crc32c(data))
        self._kept[path] = member, data

    def _check(self, path: str, size: int, crc: int) -> None:
        if self._expected.see(path, size, crc):
            self._made[path] = size, crc

    def _older(self, lanes: Lanes, layer: int, path: str, member: Member, content: Iterator[Buffer]) -> None:
        if self._layers[layer].action(DATA, path) is not Action.WRITE:
            return
        if member.kind != "file":
            raise IntegrityError(f"{path} is a {member.kind}, not a file", hint=_ANOTHER)
        file = self._held.files[path]
        stored = Tally(content)
        merged = Tally(self._held.put_together(path, member.size, iter(stored)))
        folder, slash, name = file.member.name.rpartition("/")
        name = f"{folder}{slash}{name.removeprefix(PREFIX)}"
        lanes.deal(replace(file.member, name=name, size=file.length * BLOCK), merged)
        self._layers[layer].check(DATA, path, stored.size, stored.crc32c)
        self._made[path] = merged.size, merged.crc32c
        self.files[layer] += 1


class _Expected:
    """The files that the newest backup has whole: each must come once, as its manifest says. About 100 bytes a file."""

    def __init__(self, chain: OpenChain) -> None:
        self._chain = chain
        self._left = {
            hash(entry.path): hash((entry.size, entry.crc)) for entry in self._entries() if entry.path != LABEL
        }

    def see(self, path: str, size: int, crc: int) -> bool:
        """Check a file that came; returns whether the manifest has no checksum of it. What it doesn't list is left."""
        expected = self._left.get(hash(path))
        if expected is None:
            return False
        self._left[hash(path)] = _SEEN
        if expected == hash((size, crc)):
            return False
        if expected == hash((size, None)):
            return True
        what = "is there twice" if expected == _SEEN else f"has {size} bytes with the checksum {crc:08x}"
        raise IntegrityError(f"{path} of backup {self._id} isn't what its manifest says: it {what}", hint=_ANOTHER)

    def require_all(self) -> None:
        """Raise ``IntegrityError`` if a file didn't come."""
        for entry in self._entries():
            if self._left.get(hash(entry.path), _SEEN) != _SEEN:
                raise IntegrityError(f"{entry.path} is missing in the archives of backup {self._id}", hint=_ANOTHER)

    @property
    def _id(self) -> str:
        return self._chain.sources[-1].info.backup_id

    def _entries(self) -> Iterator[ManifestFile]:
        for entry in self._chain.entries(self._chain.newest):
            if entry.path not in LEFT_OUT and restored_path(entry.path) is None:
                yield entry
