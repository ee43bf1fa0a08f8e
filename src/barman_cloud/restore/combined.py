"""The manifest of a directory that was restored from a chain: like the newest backup's, with what the blocks became.

No backup has the checksum of a file that comes from several of them, so these files are read once more, unless they
were put together while they were written (``merge``). All other entries are those of the newest backup's manifest, as
``pg_combinebackup`` does it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from typing import BinaryIO

from barman_cloud.archive.manifest import EntrySpool, ManifestFile, ManifestReader, crc32c_text, manifest_stream
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.changes import restored_path
from barman_cloud.restore.layer import LABEL
from barman_cloud.restore.stored_manifest import entries, reader
from barman_cloud.restore.tree import Tree, is_root
from barman_cloud.restore.verify import MANIFEST, WrittenFiles, locate, read_checksum

_BATCH = 256
_FIRST_WITH_IDENTIFIER = 170000
_FIRST_WITH_PADDED_LSNS = 190000


def verify_combined(
    manifest: BinaryIO,
    trees: Mapping[str, Tree],
    files: WrittenFiles,
    jobs: int,
    version: int | None,
    made: Mapping[str, tuple[int, int]] | None = None,
) -> int:
    """Compare the restored files with the newest backup's ``manifest`` and write the one of the restored directory.

    ``made`` has size and CRC-32C of files that come from several backups, as far as they are known, by their paths.
    Returns the number of files. ``IntegrityError`` if one is missing or differs.
    """
    files.compare((entry for entry in entries(manifest) if _is_as_stored(entry)), trees)
    spool = EntrySpool()
    with ThreadPoolExecutor(jobs, thread_name_prefix="checksum") as pool:
        found = entries(manifest)
        while batch := list(islice(found, _BATCH)):
            for entry in pool.map(_restored(trees, made or {}), batch):
                spool.add(entry.path, entry.size, modified(entry), entry.crc)
    source = reader(manifest)
    for _ in source:
        pass
    _write(trees[DATA], combined_manifest(spool, source, version)[1])
    return spool.count


def combined_manifest(spool: EntrySpool, newest: ManifestReader, version: int | None) -> tuple[int, Iterator[bytes]]:
    """Return size in bytes and content of the manifest of a combined backup, with the files of ``spool``.

    ``newest`` has read all of the newest backup's manifest; ``version`` is that of the server, such as 180000.
    """
    # The manifest of an increment has the system identifier whatever the server; that server's own programs may not
    # know that form.
    identifier = newest.system_identifier if version is None or version >= _FIRST_WITH_IDENTIFIER else None
    padded = version is not None and version >= _FIRST_WITH_PADDED_LSNS
    return manifest_stream([spool], newest.wal_ranges, identifier, padded_lsns=padded)


def _is_as_stored(entry: ManifestFile) -> bool:
    return entry.path != LABEL and restored_path(entry.path) is None


def _restored(trees: Mapping[str, Tree], made: Mapping[str, tuple[int, int]]) -> Callable[[ManifestFile], ManifestFile]:
    """Return the function that makes the entry of a restored file out of the one of what is stored of it."""

    def restored(entry: ManifestFile) -> ManifestFile:
        if _is_as_stored(entry) and entry.crc is not None:
            return entry
        path = restored_path(entry.path) or entry.path
        if path in made:
            size, crc = made[path]
            return replace(entry, path=path, size=size, algorithm="CRC32C", checksum=crc32c_text(crc))
        found = read_checksum(*locate(path, trees))
        if found is None:
            raise IntegrityError(f"{trees[DATA].root}: {path} is missing")
        size, checksum = found
        return replace(entry, path=path, size=size, algorithm="CRC32C", checksum=checksum)

    return restored


def modified(entry: ManifestFile) -> float:
    """Return when a file of a manifest was written, in seconds since 1970; 0 if that makes no sense."""
    try:
        return datetime.strptime(entry.last_modified, "%Y-%m-%d %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0


def _write(pgdata: Tree, content: Iterable[bytes]) -> None:
    """Put the manifest in place of the one of the newest backup; it belongs to the owner of PGDATA."""
    pgdata.clear(MANIFEST, pgdata.fd, f"file {MANIFEST}")
    fd = os.open(MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=pgdata.fd)
    with os.fdopen(fd, "wb") as file:
        if is_root():
            owner = os.fstat(pgdata.fd)
            os.fchown(fd, owner.st_uid, owner.st_gid)
        file.writelines(content)
