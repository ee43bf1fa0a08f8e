"""The changed blocks of a chain that are in memory, within a limit.

Archives are streams: what an increment holds of a file comes when it comes, and not when the file is put together. So
the increments are read first, the newest first, which tells what every older block is worth, and the blocks that are
left in the end are kept in memory. If they are more than the limit, only their places are kept; then the order in which
they will be asked for is found out, and they are read in groups that fit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from barman_cloud import logs
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.tar import Member
from barman_cloud.catalog.catalog import ArchiveObject
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.blocks import BASE, NOTHING, blocks_of, live_blocks
from barman_cloud.incremental.chains import Action
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.file_format import read_header
from barman_cloud.incremental.visibility import StaleMaps
from barman_cloud.report.text import counted
from barman_cloud.restore.changed_blocks import HELD_BLOCK, ChangedBlocks
from barman_cloud.restore.layer import Layer, in_manifest
from barman_cloud.restore.pipeline import run_all
from barman_cloud.restore.tree import split

log = logs.get_logger(__name__)

LEAST_LIMIT: Final = 64 << 20

_Group = Mapping[str, tuple[int, int]]
"""First block and the block behind the last, for each path."""


class Place(NamedTuple):
    """A relation file in the order in which files are put together; ``size`` is that of its base, in bytes."""

    path: str
    size: int


class ChainReader(Protocol):
    """How archives of the chain are read."""

    def archives(self, layer: int) -> list[ArchiveObject]:
        """Return the archives of a backup."""

    def read(
        self, layer: int, archive: ArchiveObject, stop: threading.Event
    ) -> Iterator[tuple[Member, Iterator[Buffer]]]:
        """Read one of them."""


class HeldBlocks(ChangedBlocks):
    """The changed blocks of all increments. :meth:`learn_all` first, by one thread, then :meth:`get` by one."""

    def __init__(
        self, reader: ChainReader, layers: Mapping[int, Layer], maps: StaleMaps, jobs: int, limit: int
    ) -> None:
        """``layers`` are the increments of the chain, by number; ``limit`` is in bytes of memory."""
        super().__init__(maps)
        self.passes = 0
        """How often the increments were read."""
        self._reader = reader
        self._layers = layers
        self._jobs = jobs
        self._limit = max(limit, LEAST_LIMIT)
        self._size = 0
        self._fits = True
        self._groups: Iterator[_Group] = iter(())

    def learn_all(self) -> dict[int, int]:
        """Read all increments, the newest first. Returns how many incremental files each of them gave.

        ``IntegrityError`` if one isn't as its manifest says.
        """
        found = dict.fromkeys(self._layers, 0)
        for layer in sorted(self._layers, reverse=True):

            def see(number: int, path: str, member: Member, content: Iterable[Buffer], layer: int = layer) -> None:
                count = self._learn_if_needed(layer, number, path, member, content)
                with self._lock:
                    found[layer] += count

            self._read(layer, range(len(self._reader.archives(layer))), see)
        self.passes = 1
        return found

    @property
    def fits(self) -> bool:
        """All blocks are in memory, so that no order has to be known."""
        return self._fits

    def in_order(self, places: Iterable[Place]) -> None:
        """Learn in which order files are going to be put together, where not all blocks are in memory."""
        self._groups = iter(self._cut(list(places)))

    def get(self, path: str, block: int) -> bytes:
        """Return the content of a block of a file; blocks are asked for in order, each once."""
        held = self._held.get(path)
        if held is None or block not in held:
            group = next(self._groups, None)
            if group is not None:
                self._load(group)
        return super().get(path, block)

    def _read(
        self,
        layer: int,
        numbers: Collection[int],
        see: Callable[[int, str, Member, Iterable[Buffer]], None],
    ) -> None:
        archives = self._reader.archives(layer)

        def task(number: int) -> Callable[[threading.Event], None]:
            def run(stop: threading.Event) -> None:
                archive = archives[number]
                for member, content in self._reader.read(layer, archive, stop):
                    if member.kind == "file":
                        see(number, in_manifest(archive.base, "/".join(split(member.name))), member, content)

            return run

        run_all([task(number) for number in sorted(numbers, key=lambda number: -archives[number].size)], self._jobs)

    def _learn_if_needed(self, layer: int, number: int, path: str, member: Member, content: Iterable[Buffer]) -> int:
        """Take what is needed of one member; returns how many files that is, 0 or 1."""
        what = self._layers[layer]
        if what.action(DATA, path) is not Action.OVERLAY:
            return 0
        what.check(DATA, path, *self.learn(layer, number, path, member, content))
        return 1

    def _hold(self, path: str, block: int, data: memoryview) -> None:
        with self._lock:
            self._size += HELD_BLOCK
            if self._fits and self._size > self._limit:
                self._fits = False
                self._held.clear()
            if self._fits or self.passes:
                self._held.setdefault(path, {})[block] = bytes(data)

    def _cut(self, places: list[Place]) -> Iterator[_Group]:
        """Yield groups of blocks that fit into memory, in the order in which they are going to be asked for."""
        group: dict[str, tuple[int, int]] = {}
        size = 0
        for path, base in places:
            sources = self.files[path].sources(blocks_of(base))
            for block, source in enumerate(sources):
                if source in (BASE, NOTHING):
                    continue
                if size + HELD_BLOCK > self._limit:
                    yield group
                    group, size = {}, 0
                group[path] = (group.get(path, (block, 0))[0], block + 1)
                size += HELD_BLOCK
        if group:
            yield group

    def _load(self, group: _Group) -> None:
        """Read the increments again, as far as they hold something of ``group``, and keep that."""
        self._held = {}
        self.passes += 1
        needed: dict[int, set[int]] = {}
        for path in group:
            for part in self.files[path].parts:
                needed.setdefault(part.layer, set()).add(part.archive)
        log.info(
            "reading the increments for the %d. time, for the changed blocks of %s",
            self.passes,
            counted(len(group), "file"),
        )
        for layer, numbers in sorted(needed.items()):

            def see(number: int, path: str, member: Member, content: Iterable[Buffer], layer: int = layer) -> None:
                self._again(layer, group, path, member, content)

            self._read(layer, numbers, see)

    def _again(self, layer: int, group: _Group, path: str, member: Member, content: Iterable[Buffer]) -> None:
        restored = restored_path(path)
        if restored is None or restored not in group:
            return
        parts = self.files[restored].parts
        place = next((place for place, part in enumerate(parts) if part.layer == layer), None)
        if place is None:
            return
        header = parts[place].header
        first, end = group[restored]
        wanted = {block for block in live_blocks(header, parts[:place]) if first <= block < end}
        tally = Tally(content)
        chunks = iter(tally)
        again, rest = read_header(chunks, member.size, path)
        self._take(restored, again, rest, chunks, path, wanted)
        if tally.crc32c != parts[place].crc:
            raise IntegrityError(f"{path} isn't what it was a moment ago", hint="do other programs write the bucket?")
