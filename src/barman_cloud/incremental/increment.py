"""What an incremental backup of files that are here stores of each file, by either source of the changed blocks."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from barman_cloud.archive.buffers import Buffer
from barman_cloud.incremental.changes import ChangeMap, candidate, header_for, header_of
from barman_cloud.incremental.file_format import BLOCK, Header
from barman_cloud.incremental.page_lsn import changed_blocks
from barman_cloud.incremental.parent_files import ParentFiles

Pages: TypeAlias = Callable[[], Iterator[Buffer]]
"""Reads a file from its beginning, in buffers of whole pages."""


class Increment(Protocol):
    """Decides what is stored of each file. Used by several threads at the same time."""

    def header(self, path: str, size: int, pages: Pages) -> Header | None:
        """Return which blocks of the file at ``path`` (below the restored PGDATA) to store; None: the file whole."""


@dataclass(frozen=True, slots=True)
class SummarizedChanges:
    """The WAL summaries of PostgreSQL 17 tell what changed."""

    changes: ChangeMap
    parent: ParentFiles

    def header(self, path: str, size: int, pages: Pages) -> Header | None:
        return header_for(path, size, self.changes, self.parent)


@dataclass(frozen=True, slots=True)
class PageLsnScan:
    """The LSNs of the pages tell what changed since the parent's begin; see ``page_lsn`` for where that holds."""

    since: int
    parent: ParentFiles
    new_databases: Collection[str] = ()
    """Directories of databases that were created since: their files may be copies with old LSNs."""

    def header(self, path: str, size: int, pages: Pages) -> Header | None:
        file = candidate(path, size, self.parent)
        if file is None or path.rpartition("/")[0] in self.new_databases:
            return None
        length = size // BLOCK
        before = self.parent.sizes[path]
        blocks: array[int] = array("I")
        position = 0
        for data in pages():
            blocks.extend(changed_blocks(data, self.since, position))
            position += len(data) // BLOCK
        if before is not None and before // BLOCK < length:
            # What the parent doesn't have, it must not be asked for, whatever the page says of its last change.
            kept = before // BLOCK
            blocks = array("I", [*(block for block in blocks if block < kept), *range(kept, length)])
        return header_of(blocks, length)
