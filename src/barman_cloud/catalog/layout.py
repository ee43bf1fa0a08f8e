"""Every key in the bucket, built and parsed in this one place.

The layout is Barman's (``docs/reference/format.md`` describes it object by object)::

    <prefix>/<server>/base/<backup id>/backup.info
                                       data.tar[.gz], data_0001.tar[.gz] …      archives of PGDATA
                                       <oid>.tar[.gz], <oid>_0001.tar[.gz] …    archives of a tablespace
                                       backup_label                             of snapshot backups
                                       annotations/keep
                                       archives.json, backup_manifest,          ours; Barman ignores them
                                       configuration.tar
                                       being_deleted, heartbeat                 ours, for a moment
    <prefix>/<server>/system_identifiers                                        ours
    <prefix>/<server>/wals/<timeline><log>/<segment>[.partial|.<offset>.backup][.gz]
                           <timeline>.history[.gz]
    <prefix>/<server>/wal_pieces/<segment>/<begin>-<end>.<epoch>                ours: a segment that isn't complete yet
    <prefix>/<server>/maintenance/…                                             ours: leases, history of scheduled runs

This module is on the path of ``wal-archive`` and ``wal-restore``: it imports next to nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from barman_cloud.archive.compression import SUFFIX
from barman_cloud.errors import UsageError
from barman_cloud.postgres.wal import SEGMENT_NAME_LENGTH, is_wal_name

if TYPE_CHECKING:
    from barman_cloud.store.base import StoreURL

BACKUP_ID = r"[0-9]{8}T[0-9]{6}"
"""What a backup id looks like (a pattern for ``re.fullmatch``); folders of other names are read all the same."""

DATA = "data"
"""The base name of the archives of PGDATA; those of a tablespace are named by its oid."""

_COMPRESSION_OF_WAL: dict[str, str | None] = {"": None, **{suffix: name for name, suffix in SUFFIX.items()}}
_COMPRESSION_OF_ARCHIVE = {suffix: name for suffix, name in _COMPRESSION_OF_WAL.items() if name != "xz"}

_ARCHIVE_NAME = r"(?P<base>data|[0-9]+)(?:_(?P<part>[0-9]+))?\.tar(?P<suffix>(?:\.[a-z0-9]+)?)"
_WAL_FOLDER = r"[0-9A-Fa-f]{16}"
_PIECE = r"([0-9A-F]{24})/([0-9A-F]{8})-([0-9A-F]{8})\.([0-9]{12})"


class ArchiveName(NamedTuple):
    """What the key of a base archive tells: part 0 is the unnumbered first one."""

    key: str
    backup_id: str
    base: str
    part: int
    compression: str | None


class WalObject(NamedTuple):
    """What the key of an archived WAL file tells; ``name`` is PostgreSQL's file name, as it was spelled."""

    key: str
    name: str
    compression: str | None

    @property
    def is_history(self) -> bool:
        return self.name.endswith(".history")

    @property
    def timeline(self) -> int:
        return int(self.name[:8], 16)

    @property
    def segment(self) -> str | None:
        """The 24 upper-case hex digits of the segment that this file is, or belongs to; None for a history file."""
        return None if self.is_history else self.name[:SEGMENT_NAME_LENGTH].upper()

    @property
    def is_full_segment(self) -> bool:
        """A segment, neither partial nor one of the small files: only such names have so many characters."""
        return len(self.name) == SEGMENT_NAME_LENGTH

    @property
    def suffix(self) -> str:
        """What follows the file name in the key: the suffix of a compression, or nothing."""
        return self.key[self.key.rindex("/") + 1 + len(self.name) :]


class WalPiece(NamedTuple):
    """What the key of a piece of a segment tells: it holds the bytes from ``begin`` to before ``end``."""

    key: str
    segment: str
    begin: int
    end: int
    epoch: int
    """The fencing number of the receiver that stored it."""


class Layout:
    """The keys of one server below one prefix. ``prefix`` has no slash at its ends and may be empty."""

    def __init__(self, prefix: str, server: str) -> None:
        if not server or any(part in ("", ".", "..") for part in server.split("/")):
            raise UsageError(
                f"server name {server!r} can't be part of an object's key",
                hint="it must not be empty, begin or end with a slash, or have '.' or '..' between slashes",
            )
        self.prefix = prefix
        self.server = server

    @classmethod
    def of(cls, url: StoreURL, server: str) -> Layout:
        return cls(url.path.strip("/"), server)

    @property
    def root(self) -> str:
        """``<prefix>/<server>/``."""
        return f"{self.prefix}/{self.server}/" if self.prefix else f"{self.server}/"

    @property
    def identity(self) -> str:
        """The key of the object that says which cluster the WAL archive and the backups are of."""
        return f"{self.root}system_identifiers"

    @property
    def base_dir(self) -> str:
        return f"{self.root}base/"

    @property
    def wals_dir(self) -> str:
        return f"{self.root}wals/"

    @property
    def maintenance_dir(self) -> str:
        """Where leases and the history of scheduled runs are: ours; Barman never looks there."""
        return f"{self.root}maintenance/"

    @property
    def pieces_dir(self) -> str:
        """Where ``wal-receive`` keeps segments that aren't complete yet: ours; Barman never looks there."""
        return f"{self.root}wal_pieces/"

    def pieces_of(self, segment: str) -> str:
        """Return what the keys of all pieces of a segment begin with."""
        return f"{self.pieces_dir}{segment.upper()}/"

    def piece(self, segment: str, begin: int, end: int, epoch: int) -> str:
        """Return the key of a piece: what it holds, and who stored it, so that no two receivers write the same key."""
        return f"{self.pieces_of(segment)}{begin:08X}-{end:08X}.{epoch:012d}"

    def parse_piece_key(self, key: str) -> WalPiece | None:
        """Return what ``key`` tells, or None if it is no piece of a segment of this server."""
        match = re.fullmatch(_PIECE, key[len(self.pieces_dir) :]) if key.startswith(self.pieces_dir) else None
        if match is None:
            return None
        begin, end = int(match[2], 16), int(match[3], 16)
        return WalPiece(key, match[1], begin, end, int(match[4])) if begin < end else None

    def backup_dir(self, backup_id: str) -> str:
        return f"{self.base_dir}{backup_id}/"

    def backup_info(self, backup_id: str) -> str:
        return f"{self.backup_dir(backup_id)}backup.info"

    def backup_label(self, backup_id: str) -> str:
        return f"{self.backup_dir(backup_id)}backup_label"

    def being_deleted(self, backup_id: str) -> str:
        """Return the key of what a deletion puts beside a backup that is still being made."""
        return f"{self.backup_dir(backup_id)}being_deleted"

    def snapshots_begun(self, backup_id: str) -> str:
        """Return the key of the record of disk snapshots that ``backup.info`` doesn't name yet."""
        return f"{self.backup_dir(backup_id)}snapshots.json"

    def heartbeat(self, backup_id: str) -> str:
        """Return the key of the sign of life of a backup that is being made."""
        return f"{self.backup_dir(backup_id)}heartbeat"

    def keep(self, backup_id: str) -> str:
        return f"{self.backup_dir(backup_id)}annotations/keep"

    def keep_with_double_slash(self, backup_id: str) -> str | None:
        """Return where Barman puts the keep annotation if its URL ends in a slash; None if the path is empty.

        Every other key is the same for both spellings of the URL, this one isn't.
        """
        return f"{self.prefix}//{self.server}/base/{backup_id}/annotations/keep" if self.prefix else None

    def archives_json(self, backup_id: str) -> str:
        return f"{self.backup_dir(backup_id)}archives.json"

    def manifest(self, backup_id: str) -> str:
        return f"{self.backup_dir(backup_id)}backup_manifest"

    def configuration(self, backup_id: str) -> str:
        """Return the key of a streamed backup's configuration files from outside PGDATA."""
        return f"{self.backup_dir(backup_id)}configuration.tar"

    def archive(self, backup_id: str, base: str, part: int = 0, suffix: str = "") -> str:
        """Return the key of one base archive; ``base`` is ``data`` or an oid, ``suffix`` such as ``.gz``, or empty."""
        number = f"_{part:04d}" if part else ""
        return f"{self.backup_dir(backup_id)}{base}{number}.tar{suffix}"

    def parse_archive_key(self, key: str) -> ArchiveName | None:
        """Return what ``key`` tells, or None if it is no archive of a base backup of this server."""
        if not key.startswith(self.base_dir):
            return None
        backup_id, _, name = key[len(self.base_dir) :].partition("/")
        match = re.fullmatch(_ARCHIVE_NAME, name)
        if match is None or match["suffix"] not in _COMPRESSION_OF_ARCHIVE:
            return None
        compression = _COMPRESSION_OF_ARCHIVE[match["suffix"]]
        return ArchiveName(key, backup_id, match["base"], int(match["part"] or 0), compression)

    def backup_id_of(self, key: str) -> str | None:
        """Return the id of the backup whose folder ``key`` (an object or the folder itself) is in."""
        if not key.startswith(self.base_dir):
            return None
        backup_id, slash, _ = key[len(self.base_dir) :].partition("/")
        return backup_id if slash and backup_id else None

    def wal_folder(self, name: str) -> str:
        """Return the folder of a WAL file: that of its timeline and log number, in upper case, or ``wals/`` itself."""
        return self.wals_dir if name.endswith(".history") else f"{self.wals_dir}{name[:16].upper()}/"

    def wal(self, name: str, suffix: str = "") -> str:
        """Return the key of a WAL file; the file name keeps its spelling."""
        return f"{self.wal_folder(name)}{name}{suffix}"

    def wal_prefix(self, name: str) -> str:
        """Return what all keys of a WAL file begin with: each compression, and of a segment its partial too."""
        return self.wal(name)

    def parse_wal_key(self, key: str) -> WalObject | None:
        """Return what ``key`` tells, or None if its last part isn't a WAL file name and at most one known suffix."""
        if not key.startswith(self.wals_dir):
            return None
        name = key[key.rindex("/") + 1 :]
        stem, dot, extension = name.rpartition(".")
        suffix = dot + extension if dot + extension in _COMPRESSION_OF_WAL else ""
        name = stem if suffix else name
        return WalObject(key, name, _COMPRESSION_OF_WAL[suffix]) if is_wal_name(name) else None


def parse_wal_folder(folder: str) -> tuple[int, int] | None:
    """Return timeline and log number of a folder's bare name (16 hex digits), or None if it is another name."""
    return (int(folder[:8], 16), int(folder[8:], 16)) if re.fullmatch(_WAL_FOLDER, folder) else None
