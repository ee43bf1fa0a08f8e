"""Safe extraction of one archive into a tree.

Every directory is opened relative to its parent and without following links, and every file is created anew inside an
open directory, so no name can lead outside whatever the archive holds. Refused with ``UnsafeArchiveError``: absolute
names, ``..``, content below a link or a file, hard links to anything outside, devices.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable

from barman_cloud import logs
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally, crc32c
from barman_cloud.archive.tar import Member
from barman_cloud.errors import IntegrityError, UnsafeArchiveError
from barman_cloud.incremental.chains import Action
from barman_cloud.incremental.file_format import PREFIX
from barman_cloud.restore.layer import LABEL, LayerOfArchive, is_of_changed_blocks, without_parent
from barman_cloud.restore.output import Outputs
from barman_cloud.restore.overlay import open_base, overlay
from barman_cloud.restore.tree import (
    Attributes,
    Link,
    Outcome,
    Parts,
    Tree,
    apply,
    is_root,
    open_directory,
    owner,
    split,
)

log = logs.get_logger(__name__)

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_ONLY = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIRECTORIES = 64
_LATEST = 2**33
_LONGEST_LABEL = 64 << 10

FileRecorder = Callable[[str, int, int], None]
"""Told of each file: member path, size in bytes, CRC-32C."""


class Extractor:
    """Writes the members of one archive below ``tree``. Used by one thread.

    ``order`` is the archive's place in the order in which Barman would extract: where archives hold one name twice, the
    later archive wins. ``record`` (None: checksums aren't computed) is told of every file that is written; one that
    ``keep`` accepts, by its member path, is there already with the right content. ``layer`` (None: a full backup) says
    which members of a backup of a chain are written, and which are written over what older backups left.
    """

    def __init__(
        self,
        tree: Tree,
        order: int,
        record: FileRecorder | None = None,
        keep: Callable[[str], bool] | None = None,
        layer: LayerOfArchive | None = None,
    ) -> None:
        self.outcome = Outcome()
        self._tree = tree
        self._order = order
        self._record = record
        self._keep = keep
        self._layer = layer
        self._outputs = Outputs()
        self._open: OrderedDict[Parts, int] = OrderedDict()

    def close(self) -> None:
        """Close the directories."""
        while self._open:
            os.close(self._open.popitem()[1])

    def extract(self, member: Member, content: Iterable[Buffer]) -> None:
        """Write one member. ``content`` (of a file) is consumed, unless another archive's file of that name wins."""
        parts = split(member.name)
        path = "/".join(parts)
        action = self._action(path)
        if action is not Action.WRITE or (self._layer and not self._layer.is_newest):
            self._older(action, member, path, parts, content)
            return
        if member.kind == "directory":
            self._directory(parts)
            self.outcome.directories[path] = _attributes(member)
            return
        if not parts:
            raise UnsafeArchiveError(f"{self._tree.root}: an archive member replaces the directory itself")
        if len(parts) == 1:
            if not self._tree.claim(path, self._order):
                return
            self.outcome.root_names.append(path)
        if path in self._tree.set_aside and member.kind != "file":
            raise self._not_a_file(path, member.kind)
        if member.kind not in ("symlink", "hardlink"):
            self.outcome.links.pop(path, None)
        if member.kind == "file":
            write = self._label if self._layer and path == LABEL else self._file
            write(member, path, parts, content)
        elif member.kind in ("symlink", "hardlink"):
            self._link(member, path, parts)
        elif member.kind == "fifo":
            self._fifo(member, path, parts)
        else:
            raise UnsafeArchiveError(
                f"{self._tree.root}: archive member {path} is a {member.kind}, which is never restored",
                hint="a PostgreSQL data directory holds no such thing; don't trust this backup",
            )

    def _action(self, path: str) -> Action:
        if self._layer is not None:
            return self._layer.action(path)
        if is_of_changed_blocks(path):
            raise IntegrityError(
                f"{self._tree.root}: the backup holds changed blocks ({path}), and its backup.info doesn't tell what "
                "it builds on",
                hint="restore another backup",
            )
        return Action.WRITE

    def _older(self, action: Action, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> None:
        """Do with a member what a full backup has no need of. Only files come out of older backups."""
        if action is Action.SKIP:
            return
        if member.kind != "file":
            raise self._not_a_file(path, member.kind)
        if action is Action.WRITE:
            self._base(member, path, parts, content)
        elif self._layer and self._layer.merge:
            self.outcome.overlaid += 1
            self._count(path, *self._layer.learn(path, member, content))
        else:
            self._overlay(member, path, parts, content)

    def _base(self, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> None:
        """Write a file that an older backup has whole, with what newer ones have changed of it if that is known."""
        stored = Tally(content)
        merged = self._layer.whole(path, member, iter(stored)) if self._layer else None
        if merged is None:
            self._file(member, path, parts, content)
            return
        written = self._write_file(merged[0], path, parts, merged[1])
        assert self._layer is not None
        self._layer.note_whole(path, *written)
        self._count(path, stored.size, stored.crc32c)

    def _overlay(self, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> None:
        fd = open_base(parts[-1].removeprefix(PREFIX), self._directory(parts[:-1]), path)
        try:
            size, crc = overlay(fd, member.size, content, path)
            _set_attributes(fd, member)
        finally:
            os.close(fd)
        self.outcome.overlaid += 1
        self._count(path, size, crc)

    def _label(self, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> None:
        """Write the label of a chain's newest backup without its parent, as it is of a whole backup now."""
        if member.size > _LONGEST_LABEL:
            raise IntegrityError(f"{path} has {member.size} bytes, more than any server writes")
        label = b"".join(bytes(data) for data in content)
        if self._record is not None:
            self._record(path, len(label), crc32c(label))
        self._write_file(member, path, parts, [without_parent(label)])
        self.outcome.files += 1
        self.outcome.size += len(label)

    def _file(self, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> None:
        if self._keep is not None and self._keep(path) and self._adopt(member, parts):
            self.outcome.kept += 1
            return
        self._count(path, *self._write_file(member, path, parts, content))

    def _write_file(self, member: Member, path: str, parts: Parts, content: Iterable[Buffer]) -> tuple[int, int]:
        """Create a file with this content; returns its size and CRC-32C."""
        name = self._tree.set_aside.get(path, parts[-1])
        fd = self._create(name, self._directory(parts[:-1]), path)
        try:
            written = self._write(fd, member, content)
            _set_attributes(fd, member)
        finally:
            os.close(fd)
        return written

    def _count(self, path: str, size: int, crc: int) -> None:
        self.outcome.files += 1
        self.outcome.size += size
        if self._record is not None:
            self._record(path, size, crc)

    def _adopt(self, member: Member, parts: Parts) -> bool:
        """Give a file that is kept its archived attributes; False if it isn't there any more."""
        try:
            fd = os.open(parts[-1], _READ_ONLY, dir_fd=self._directory(parts[:-1]))
        except OSError:
            return False
        try:
            _set_attributes(fd, member)
        finally:
            os.close(fd)
        return True

    def _write(self, fd: int, member: Member, content: Iterable[Buffer]) -> tuple[int, int]:
        """Write ``content`` and return its size and CRC-32C (0 when nobody wants it)."""
        wanted = self._record is not None
        output = self._outputs.open(fd, member.size)
        size = crc = 0
        for data in content:
            output.write(data)
            size += len(data)
            if wanted:
                crc = crc32c(data, crc)
        output.end()
        return size, crc

    def _create(self, name: str, folder: int, path: str) -> int:
        """Create a file of this name, in place of what an earlier member or an interrupted run left."""
        while True:
            try:
                return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
            except FileExistsError:
                self._tree.clear(name, folder, f"file {path}")

    def _link(self, member: Member, path: str, parts: Parts) -> None:
        hard = member.kind == "hardlink"
        if not (split(member.linkname) if hard else member.linkname) or "\0" in member.linkname:
            raise UnsafeArchiveError(f"{self._tree.root}: link {path} leads to {member.linkname!r}, which is no file")
        self._directory(parts[:-1])
        uid, gid = owner(member.uname, member.uid, member.gname, member.gid)
        self.outcome.links[path] = Link(member.linkname, hard, uid, gid)

    def _fifo(self, member: Member, path: str, parts: Parts) -> None:
        folder = self._directory(parts[:-1])
        self._tree.clear(parts[-1], folder, f"fifo {path}")
        os.mkfifo(parts[-1], 0o600, dir_fd=folder)
        attributes = _attributes(member)
        os.chmod(parts[-1], attributes.mode, dir_fd=folder)
        if is_root():
            os.chown(parts[-1], attributes.uid, attributes.gid, dir_fd=folder, follow_symlinks=False)

    def _not_a_file(self, path: str, kind: str) -> UnsafeArchiveError:
        return UnsafeArchiveError(
            f"{self._tree.root}: archive member {path} is a {kind}, not a file",
            hint="a PostgreSQL data directory holds no such thing; don't trust this backup",
        )

    def _directory(self, parts: Parts) -> int:
        """Return a descriptor of the directory, which is created if missing; valid until the next call."""
        depth = len(parts)
        while depth and parts[:depth] not in self._open:
            depth -= 1
        if depth:
            self._open.move_to_end(parts[:depth])
        fd = self._open[parts[:depth]] if depth else self._tree.fd
        for inner in range(depth + 1, len(parts) + 1):
            fd = self._open_inner(parts[:inner], fd)
        return fd

    def _open_inner(self, parts: Parts, parent: int) -> int:
        """Open, and create if it is missing, the directory of the last part inside the open directory ``parent``."""
        path = "/".join(parts)
        if path in self._tree.set_aside:
            raise self._not_a_file(path, "directory")
        if path in self.outcome.links:
            raise UnsafeArchiveError(
                f"{self._tree.root}: the archive has content below {path}, which is a link",
                hint="nothing was written outside the target directory; don't trust this backup",
            )
        try:
            fd = open_directory(parts[-1], parent, parts, self._tree.root, writable=True)
        except FileNotFoundError:
            self._tree.make_directory(parts, parent)
            fd = open_directory(parts[-1], parent, parts, self._tree.root, writable=True)
        self._open[parts] = fd
        if len(self._open) > _OPEN_DIRECTORIES:
            os.close(self._open.popitem(last=False)[1])
        return fd


def _set_attributes(fd: int, member: Member) -> None:
    attributes = _attributes(member)
    apply(fd, attributes)
    os.utime(fd, ns=(attributes.mtime, attributes.mtime))


def _attributes(member: Member) -> Attributes:
    # Set-id bits of a stranger's archive are never a service to the one who restores it.
    uid, gid = owner(member.uname, member.uid, member.gname, member.gid)
    # A float holds microseconds exactly enough, nanoseconds not.
    mtime = round(member.mtime * 1_000_000) * 1000 if 0 <= member.mtime < _LATEST else 0
    return Attributes(member.mode & 0o777, uid, gid, mtime)
