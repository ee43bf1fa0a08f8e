"""Walking PGDATA and the tablespaces: what goes into a backup, and what doesn't.

The rules are Barman's exclusion patterns plus what ``pg_basebackup`` leaves out (PostgreSQL's ``basebackup.c``);
excluded directories are not descended. Below the server's own directories a symbolic link is taken for what it leads
to, because a copy that held the link would share the file with the running server. Only names and sizes are kept, in
one list and one array per directory, because a cluster may have millions of files; everything else about a file is read
when it is archived.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
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
_LOST_AND_FOUND = "lost+found"
"""Of the file system, at the root of one; other users can't read it."""
_STALE = {
    "backup_label": logs.WARNING,
    "tablespace_map": logs.WARNING,
    "recovery.signal": logs.WARNING,
    "backup_manifest": logs.INFO,
}
"""Files at the root of PGDATA that are left from an earlier backup, and at which level to say so."""
_OF_A_BACKUP = frozenset(("backup_label", "backup_manifest"))
_DATABASE_DIRECTORY = re.compile(r"(?:base|(?:pg_tblspc/\d+/)?PG_[^/]+)/\d+")
_SERVER_DIRECTORY = re.compile(
    r"base(?:/\d+)?|global|pg_(?:xact|commit_ts|twophase|tblspc|stat)|pg_multixact(?:/(?:members|offsets))?"
    r"|pg_logical(?:/(?:mappings|snapshots))?|(?:pg_tblspc/\d+/)?PG_[^/]+(?:/\d+)?"
)
"""The directories whose content is the server's own, relative to the root of PGDATA or of a tablespace."""
_TEMPORARY_RELATION = re.compile(r"t\d+_\d+(?:_(?:fsm|vm|init))?(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class FileRun:
    """Regular files of one directory, ascending by name. ``directory`` is relative to the root of its tree."""

    directory: str
    names: Sequence[str]
    sizes: array[int]
    """Sizes in bytes at the time of the scan; a file may have another one when it is read."""
    linked: frozenset[str] = frozenset()
    """Those of the names that are symbolic links to a file, which is what is stored."""

    def __getitem__(self, part: slice) -> FileRun:
        return FileRun(self.directory, self.names[part], self.sizes[part], self.linked)


@dataclass(frozen=True, slots=True)
class ScannedBase:
    """What a base (``data``, or a tablespace's oid) is made of. Paths are relative to ``root``; its own is ``""``."""

    base: str
    root: str
    directories: list[str] = field(default_factory=list)
    """Parents come before their children."""
    specials: list[str] = field(default_factory=list)
    """Symbolic links and FIFOs."""
    runs: list[FileRun] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    """What the user should know: level and line."""

    @property
    def file_count(self) -> int:
        return sum(len(run.names) for run in self.runs)

    @property
    def size(self) -> int:
        """Bytes of all files at the time of the scan."""
        return sum(sum(run.sizes) for run in self.runs)

    def log_notes(self) -> None:
        """Log what the user should know of this tree."""
        for level, line in self.notes:
            log.log(level, "%s", line)


def scan_data_directory(
    root: str,
    tablespaces: Iterable[tuple[int, str]] = (),
    *,
    replaced: Iterable[str] = (),
    configuration: Iterable[str] = (),
    own_backup: bool = False,
) -> ScannedBase:
    """Walk PGDATA. ``tablespaces`` are (oid, location); ``replaced`` are files at the root that come from elsewhere.

    ``configuration`` are the paths of configuration files, as the server calls them. If one is a link, what it leads to
    is stored; so are all other links whose name ends in ``.conf``.

    With ``own_backup`` the directory is not a server's but a copy that someone else has made in backup mode: its label
    and its manifest belong to it.

    ``OSError`` if a directory can't be read; what vanishes during the walk is left out. A symbolic link to a directory
    that isn't the server's own is left out with a WARNING, except where the directory's content isn't needed: there it
    counts as an empty one.
    """
    tree = ScannedBase(DATA, root)
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
            tree.notes.append((level, f"{root}/{path} is not of this backup and is left out"))
    followed = {os.path.relpath(path, root) for path in configuration if path.startswith(root.rstrip("/") + "/")}
    _Walk(tree, left_out.union(stale), followed).run([""])
    return tree


def scan_tablespace(oid: int, location: str, server_version: int) -> ScannedBase:
    """Walk the part of a tablespace that belongs to this server's major version. Errors as for PGDATA."""
    tree = ScannedBase(str(oid), location)
    own = f"PG_{server_version // 10000}_"
    with os.scandir(location) as entries:
        tops = sorted(entry.name for entry in entries if entry.name.startswith(own) and entry.is_dir())
    tree.directories.extend(tops)
    _Walk(tree, (), ()).run(tops)
    return tree


class _Walk:
    """Fills a tree. ``left_out`` are relative paths that are skipped, ``followed`` links that are taken for files."""

    def __init__(self, tree: ScannedBase, left_out: Collection[str], followed: Collection[str]) -> None:
        self._tree = tree
        self._left_out = left_out
        self._followed = followed
        self._linked_directories: set[str] = set()
        """Directories that were reached through a link."""

    def run(self, tops: list[str]) -> None:
        """Walk the directories ``tops``, which are listed already, depth first in ascending order."""
        tree = self._tree
        pending = list(reversed(tops))
        while pending:
            directory = pending.pop()
            subdirectories: list[str] = []
            files: list[tuple[str, int]] = []
            linked: list[str] = []
            for path, entry in self._entries(directory):
                self._sort_in(path, entry, subdirectories, files, linked)
            log.debug("%s/%s: %d files, %d directories", tree.root, directory, len(files), len(subdirectories))
            if files:
                files.sort()
                sizes = array("Q", [size for _, size in files])
                tree.runs.append(FileRun(directory, [name for name, _ in files], sizes, frozenset(linked)))
            subdirectories.sort()
            tree.directories.extend(subdirectories)
            pending.extend(path for path in reversed(subdirectories) if not _is_emptied(path))

    def _entries(self, directory: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield relative path and entry of everything in a directory that belongs into a backup."""
        root = self._tree.root
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
                if name in _LEFT_OUT or name.startswith(_LEFT_OUT_PREFIXES) or path in self._left_out:
                    log.debug("%s/%s is left out", root, path)
                    continue
                if holds_relations and name[0] == "t" and _TEMPORARY_RELATION.fullmatch(name):
                    continue
                yield path, entry

    def _sort_in(
        self,
        path: str,
        entry: os.DirEntry[str],
        subdirectories: list[str],
        files: list[tuple[str, int]],
        linked: list[str],
    ) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            files.append((entry.name, status.st_size))
        elif kind == stat.S_IFDIR:
            self._sort_in_directory(path, entry, subdirectories)
        elif kind == stat.S_IFLNK:
            self._sort_in_link(path, entry, subdirectories, files, linked)
        elif kind == stat.S_IFIFO:
            self._tree.specials.append(path)
        elif kind != stat.S_IFSOCK:
            self._warn(path, "is a device, which is not in the backup")

    def _sort_in_directory(self, path: str, entry: os.DirEntry[str], subdirectories: list[str]) -> None:
        parent = path.rpartition("/")[0]
        if entry.name == _LOST_AND_FOUND and (not parent or parent in self._linked_directories):
            self._tree.notes.append((logs.INFO, f"{self._tree.root}/{path} is of the file system and is left out"))
        elif parent in self._linked_directories and parent != "pg_tblspc" and not _SERVER_DIRECTORY.fullmatch(path):
            self._warn(path, "is not a directory of the server's, behind a link, and is not in the backup")
        else:
            if parent in self._linked_directories:
                self._linked_directories.add(path)
            subdirectories.append(path)

    def _sort_in_link(
        self,
        path: str,
        entry: os.DirEntry[str],
        subdirectories: list[str],
        files: list[tuple[str, int]],
        linked: list[str],
    ) -> None:
        parent = path.rpartition("/")[0]
        is_the_servers = parent != "pg_tblspc" and _SERVER_DIRECTORY.fullmatch(parent) is not None
        try:
            status: os.stat_result | None = entry.stat()
        except OSError as error:
            if is_the_servers and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            status = None  # it leads nowhere, or in a circle
        kind = stat.S_IFMT(status.st_mode) if status else 0
        if status and kind == stat.S_IFREG:
            if is_the_servers or path.endswith(".conf") or path in self._followed:
                files.append((entry.name, status.st_size))
                linked.append(entry.name)
            else:
                self._tree.specials.append(path)
                self._warn_if_outside(path)
        elif kind == stat.S_IFDIR:
            if _is_emptied(path):
                subdirectories.append(path)
            elif _SERVER_DIRECTORY.fullmatch(path):
                self._linked_directories.add(path)
                subdirectories.append(path)
            else:
                self._warn(path, "is a link to a directory, which is not in the backup")
        elif is_the_servers:
            if os.path.lexists(entry.path):
                target = _link_text(self._tree.root, path)
                self._warn(path, f"is a link to {target}, which is no file: it is left out")
        else:
            self._tree.specials.append(path)
            self._warn_if_outside(path)

    def _warn_if_outside(self, path: str) -> None:
        """Warn of a link that leads the same way from wherever the backup is restored to."""
        root = self._tree.root
        target = _link_text(root, path)
        real = os.path.realpath(f"{root}/{path}")
        if target.startswith("/") or not f"{real}/".startswith(f"{os.path.realpath(root)}/"):
            self._warn(path, f"is a link to {target}: the link is in the backup, what it leads to is not")

    def _warn(self, path: str, what: str) -> None:
        self._tree.notes.append((logs.WARNING, f"{self._tree.root}/{path} {what}"))


def _link_text(root: str, path: str) -> str:
    try:
        return os.readlink(f"{root}/{path}")  # noqa: PTH115 - the text as it stands
    except OSError:
        return "nothing"


def _is_emptied(path: str) -> bool:
    return path in _EMPTIED_AT_ROOT or path.rpartition("/")[2] in _EMPTIED
