"""Restoring into a data directory of the same cluster: what is as the backup has it stays where it is.

The manifest says what each file must be. A file of the right size and checksum is kept, any other is written anew, and
what isn't in the backup is removed: in the end the directory is what a restore into an empty one would have made.
``global/pg_control`` goes first, so that nothing in between can be started.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from barman_cloud import logs
from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.catalog.layout import DATA
from barman_cloud.errors import OperationError, UnexpectedError
from barman_cloud.postgres.control_file import parse_control_file, read_control_file
from barman_cloud.restore import durability, journal
from barman_cloud.restore.plan import RestorePlan
from barman_cloud.restore.tree import Tree
from barman_cloud.restore.verify import LEFT_OUT, MANIFEST, WrittenFiles, difference, locate

log = logs.get_logger(__name__)

_BATCH = 1024
_CONTROL_FILE = "global/pg_control"


class Paths:
    """A set of paths, in 8 bytes each."""

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self._hashes = array("q", sorted(hashes))

    def __contains__(self, path: str) -> bool:
        place = bisect_left(self._hashes, hash(path))
        return place < len(self._hashes) and self._hashes[place] == hash(path)


@dataclass(slots=True)
class Comparison:
    """What of a directory is as the manifest says. Sizes in bytes."""

    kept: Paths = field(default_factory=Paths)
    listed: Paths = field(default_factory=Paths)
    """All files of the manifest."""
    kept_files: int = 0
    kept_size: int = 0
    written_files: int = 0
    written_size: int = 0
    removed: int = 0
    """Files that are not in the backup."""

    def keeper(self, base: str) -> Callable[[str], bool]:
        """Return the function that tells of a member's path in an archive of ``base`` whether the file is kept."""
        prefix = "" if base == DATA else f"pg_tblspc/{base}/"
        return lambda path: prefix + path in self.kept


def require_same_system(target: Path, identifier: str | None, backup_id: str) -> None:
    """Raise ``OperationError`` unless ``target`` is a data directory of the cluster ``identifier`` without a server."""
    require_no_server(target)
    try:
        found = parse_control_file(read_control_file(target / _CONTROL_FILE)).system_identifier
    except OSError as error:
        raise OperationError(
            f"{target} is not a data directory that --delta can work on: {_CONTROL_FILE}: {error.strerror}",
            hint="restore into an empty directory, without --delta",
        ) from error
    if identifier is None:
        raise OperationError(
            f"backup {backup_id} doesn't tell which cluster it is of",
            hint="restore into an empty directory, without --delta",
        )
    if found != identifier:
        raise OperationError(
            f"{target} is a data directory of cluster {found}, but backup {backup_id} is of cluster {identifier}",
            hint="nothing was changed; is it the right directory, and the right server name?",
        )


def require_no_server(target: Path) -> None:
    """Raise ``OperationError`` if a server runs on ``target``, or did until it crashed."""
    pid_file = target / "postmaster.pid"
    if pid_file.exists():
        raise OperationError(
            f"{target} belongs to a running server: there is {pid_file}",
            hint="stop the server; if it crashed, remove that file",
        )


def compare(
    files_of_backup: Iterable[ManifestFile], trees: Mapping[str, Tree], jobs: int, files: WrittenFiles | None = None
) -> Comparison:
    """Compare what is in ``trees`` with the files of a backup, ``jobs`` at a time. ``files`` is told of what is kept.

    A negative size is that of a file of which nobody knows what it has to be: it is written.
    """
    result = Comparison()
    kept = array("q")
    listed = array("q")

    def same(entry: ManifestFile) -> bool:
        if entry.path == _CONTROL_FILE or entry.size < 0:
            return False
        return difference(entry, *locate(entry.path, trees)) is None

    found = iter(files_of_backup)
    with ThreadPoolExecutor(jobs, thread_name_prefix="compare") as pool:
        while batch := list(islice(found, _BATCH)):
            for entry, is_same in zip(batch, pool.map(same, batch), strict=True):
                if entry.path in LEFT_OUT:
                    continue
                listed.append(hash(entry.path))
                if not is_same:
                    result.written_files += 1
                    result.written_size += max(entry.size, 0)
                    log.debug("differs: %s", entry.path)
                    continue
                kept.append(hash(entry.path))
                result.kept_files += 1
                result.kept_size += entry.size
                if files is not None and entry.crc is not None:
                    files.add(entry.path, entry.size, entry.crc)
    result.kept, result.listed = Paths(kept), Paths(listed)
    return result


def strangers(trees: Mapping[str, Tree], listed: Paths) -> Iterator[tuple[Path, bool]]:
    """Yield what is in the trees and not in the backup, and whether it is a directory; content before its directory.

    A directory is one only if nothing below it is in the backup.
    """
    roots = {os.path.realpath(tree.root) for tree in trees.values()}
    # What a restore makes anew in any case isn't worth a word.
    ours = {journal.NAME, MANIFEST, *(f"pg_tblspc/{base}" for base in trees)}
    for base, tree in trees.items():
        prefix = "" if base == DATA else f"pg_tblspc/{base}/"
        yield from _strangers_in(tree.root, prefix, listed, roots, ours)[1]


def _strangers_in(
    directory: Path, prefix: str, listed: Paths, roots: set[str], ours: set[str]
) -> tuple[bool, list[tuple[Path, bool]]]:
    """Return whether something of the backup is in ``directory``, and what of it isn't."""
    found: list[tuple[Path, bool]] = []
    needed = False
    with os.scandir(directory) as items:
        for item in sorted(items, key=lambda item: item.name):
            path = directory / item.name
            if prefix + item.name in ours:
                needed = True
                continue
            if not item.is_dir(follow_symlinks=False):
                if prefix + item.name in listed and item.is_file(follow_symlinks=False):
                    needed = True
                else:
                    found.append((path, False))
            elif os.path.realpath(path) in roots:
                needed = True
            else:
                inner_needed, inner = _strangers_in(path, f"{prefix}{item.name}/", listed, roots, ours)
                found += inner
                needed = needed or inner_needed
                if not inner_needed:
                    found.append((path, True))
    return needed, found


def prepare(plan: RestorePlan, trees: Mapping[str, Tree], comparison: Comparison) -> None:
    """Make sure that nothing can be started, then remove what isn't in the backup. Raises ``UnexpectedError``."""
    try:
        control = plan.target / _CONTROL_FILE
        if control.parent.is_dir():
            control.unlink(missing_ok=True)
            durability.sync_path(control.parent)
        for path, is_directory in list(strangers(trees, comparison.listed)):
            if path.is_symlink():
                log.info("removed the link %s to %s", path, path.readlink())
            if is_directory:
                path.rmdir()
            else:
                path.unlink()
    except OSError as error:
        raise UnexpectedError(f"{error.filename or plan.target}: {error.strerror}") from error


def need_manifest(manifest: BinaryIO | None, backup_id: str) -> BinaryIO:
    """Return the manifest; ``OperationError`` without one, because then there is nothing to compare with."""
    if manifest is None:
        raise OperationError(
            f"backup {backup_id} has no {MANIFEST}, so that --delta can't tell what differs",
            hint="restore into an empty directory, without --delta",
        )
    return manifest
