"""Visibility maps of a restored chain that can't be trusted (``incremental.visibility``): told of, or cleared."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from barman_cloud import logs
from barman_cloud.archive.buffers import Buffer
from barman_cloud.incremental.changes import restored_path
from barman_cloud.incremental.file_format import BLOCK, header_size
from barman_cloud.restore.chain import Chain
from barman_cloud.restore.overlay import open_base
from barman_cloud.restore.stored_manifest import entries
from barman_cloud.restore.tree import Tree
from barman_cloud.restore.verify import locate

log = logs.get_logger(__name__)


def warn_of_stale_maps(chain: Chain) -> None:
    """Log a WARNING if there are any."""
    if chain.maps:
        log.warning(
            "WAL summaries of PostgreSQL before 17.11 and 18.6 don't tell what visibility maps lose: the marks of "
            "pages that changed are taken out of the maps; the next VACUUM makes them again"
        )


def clear_in_place(chain: Chain, trees: Mapping[str, Tree]) -> None:
    """Take all marks out of the maps of tables that increments have changed blocks of.

    Which blocks those are nobody knows any more: they are on the disk. The files are extracted; doing it twice is
    doing it once.
    """
    if not chain.maps:
        return
    untouched = _Untouched(chain)
    for path in chain.maps:
        tree, parts = locate(path, trees)
        with tree.opened(parts[:-1]) as folder:
            fd = open_base(parts[-1], folder, path)
        try:
            status = os.fstat(fd)
            position = 0
            for page in chain.maps.cleared(path, _pages(fd), untouched):
                os.pwrite(fd, page, position)
                position += len(page)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)


class _Untouched:
    """Tells of a file that no increment holds a block of it, by the sizes in the manifests."""

    def __init__(self, chain: Chain) -> None:
        empty = header_size(0)
        self._touched = {
            path
            for number, manifest in enumerate(chain.manifests)
            for entry in entries(manifest)
            if entry.size != empty and (path := restored_path(entry.path)) in chain.plan.overlaid[number]
        }

    def __call__(self, path: str, since: int) -> Iterable[Sequence[int]] | None:
        return None if path in self._touched else ()


def _pages(fd: int) -> Iterator[Buffer]:
    position = 0
    while data := os.pread(fd, BLOCK, position):
        yield data
        position += len(data)
