"""Where each block of a relation file comes from that several backups of a chain have a part of.

It is what a restore of the chain does in place, one backup after another (``restore.overlay``): a file is cut at the
truncation length, grows with zeros to its new length, and gets the changed blocks.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from barman_cloud.archive.tar import Member
from barman_cloud.incremental.file_format import BLOCK, Header

BASE: Final = 0
"""The newest backup that has the file whole."""
NOTHING: Final = 0xFFFF
"""No backup: the block is zeros."""


class Part(NamedTuple):
    """The changed blocks of one file in one backup, as they were read for the first time."""

    layer: int
    """Which backup of the chain, 0 being the full one."""
    archive: int
    """Which of its archives holds them."""
    header: Header
    crc: int
    """CRC-32C of the whole incremental file."""


@dataclass(slots=True)
class FileParts:
    """A relation file that comes from several backups."""

    member: Member
    """Of the newest backup's incremental file: owner, mode and time are those of the file."""
    parts: list[Part] = field(default_factory=list)
    """Newest first."""

    @property
    def length(self) -> int:
        """Blocks of the file."""
        return self.parts[0].header.length

    @property
    def is_changed(self) -> bool:
        """Some block comes from an increment."""
        return any(part.header.blocks for part in self.parts)

    def sources(self, base: int) -> array[int]:
        """Return for each block the number of the part that has it, from the oldest (1) on, or BASE, or NOTHING.

        ``base`` is the length in blocks that the file has in its base; a block that isn't whole there counts.
        """
        found = array("H", [BASE]) * base
        for number, part in enumerate(reversed(self.parts), 1):
            header = part.header
            del found[header.truncation :]
            if len(found) < header.length:
                found.extend(array("H", [NOTHING]) * (header.length - len(found)))
            for block in header.blocks:
                found[block] = number
        return found


def live_blocks(header: Header, newer: Sequence[Part]) -> frozenset[int]:
    """Return which of the blocks of an increment are left in the end, given the parts of all newer backups."""
    if not newer:
        return frozenset(header.blocks)
    limit = min(part.header.truncation for part in newer)
    alive = {block for block in header.blocks if block < limit}
    for part in newer:
        alive.difference_update(part.header.blocks)
    return frozenset(alive)


def runs(sources: array[int]) -> Iterator[tuple[int, int, int]]:
    """Yield (first block, block behind the last, source) of each run of blocks with the same source, in order."""
    first = 0
    for block in range(1, len(sources) + 1):
        if block == len(sources) or sources[block] != sources[first]:
            yield first, block, sources[first]
            first = block


def blocks_of(size: int) -> int:
    """Return the blocks of a file of ``size`` bytes."""
    return -(-size // BLOCK)
