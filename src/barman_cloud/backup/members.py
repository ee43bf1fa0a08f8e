"""From an archive's plan to its members: opening, describing and reading files while the server goes on writing them.

A file's size is fixed when it is opened, because its header goes first: one that shrinks afterwards is filled up with
zeros, one that grows is cut. PostgreSQL's recovery makes both right from WAL. What vanished since the scan is left out.
"""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from barman_cloud import logs
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import crc32c
from barman_cloud.archive.tar import Kind, Member
from barman_cloud.backup.block_file import BlockFile
from barman_cloud.backup.pack import ArchivePlan, member_size
from barman_cloud.backup.page_cache import CacheGuard
from barman_cloud.backup.page_check import PageChecker
from barman_cloud.backup.scan import DATA
from barman_cloud.incremental.file_format import PREFIX, Header
from barman_cloud.incremental.increment import Increment

log = logs.get_logger(__name__)

BLOCK = 1 << 20
"""Bytes per read."""

Content: TypeAlias = Iterator[Buffer]
OnFile: TypeAlias = Callable[[str, int, float, int], None]
"""Gets the path inside the restored PGDATA, size, modification time and CRC-32C of each archived file."""

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTHING: tuple[()] = ()
_ZEROS = bytes(64 << 10)


class PlannedMembers:
    """Iterates over the members of a plan, each with its content, which must be consumed before the next is asked for.

    Stops in front of a file that would make the archive's tar larger than ``capacity`` bytes, unless it would be the
    first one; what is left then is in ``rest``, a plan of its own with part number 0.

    With an ``increment`` the changed blocks of a file stand for it where that decides so.
    """

    def __init__(
        self,
        plan: ArchivePlan,
        capacity: int,
        on_file: OnFile,
        pages: PageChecker | None = None,
        increment: Increment | None = None,
        skipped: Callable[[int], None] | None = None,
    ) -> None:
        """``skipped`` gets the bytes of each file that an increment leaves out."""
        self._skipped = skipped
        self._plan = plan
        self._capacity = capacity
        self._on_file = on_file
        self._pages = pages
        self._increment = increment
        self.count = 0
        self.rest: ArchivePlan | None = None

    def __iter__(self) -> Iterator[tuple[Member, Content]]:
        plan = self._plan
        size = 0
        for path in plan.directories:
            if member := describe_directory(plan.root, path):
                size += member_size(0)
                self.count += 1
                yield member, iter(_NOTHING)
        for path in plan.specials:
            if member := describe_special(plan.root, path):
                size += member_size(0)
                self.count += 1
                yield member, iter(_NOTHING)
        files = 0
        for run_index, run in enumerate(plan.runs):
            prefix = f"{run.directory}/" if run.directory else "./"
            place = f"{plan.root}/{run.directory}" if run.directory else plan.root
            for index, name in enumerate(run.names):
                opened = open_file(f"{place}/{name}", follow=name in run.linked)
                if opened is None:
                    continue
                descriptor, status = opened
                try:
                    member, content = self._member(descriptor, describe(prefix + name, "file", status))
                    size += member_size(member.size)
                    if files and size > self._capacity:
                        self._leave_rest(run_index, index)
                        return
                    files += 1
                    self.count += 1
                    yield member, content
                finally:
                    os.close(descriptor)

    def _member(self, descriptor: int, whole: Member) -> tuple[Member, Content]:
        """Return what is stored of an open file, and its content."""
        if self._increment is not None:
            file = BlockFile(descriptor, whole.size)
            path = restored_path(self._plan.base, whole.name)
            header = self._increment.header(path, whole.size, file.pages)
            if header is not None:
                place, slash, name = whole.name.rpartition("/")
                member = replace(whole, name=f"{place}{slash}{PREFIX}{name}", size=header.file_size)
                if self._skipped is not None:
                    self._skipped(max(whole.size - member.size, 0))
                return member, self._changed(file, whole, member, header)
        return whole, self._content(descriptor, whole)

    def _changed(self, file: BlockFile, whole: Member, member: Member, header: Header) -> Content:
        path, source = restored_path(self._plan.base, whole.name), f"{self._plan.root}/{whole.name}"
        beginning = header.to_bytes()
        checksum = crc32c(beginning)
        yield beginning
        for block, data in file.runs(header.blocks):
            checksum = crc32c(data, checksum)
            if self._pages and (take := self._pages.watch(path, source, whole.name, block)):
                take(data)
            yield data
        self._on_file(restored_path(self._plan.base, member.name), member.size, member.mtime, checksum)

    def _content(self, descriptor: int, member: Member) -> Content:
        path = restored_path(self._plan.base, member.name)
        take = self._pages.watch(path, f"{self._plan.root}/{member.name}", member.name) if self._pages else None
        checksum = 0
        for chunk in read_file(descriptor, member.size):
            checksum = crc32c(chunk, checksum)
            if take:
                take(chunk)
            yield chunk
        self._on_file(path, member.size, member.mtime, checksum)

    def _leave_rest(self, run_index: int, index: int) -> None:
        runs = [self._plan.runs[run_index][index:], *self._plan.runs[run_index + 1 :]]
        size = sum(member_size(file_size) for run in runs for file_size in run.sizes)
        self.rest = ArchivePlan(self._plan.base, self._plan.root, 0, runs=runs, size=size)


def restored_path(base: str, name: str) -> str:
    """Return where a member of an archive is below the restored PGDATA."""
    path = name.removeprefix("./")
    return path if base == DATA else f"pg_tblspc/{base}/{path}"


def open_file(path: str, *, follow: bool = False) -> tuple[int, os.stat_result] | None:
    """Open a regular file for reading, through links if ``follow``; None if there is none (any more).

    What became a link or something else since the scan is left out with a WARNING. Other failures are OSError.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS & ~os.O_NOFOLLOW if follow else _OPEN_FLAGS)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            log.debug("%s vanished", path)
            return None
        if error.errno in (errno.ELOOP, errno.ENXIO):
            log.warning("%s is no longer a file and is left out", path)
            return None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        log.warning("%s is no longer a file and is left out", path)
        return None
    return descriptor, status


def read_file(descriptor: int, size: int) -> Content:
    """Yield exactly ``size`` bytes of an open file, in large blocks: cut if it grew, filled with zeros if it shrank."""
    guard = CacheGuard(descriptor, size)
    position = 0
    while position < size:
        chunk = os.read(descriptor, min(BLOCK, size - position))
        if not chunk:
            break
        position += len(chunk)
        yield chunk
        guard.passed(position)
    while position < size:
        chunk = _ZEROS[: size - position]
        position += len(chunk)
        yield chunk


def describe_directory(root: str, path: str) -> Member | None:
    """Describe a directory (or what a link to it stands for); None if it vanished."""
    try:
        status = Path(root, path).stat()
    except FileNotFoundError:
        return None
    return describe(path or ".", "directory", status)


def describe_special(root: str, path: str) -> Member | None:
    """Describe a symbolic link or a FIFO; None if it vanished or became something else."""
    name = path if "/" in path else f"./{path}"
    try:
        status = Path(root, path).lstat()
        if stat.S_ISLNK(status.st_mode):
            return describe(name, "symlink", status, str(Path(root, path).readlink()))
    except FileNotFoundError:
        return None
    return describe(name, "fifo", status) if stat.S_ISFIFO(status.st_mode) else None


def describe(name: str, kind: Kind, status: os.stat_result, target: str = "") -> Member:
    """Return the archive member for a file's status; only regular files have a size."""
    return Member(
        name=name,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        uname=_user_name(status.st_uid),
        gname=_group_name(status.st_gid),
        size=status.st_size if kind == "file" else 0,
        mtime=status.st_mtime,
        linkname=target,
    )


@functools.cache
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.cache
def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
