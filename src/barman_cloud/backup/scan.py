"""Walking PGDATA and the tablespaces: what goes into a backup, and what doesn't.

The rules are Barman's exclusion patterns plus what ``pg_basebackup`` leaves out (PostgreSQL's ``basebackup.c``);
excluded directories are not descended. Only names and sizes are kept, in one list and one array per directory, because
a cluster may have millions of files; everything else about a file is read when it is archived.
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from barman_cloud import logs

log = logs.get_logger(__name__)

DATA = "data"
CONTROL_FILE = "global/pg_control"

_EMPTIED_AT_ROOT = frozenset(("log", "pg_log", "pg_wal", "pg_xlog"))
_EMPTIED = frozenset(
    ("pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_stat_tmp", "pg_snapshots", "pg_subtrans")
)
_LEFT_OUT = frozenset(
    (
        "current_logfiles.tmp",
        "postgresql.auto.conf.tmp",
        "postmaster.opts",
        "postmaster.pid",
        "recovery.conf",
        "standby.signal",
    )
)
_LEFT_OUT_PREFIXES = ("pgsql_tmp", "pg_internal.init")
_STALE = {
    "backup_label": logs.WARNING,
    "tablespace_map": logs.WARNING,
    "recovery.signal": logs.WARNING,
    "backup_manifest": logs.INFO,
}
"""Files at the root of PGDATA that are left from an earlier backup, and at which level to say so."""
_OF_A_BACKUP = frozenset(("backup_label", "backup_manifest"))
_DATABASE_DIRECTORY = re.compile(r"(?:base|(?:pg_tblspc/\d+/)?PG_[^/]+)/\d+")
_TEMPORARY_RELATION = re.compile(r"t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class FileRun:
    """Regular files of one directory, ascending by name. ``directory`` is relative to the root of its tree."""

    directory: str
    names: Sequence[str]
    sizes: array[int]
    """Sizes in bytes at the time of the scan; a file may have another one when it is read."""

    def __getitem__(self, part: slice) -> FileRun:
        return FileRun(self.directory, self.names[part], self.sizes[part])


@dataclass(frozen=True, slots=True)
class Tree:
    """What a base (``data``, or a tablespace's oid) is made of. Paths are relative to ``root``; its own is ``""``."""

    base: str
    root: str
    directories: list[str] = field(default_factory=list)
    """Parents come before their children."""
    specials: list[str] = field(default_factory=list)
    """Symbolic links and FIFOs."""
    runs: list[FileRun] = field(default_factory=list)

    @property
    def file_count(self) -> int:
        return sum(len(run.names) for run in self.runs)

    @property
    def size(self) -> int:
        """Bytes of all files at the time of the scan."""
        return sum(sum(run.sizes) for run in self.runs)


def scan_data_directory(
    root: str,
    tablespaces: Iterable[tuple[int, str]] = (),
    *,
    replaced: Iterable[str] = (),
    own_backup: bool = False,
) -> Tree:
    """Walk PGDATA. ``tablespaces`` are (oid, location); ``replaced`` are files at the root that come from elsewhere.

    With ``own_backup`` the directory is not a server's but a copy that someone else has made in backup mode: its label
    and its manifest belong to it.

    ``OSError`` if a directory can't be read; what vanishes during the walk is left out. A symbolic link to a directory
    is left out with a WARNING, except where the directory's content isn't needed: there it counts as an empty one.
    """
    tree = Tree(DATA, root)
    real_root = os.path.realpath(root)
    left_out = {CONTROL_FILE, *replaced}
    for oid, location in tablespaces:
        left_out.add(f"pg_tblspc/{oid}")
        real_location = os.path.realpath(location)
        if real_location.startswith(real_root + "/"):
            left_out.add(os.path.relpath(real_location, real_root))
    tree.directories.append("")
    stale = {path: level for path, level in _STALE.items() if not (own_backup and path in _OF_A_BACKUP)}
    for path, level in stale.items():
        if os.path.lexists(f"{root}/{path}"):
            log.log(level, "%s/%s is not of this backup and is left out", root, path)
    _walk(tree, [""], left_out.union(stale))
    return tree


def scan_tablespace(oid: int, location: str, server_version: int) -> Tree:
    """Walk the part of a tablespace that belongs to this server's major version. Errors as for PGDATA."""
    tree = Tree(str(oid), location)
    own = f"PG_{server_version // 10000}_"
    with os.scandir(location) as entries:
        tops = sorted(entry.name for entry in entries if entry.name.startswith(own) and entry.is_dir())
    tree.directories.extend(tops)
    _walk(tree, tops, frozenset())
    return tree


def _walk(tree: Tree, tops: list[str], left_out: Iterable[str]) -> None:
    """Fill the tree from the directories ``tops``, which are listed already, depth first in ascending order."""
    pending = list(reversed(tops))
    while pending:
        directory = pending.pop()
        subdirectories: list[str] = []
        files: list[tuple[str, int]] = []
        for path, entry in _entries(tree.root, directory, left_out):
            _sort_in(tree, path, entry, subdirectories, files)
        if files:
            files.sort()
            sizes = array("Q", [size for _, size in files])
            tree.runs.append(FileRun(directory, [name for name, _ in files], sizes))
        subdirectories.sort()
        tree.directories.extend(subdirectories)
        pending.extend(path for path in reversed(subdirectories) if not _is_emptied(path))


def _sort_in(
    tree: Tree, path: str, entry: os.DirEntry[str], subdirectories: list[str], files: list[tuple[str, int]]
) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        files.append((entry.name, status.st_size))
    elif kind == stat.S_IFDIR:
        subdirectories.append(path)
    elif kind == stat.S_IFLNK:
        if not entry.is_dir():
            tree.specials.append(path)
        elif _is_emptied(path):
            subdirectories.append(path)
        else:
            log.warning("%s is a link to a directory, which is not in the backup", f"{tree.root}/{path}")
    elif kind == stat.S_IFIFO:
        tree.specials.append(path)
    elif kind != stat.S_IFSOCK:
        log.warning("%s is a device, which is not in the backup", f"{tree.root}/{path}")


def _entries(root: str, directory: str, left_out: Iterable[str]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield relative path and entry of everything in a directory that belongs into a backup."""
    holds_relations = _DATABASE_DIRECTORY.fullmatch(directory) is not None
    prefix = f"{directory}/" if directory else ""
    try:
        entries = os.scandir(f"{root}/{directory}")
    except FileNotFoundError:
        if not directory:
            raise
        return
    with entries:
        for entry in entries:
            name = entry.name
            path = prefix + name
            if name in _LEFT_OUT or name.startswith(_LEFT_OUT_PREFIXES) or path in left_out:
                continue
            if holds_relations and name[0] == "t" and _TEMPORARY_RELATION.fullmatch(name):
                continue
            yield path, entry


def _is_emptied(path: str) -> bool:
    return path in _EMPTIED_AT_ROOT or path.rpartition("/")[2] in _EMPTIED
