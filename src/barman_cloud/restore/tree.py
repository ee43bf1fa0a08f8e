"""A directory that is being filled: what its archives have in common, and what can only be done after the last of them.

Links are made and directories get their modes when all content is in place. So no archive can write through a link that
it (or another) brought along, and a directory without write permission can still be filled.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from barman_cloud.errors import UnsafeArchiveError

Parts = tuple[str, ...]

_NO_SUCH_FILE = "no server has such a file; don't trust this backup"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LONGEST_NAME = 4096
"""Bytes of a member's name: PATH_MAX of Linux. PostgreSQL's own limit for a path is 1024."""
_DEEPEST = 100
"""Levels of directories; programs that walk a tree by recursion end somewhere near 1000."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an archive says of a directory. ``mtime`` in nanoseconds."""

    mode: int
    uid: int
    gid: int
    mtime: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link and its text, or a hard link and the member name it stands for."""

    target: str
    hard: bool
    uid: int
    gid: int


@dataclass(slots=True)
class Outcome:
    """What one archive leaves to be done at the end, by member path; and its counts."""

    directories: dict[str, Attributes] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    root_names: list[str] = field(default_factory=list)
    """Names written at the top level, where archives of Barman may hold one name twice."""
    files: int = 0
    size: int = 0
    """Bytes of file content."""
    overlaid: int = 0
    """Files that are changed blocks of a relation; counted in ``files`` too."""
    kept: int = 0
    """Files that were there already."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        return cls(
            {path: Attributes(**value) for path, value in data["directories"].items()},
            {path: Link(**value) for path, value in data["links"].items()},
            data["root_names"],
            data["files"],
            data["size"],
            data.get("overlaid", 0),
            data.get("kept", 0),
        )


class Tree:
    """One target directory. Safe for several threads, each with an :class:`~barman_cloud.restore.extract.Extractor`.

    ``set_aside`` maps member paths to the names they are written under instead.
    """

    def __init__(self, root: Path, set_aside: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.set_aside = dict(set_aside or {})
        self.outcomes: dict[int, Outcome] = {}
        self.implied: set[Parts] = set()
        """Directories that were made because a member is in them."""
        self._writers: dict[str, int] = {}
        self._lock = threading.Lock()
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def claim(self, name: str, order: int) -> bool:
        """Tell whether the archive at ``order`` may write the top-level ``name``: not if a later one already did.

        Barman appends external configuration files and ``backup_label`` at the end of the last archive, and what comes
        later in that order wins, whichever worker is faster.
        """
        with self._lock:
            if self._writers.get(name, -1) > order:
                return False
            self._writers[name] = order
            return True

    def add(self, order: int, outcome: Outcome) -> None:
        """Take over what an archive left to be done; also for an archive that an earlier, interrupted run extracted."""
        for name in outcome.root_names:
            self.claim(name, order)
        with self._lock:
            self.outcomes[order] = outcome

    def make_directory(self, parts: Parts, parent: int) -> None:
        """Create the directory of the last part inside the open directory ``parent``, unless it is there already."""
        try:
            os.mkdir(parts[-1], 0o700, dir_fd=parent)
        except FileExistsError:
            return
        with self._lock:
            self.implied.add(parts)

    def make_links(self) -> None:
        """Create the links of all archives. ``UnsafeArchiveError`` if content is where a link belongs."""
        links = {
            path: link
            for order, outcome in sorted(self.outcomes.items())
            for path, link in outcome.links.items()
            if "/" in path or self._writers.get(path, order) == order
        }
        for path in sorted(links, key=lambda path: links[path].hard):
            self._make_link(path, links[path])

    def _make_link(self, path: str, link: Link) -> None:
        parts = split(path)
        with self.opened(parts[:-1], writable=True) as parent:
            self.clear(parts[-1], parent, f"link {path}")
            if link.hard:
                self._make_hard_link(parts[-1], parent, link.target)
                return
            os.symlink(link.target, parts[-1], dir_fd=parent)
            if is_root():
                os.chown(parts[-1], link.uid, link.gid, dir_fd=parent, follow_symlinks=False)

    def clear(self, name: str, parent: int, what: str) -> None:
        """Remove the entry ``name`` of the open directory ``parent``, whatever it is, to make room for ``what``.

        ``UnsafeArchiveError`` if it is a directory: what an archive puts below a name stays there.
        """
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            # Systems other than Linux say EPERM of a directory.
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise
            raise UnsafeArchiveError(
                f"{self.root}: the archive has both a {what} and a directory of that name",
                hint="nothing was written outside the target directory; don't trust this backup",
            ) from None

    def _make_hard_link(self, name: str, parent: int, target: str) -> None:
        source = split(target)
        try:
            with self.opened(source[:-1]) as folder:
                if stat.S_ISDIR(os.stat(source[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                    raise UnsafeArchiveError(f"{self.root}: hard link {name} stands for the directory {target}")
                os.link(source[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            raise UnsafeArchiveError(
                f"{self.root}: hard link {name} stands for {target}, which isn't in the archive"
            ) from None

    def root_attributes(self) -> Attributes | None:
        """Return what the last archive that has the member ``./`` says of the tree's own directory."""
        found = [outcome.directories[""] for _, outcome in sorted(self.outcomes.items()) if "" in outcome.directories]
        return found[-1] if found else None

    def ensure_directory(self, name: str, attributes: Attributes) -> None:
        """Create the top-level directory ``name`` unless the archives had it."""
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.fd)
            fd = open_directory(name, self.fd, (name,), self.root)
            try:
                apply(fd, attributes)
            finally:
                os.close(fd)

    def set_attributes(self, default: Attributes) -> None:
        """Give the directories below the root their archived owner, mode and time.

        Those that only their content told of get owner and mode of ``default``.
        """
        known: dict[Parts, Attributes] = {}
        for _, outcome in sorted(self.outcomes.items()):
            known.update((split(path), value) for path, value in outcome.directories.items())
        known.pop((), None)
        # Inner ones first: an outer one may lose the permission to be searched.
        for parts in sorted(self.implied | known.keys(), key=len, reverse=True):
            value = known.get(parts)
            with self.opened(parts) as fd:
                apply(fd, value or default)
                if value:
                    os.utime(fd, ns=(value.mtime, value.mtime))

    @contextmanager
    def opened(self, parts: Parts, *, writable: bool = False) -> Iterator[int]:
        """Open an existing directory of the tree, never through a link, and close it afterwards."""
        fd = os.dup(self.fd)
        try:
            for index, part in enumerate(parts):
                inner = open_directory(part, fd, parts[: index + 1], self.root, writable=writable)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)


def split(name: str) -> Parts:
    """Return the parts of a member's name, empty for the root (``./``).

    Raises ``UnsafeArchiveError`` for a name that is absolute, climbs (``..``) or isn't a file name.
    """
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if len(name) > _LONGEST_NAME:
        raise UnsafeArchiveError(
            f"archive member {name[:40]!r}… has a name of {len(name)} characters, longer than any path can be",
            hint=_NO_SUCH_FILE,
        )
    if len(parts) > _DEEPEST:
        raise UnsafeArchiveError(
            f"archive member {name[:40]!r}… lies {len(parts)} levels deep, more than {_DEEPEST}", hint=_NO_SUCH_FILE
        )
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise UnsafeArchiveError(
            f"archive member {name!r} is outside the directory that is restored",
            hint="nothing was written outside it; don't trust this backup",
        )
    return parts


def open_directory(name: str, parent: int, parts: Parts, root: Path, *, writable: bool = False) -> int:
    """Open directory ``name`` of ``parent``; ``UnsafeArchiveError`` if it is a link or a file.

    An interrupted restore may have given it its final mode already, one that forbids the owner to read or to write. It
    is made readable (and ``writable``) then, until it gets that mode again.
    """
    try:
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except PermissionError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise
            os.chmod(name, stat.S_IRWXU, dir_fd=parent)
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except NotADirectoryError:
        raise UnsafeArchiveError(
            f"{root}: the archive has content below {'/'.join(parts)}, which isn't a directory",
            hint="nothing was written outside the target directory; don't trust this backup",
        ) from None
    if writable and not is_root() and (mode := stat.S_IMODE(os.fstat(fd).st_mode)) & stat.S_IRWXU != stat.S_IRWXU:
        os.fchmod(fd, mode | stat.S_IRWXU)
    return fd


def apply(fd: int, attributes: Attributes) -> None:
    """Set owner (as root only) and mode of an open file or directory."""
    if is_root():
        os.fchown(fd, attributes.uid, attributes.gid)
    if stat.S_IMODE(os.fstat(fd).st_mode) != attributes.mode:
        os.fchmod(fd, attributes.mode)


def is_root() -> bool:
    return os.geteuid() == 0


@lru_cache(maxsize=256)
def owner(uname: str, uid: int, gname: str, gid: int) -> tuple[int, int]:
    """Return the ids of an archived owner on this machine: by name if the name is known here, else the archived ids."""
    if uname:
        with suppress(KeyError):
            uid = pwd.getpwnam(uname).pw_uid
    if gname:
        with suppress(KeyError):
            gid = grp.getgrnam(gname).gr_gid
    return uid, gid
