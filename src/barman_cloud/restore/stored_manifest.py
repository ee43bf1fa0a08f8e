"""The manifest of a backup, fetched from the store before anything is restored."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from threading import Event
from typing import BinaryIO

from barman_cloud.archive.manifest import ManifestFile, ManifestReader
from barman_cloud.catalog.layout import DATA, Layout
from barman_cloud.errors import ObjectNotFoundError
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.tree import split
from barman_cloud.restore.verify import MANIFEST, is_of
from barman_cloud.restore.worker import Window, read_archive
from barman_cloud.store.base import ObjectStore


def fetch_manifest(store: ObjectStore, layout: Layout, source: ArchiveSource) -> BinaryIO | None:
    """Return the backup's manifest as an open temporary file; None if the backup has none of its own."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - handed to the caller
    try:
        for chunk in manifest_chunks(store, layout, source):
            spool.write(chunk)
        if not spool.tell():
            spool.close()
            return None
        found = reader(spool)
        for _ in found:
            pass
        if not is_of(found.wal_ranges, source.info):
            spool.close()
            return None
    except BaseException:
        spool.close()
        raise
    return spool


def manifest_chunks(
    store: ObjectStore, layout: Layout, source: ArchiveSource
) -> Iterator[bytes | bytearray | memoryview]:
    """Yield the manifest of a backup, from beside its archives or out of the last one; nothing if it has none."""
    try:
        yield from store.read(layout.manifest(source.info.backup_id))
        return
    except ObjectNotFoundError:
        pass
    # In our backups it is in the last archive of PGDATA, which is a small one.
    for archive in reversed([archive for archive in source.archives if archive.base == DATA]):
        expected = (source.records or {}).get(archive.key)
        members = read_archive(store, archive, window=Window.of_each(1), stop=Event(), expected=expected)
        for member, content in members:
            if member.kind == "file" and split(member.name) == (MANIFEST,):
                yield from content
                return


def entries(spool: BinaryIO) -> Iterator[ManifestFile]:
    """Yield the files of a manifest that :func:`fetch_manifest` returned."""
    return iter(reader(spool))


def reader(spool: BinaryIO) -> ManifestReader:
    """Return a reader of a manifest that :func:`fetch_manifest` returned, at its beginning."""
    spool.seek(0)
    return ManifestReader(iter(partial(spool.read, 1 << 20), b""))
