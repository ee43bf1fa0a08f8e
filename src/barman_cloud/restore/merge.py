"""Restoring a chain by writing each file once: the increments are read first, and their blocks wait in memory.

What a restore in place does one backup after another (``overlay``) is done while the full backup is extracted: no block
is written twice, files are written from beginning to end, and nothing has to be read again for its checksum. That is
for chains whose changed blocks fit into memory, which their manifests tell beforehand.

The journal gets the archives of the full backup as they are extracted: their files are as they will be in the end.
Those of the increments follow when everything is extracted, the oldest first. So whatever archive an interrupted
restore has to do again, it does all newer increments again, too, and knows their blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.tar import Member
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.file_format import BLOCK, PREFIX
from barman_cloud.incremental.visibility import StaleMaps
from barman_cloud.restore.changed_blocks import HELD_BLOCK, ChangedBlocks

LIMIT: Final = 512 << 20
"""Bytes of memory for changed blocks."""


def fits(changed_size: int) -> bool:
    """Tell whether so many bytes of changed blocks can be held in memory."""
    return changed_size // BLOCK * HELD_BLOCK <= LIMIT


class Merge(ChangedBlocks):
    """The changed blocks of a chain, and what became of the files. Safe for several threads, as its base class.

    Backups are extracted the newest first.
    """

    def __init__(self, maps: StaleMaps) -> None:
        super().__init__(maps)
        self.made: dict[str, tuple[int, int]] = {}
        """Size and CRC-32C of the files that were put together, by their paths in the manifest."""
        self._begun: set[str] = set()
        self._size = 0

    def whole(self, path: str, member: Member, content: Iterator[Buffer]) -> tuple[Member, Iterable[Buffer]] | None:
        """Return the file ``path`` as it becomes: with the blocks that increments have of it, and their attributes.

        None if there is no increment of it. ``member`` is that of the newest backup that has it whole.
        """
        file = self.files.get(path)
        if file is None:
            return None
        with self._lock:
            if path in self._begun:
                raise IntegrityError(
                    f"{path} isn't what the manifest says: it is there twice",
                    hint="a backup of the chain is damaged; restore another one",
                )
            self._begun.add(path)
        folder, slash, name = member.name.rpartition("/")
        becomes = replace(file.member, name=f"{folder}{slash}{name.removeprefix(PREFIX)}", size=file.length * BLOCK)
        return becomes, self.put_together(path, member.size, content)

    def _hold(self, path: str, block: int, data: memoryview) -> None:
        self._size += HELD_BLOCK  # about: threads may lose one another's
        if self._size > 2 * LIMIT:
            raise IntegrityError(
                f"there are more changed blocks than the manifests tell, {path} among them",
                hint="a backup of the chain is damaged; restore another one",
            )
        super()._hold(path, block, data)
