"""Comparing what was written with the backup's manifest, without reading it again.

The manifest comes out of the bucket and the directory may be changed by others meanwhile. So files are only opened
below the directories that are restored, never through links, and nothing but a regular file of the right size is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import RawIOBase
from typing import BinaryIO

from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.manifest import ManifestFile, WalRange, crc32c_text, read_wal_ranges
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import IntegrityError, UnsafeArchiveError, UsageError
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.restore.tree import Parts, Tree, split

MANIFEST = "backup_manifest"
LEFT_OUT = frozenset({"recovery.signal", "standby.signal"})
"""Files that the manifest of a standby may list; they aren't in a backup, and ``pg_verifybackup`` doesn't miss them."""

_NAMED = 3
_READ_SIZE = 1 << 20
_TAIL = 64 << 10
_HASHES = {"SHA224": hashlib.sha224, "SHA256": hashlib.sha256, "SHA384": hashlib.sha384, "SHA512": hashlib.sha512}
_READ_ONLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class WrittenFiles:
    """Remembers every file that was written, in 8 bytes each: a hash of its path, size and checksum."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._lock = threading.Lock()

    def recorder(self, base: str) -> Callable[[str, int, int], None]:
        """Return the function that notes a file of one base: its path in the archive, size and CRC-32C."""
        prefix = "" if base == DATA else f"pg_tblspc/{base}/"

        def record(path: str, size: int, crc: int) -> None:
            self.add(prefix + path, size, crc)

        return record

    def add(self, path: str, size: int, crc: int) -> None:
        """Note a file by its path in the manifest."""
        with self._lock:
            self._hashes.append(hash((path, size, crc)))

    def compare(self, entries: Iterable[ManifestFile], trees: Mapping[str, Tree]) -> int:
        """Check that every file of the manifest was written with the size and checksum given there, and count them.

        Files that weren't recorded (an earlier, interrupted run wrote them), or have a checksum other than CRC-32C in
        the manifest, are read. Raises ``IntegrityError`` naming the first files that are missing or differ.
        """
        written = set(self._hashes)
        wrong: list[str] = []
        more = count = 0
        for entry in entries:
            if entry.path in LEFT_OUT:
                continue
            count += 1
            if entry.crc is not None and hash((entry.path, entry.size, entry.crc)) in written:
                continue
            problem = difference(entry, *locate(entry.path, trees))
            if problem and len(wrong) < _NAMED:
                wrong.append(f"{entry.path} {problem}")
            elif problem:
                more += 1
        if wrong:
            others = f" (and {more} more)" if more else ""
            raise IntegrityError(
                f"{trees[DATA].root} doesn't match the backup's manifest: {'; '.join(wrong)}{others}",
                hint="the same command extracts everything again; if that doesn't help, the backup is damaged",
            )
        return count


def open_manifest(pgdata: Tree) -> BinaryIO | None:
    """Return the open manifest of a restored data directory; None if it has none (or something else of that name)."""
    try:
        descriptor = _open_regular(pgdata, (MANIFEST,))
    except FileNotFoundError:
        return None
    return os.fdopen(descriptor, "rb") if descriptor is not None else None


def describes(manifest: BinaryIO, info: BackupInfo) -> bool:
    """Tell whether a manifest is of the backup ``info``: its WAL begins where the backup does.

    A data directory that was itself restored may still have the manifest of that other backup.
    """
    manifest.seek(max(0, os.fstat(manifest.fileno()).st_size - _TAIL))
    ranges = read_wal_ranges(manifest.read())
    manifest.seek(0)
    return is_of(ranges, info)


def is_of(ranges: Iterable[WalRange], info: BackupInfo) -> bool:
    """Tell whether the WAL ranges of a manifest are those of the backup ``info``."""
    try:
        begin = parse_lsn(info.begin_xlog or "")
    except UsageError:
        return False
    # After a change of the timeline the range of the backup's own begin is one of several.
    return any(found.start_lsn == begin for found in ranges)


def locate(path: str, trees: Mapping[str, Tree]) -> tuple[Tree, Parts]:
    """Return where a path of the manifest lies, in a tablespace's directory or in PGDATA, and its name there."""
    parts = split(path)
    if parts[0] == "pg_tblspc" and len(parts) > 2 and parts[1] in trees:
        return trees[parts[1]], parts[2:]
    pgdata = trees[DATA]
    return pgdata, (*parts[:-1], pgdata.set_aside.get(path, parts[-1]))


def difference(entry: ManifestFile, tree: Tree, parts: Parts) -> str | None:
    """Return what is wrong with a file, None if it has the size and the checksum that the manifest says."""
    try:
        descriptor = _open_regular(tree, parts)
    except FileNotFoundError:
        return "is missing"
    if descriptor is None:
        return "is not a regular file"
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if size != entry.size:
            return f"has {size} bytes instead of {entry.size}"
        if entry.checksum is None or entry.algorithm is None:
            return None
        found = _checksum(file, entry.algorithm, size)
    return None if found == entry.checksum.lower() else f"has the checksum {found} instead of {entry.checksum}"


def read_checksum(tree: Tree, parts: Parts) -> tuple[int, str] | None:
    """Return size and CRC-32C (as a manifest writes it) of a file; None if there is no regular file."""
    try:
        descriptor = _open_regular(tree, parts)
    except FileNotFoundError:
        return None
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        return size, _checksum(file, "CRC32C", size)


def _open_regular(tree: Tree, parts: Parts) -> int | None:
    """Open a regular file of the tree, on a path without links; None if there is something else."""
    try:
        with tree.opened(parts[:-1]) as folder:
            descriptor = os.open(parts[-1], _READ_ONLY, dir_fd=folder)
    except UnsafeArchiveError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None


def _checksum(file: RawIOBase, algorithm: str, size: int) -> str:
    """Return the checksum of at most ``size`` bytes as a manifest writes it; ``IntegrityError`` for an unknown one."""
    if algorithm == "CRC32C":
        crc = 0
        for data in _pieces(file, size):
            crc = crc32c(data, crc)
        return crc32c_text(crc)
    if algorithm not in _HASHES:
        raise IntegrityError(f"the manifest has checksums of an unknown kind: {algorithm[:20]!r}")
    digest = _HASHES[algorithm]()
    for data in _pieces(file, size):
        digest.update(data)
    return digest.hexdigest()


def _pieces(file: RawIOBase, size: int) -> Iterator[bytes]:
    while size > 0 and (data := file.read(min(size, _READ_SIZE))):
        yield data
        size -= len(data)
