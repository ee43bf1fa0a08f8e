"""The spool directory: what one call of ``wal-archive`` or ``wal-restore`` leaves for the calls after it.

::

    <spool directory>/
        archive-<key>/        files already archived by one command line         (wal/archive_spool.py)
        restore-<key>/        segments fetched ahead from one store and server   (wal/restore_spool.py)
        receive-<key>/        segments received, and not stored yet              (wal/receive_spool.py)
            owner             says that this program made the directory, and for which key
            command-<digest>  this command line leads here
        command-<digest>      a symbolic link to one of the directories

PostgreSQL runs the same command line for each segment, with another file name in it. The link lets the next call find
its directory before a parser, a logger or a client of the store is imported, which is most of what a call costs.
A wrong or missing link is harmless: the long way round finds the directory by itself.

The spool may be below a directory where other users can rename and replace things. So paths are walked level by level
(:func:`_open_levels`), a directory is held open and everything in it is reached through that (:class:`Directory`), and
one without the right ``owner`` file is never used, whatever name it has.

This module, like the two named above, imports only what the interpreter has loaded anyway.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Literal, TypeAlias

    Kind: TypeAlias = Literal["archive", "restore", "receive"]

SEGMENT_NAME_LENGTH = 24
"""As in ``postgres.wal``, which a call that only looks into the spool doesn't import."""

DECIDING_VARIABLES = (
    "AWS_CONFIG_FILE",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_CONNECTION_STRING",
    "GOOGLE_CLOUD_UNIVERSE_DOMAIN",
    "STORAGE_EMULATOR_HOST",
)
"""Variables that decide which store a URL means. Only a digest of their values is ever written."""

_LEVEL = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 16
_OWNER_FILE = "owner"
_NAME_LENGTH = len("archive-") + 32


class Directory:
    """A directory of the spool, held open for the life of the process: another one in its place isn't touched."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        """Where it was when it was opened; for messages."""
        self.descriptor = descriptor

    def names(self) -> list[str]:
        """Return the names in the directory."""
        return os.listdir(self.descriptor)

    def open(self, name: str, flags: int) -> int:
        """Open the file ``name``, never through a link, and return its descriptor."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Return what the system tells about ``name`` itself, should it be a link."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)

    def holds(self, name: str) -> bool:
        """Tell whether there is a file of that name which this program can have made."""
        try:
            return _is_own_file(self.stat(name))
        except OSError:
            return False

    def read(self, name: str, most: int = 200) -> str:
        """Return the content of a small text file; OSError or ValueError if that can't be done."""
        file = self.open(name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return os.read(file, most).decode()
        finally:
            os.close(file)

    def write(self, name: str, content: str) -> None:
        """Make or replace the small text file ``name``, all at once; not fsynced. Raises OSError."""
        temporary = f"{name}.{os.getpid()}.tmp"
        file = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(file, content.encode())
        finally:
            os.close(file)
        os.replace(temporary, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str, *, larger_than: int | None = None) -> None:
        """Remove the file ``name`` if this program can have made it; anything else is left, as is a file in use.

        ``larger_than``: a file of more bytes than this isn't what the caller writes under such names.
        """
        try:
            status = self.stat(name)
            if _is_own_file(status) and (larger_than is None or status.st_size <= larger_than):
                os.unlink(name, dir_fd=self.descriptor)
        except OSError:
            pass


def key_of(parts: Iterable[str], environ: Mapping[str, str]) -> str:
    """Return 32 hex digits that stand for ``parts`` and the variables that decide about the store."""
    try:
        from _blake2 import blake2b  # what hashlib.blake2b is, without loading OpenSSL
    except ImportError:
        from hashlib import blake2b
    variables = (f"{name}={environ[name]}" for name in DECIDING_VARIABLES if name in environ)
    text = "\0".join((*parts, "", *variables))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def default_spool_dir(kind: Kind) -> str:
    """Return the spool directory of those who name none: one for each user, or the first one would lock out others."""
    return f"/var/tmp/wal{kind}-{os.geteuid()}"  # noqa: S108 - beside Barman's, and checked as every other


def prepare(spool_dir: str, kind: Kind, parts: Iterable[str], environ: Mapping[str, str] = os.environ) -> Directory:
    """Create (if needed) and open the directory of ``kind`` for the store and server that ``parts`` name.

    The variables of ``environ`` that decide about the store count as well.

    Raises ``SpoolError`` if it can't be created or used, or if others may have had a hand in it.
    """
    name = f"{kind}-{key_of(parts, environ)}"
    path = os.path.join(os.path.abspath(spool_dir), name)
    try:
        parent = _open_levels(os.path.dirname(path), create=True)
        try:
            try:
                os.mkdir(name, 0o700, dir_fd=parent)
            except FileExistsError:
                pass
            return _open_own(path, parent, name, new=True)
        finally:
            os.close(parent)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        raise _spool_error(f"spool directory {path} can't be used: {reason}") from error


def remember_command(directory: Directory, command: Sequence[str]) -> None:
    """Link the command line (as :func:`command_of` returned it) to ``directory``; failing costs time, nothing else."""
    parent, target = os.path.split(directory.path)
    link = f"command-{key_of(command, os.environ)}"
    try:
        levels = _open_levels(parent)
        try:
            if directory.holds(link) and _read_link(levels, link) == target:
                return
            directory.write(link, "")
            temporary = f"{link}.{os.getpid()}"
            os.symlink(target, temporary, dir_fd=levels)
            os.replace(temporary, link, src_dir_fd=levels, dst_dir_fd=levels)
        finally:
            os.close(levels)
    except OSError:
        pass


def directory_of_command(spool_dir: str, command: Sequence[str]) -> Directory | None:
    """Return the directory that this command line led to before, or None if that can't be known or trusted."""
    link = f"command-{key_of(command, os.environ)}"
    path = os.path.abspath(spool_dir)
    try:
        levels = _open_levels(path)
        try:
            target = _read_link(levels, link)
            if target is None:
                return None
            directory = _open_own(os.path.join(path, target), levels, target)
        finally:
            os.close(levels)
    except OSError:
        return None
    return directory if directory.holds(link) else None


def spool_dir_of(arguments: Sequence[str], kind: Kind) -> str | None:
    """Return the value of ``--spool-dir``, or the default, without a parser; None if it isn't plain to see."""
    found = None
    for position, argument in enumerate(arguments):
        if argument == "--spool-dir":
            if position + 1 == len(arguments):
                return None
            found = arguments[position + 1]
        elif argument.startswith("--spool-dir="):
            found = argument.partition("=")[2]
        elif argument == "--" or argument.startswith(("-v", "--verb")):
            return None
    return default_spool_dir(kind) if found is None else found


def command_of(arguments: Sequence[str], *, variable: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Split a command line into what stays the same from call to call, and what names this call's file.

    The latter are ``variable`` consecutive arguments, the first of which ends in the only WAL file name on the line.
    None if there is no such name, or more than one.
    """
    places = [place for place, text in enumerate(arguments) if is_wal_file_name(text.rpartition("/")[2])]
    if variable == 2 and len(places) == 2 and places[1] == places[0] + 1:
        del places[1]  # a destination that is called like the segment
    if len(places) != 1 or places[0] + variable > len(arguments):
        return None
    start, end = places[0], places[0] + variable
    named = tuple(arguments[start:end])
    if any(text.startswith("-") for text in named):
        return None
    return (*arguments[:start], "", *arguments[end:]), named


def is_wal_file_name(text: str) -> bool:
    """Tell whether ``text`` begins as every WAL file name does: 8 or 24 hexadecimal digits, then nothing or a dot."""
    digits, _, _ = text.partition(".")
    return len(digits) in (8, SEGMENT_NAME_LENGTH) and all(digit in "0123456789ABCDEFabcdef" for digit in digits)


def own_system_identifier(wal_path: str) -> int | None:
    """Return the system identifier of the cluster whose ``pg_wal`` holds ``wal_path``; None if that isn't to be seen.

    It is the first field of ``global/pg_control``, in every version (``ControlFileData`` in PostgreSQL's
    ``catalog/pg_control.h``).
    """
    data_directory = os.path.dirname(os.path.dirname(wal_path))
    try:
        with open(os.path.join(data_directory, "global", "pg_control"), "rb") as control:
            field = control.read(8)
    except OSError:
        return None
    import sys

    return int.from_bytes(field, sys.byteorder) if len(field) == 8 else None


def _open_levels(path: str, *, create: bool = False) -> int:
    """Open the directory at the absolute ``path`` level by level, and return its descriptor.

    Each level must belong to root or to this user. A link is followed only if it does too, and if nobody else can have
    put it there: where others may write, they may rename. ``create`` makes missing levels, for this user alone.
    Raises OSError.
    """
    names = path.split("/")
    names.reverse()
    links = 0
    level = os.open("/", _LEVEL)
    try:
        while names:
            name = names.pop()
            if not name:
                continue
            target = _trusted_link(level, name)
            if target is not None:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                names += reversed(target.split("/"))
                below = os.open("/", _LEVEL) if target.startswith("/") else os.dup(level)
            else:
                below = _open_level(level, name, create)
            os.close(level)
            level = below
            if os.fstat(level).st_uid not in (0, os.geteuid()):
                raise PermissionError(errno.EPERM, "belongs to another user", name)
    except BaseException:
        os.close(level)
        raise
    return level


def _open_level(parent: int, name: str, create: bool) -> int:
    try:
        return os.open(name, _LEVEL, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        pass
    return os.open(name, _LEVEL, dir_fd=parent)


def _trusted_link(parent: int, name: str) -> str | None:
    """Return where the symbolic link ``name`` leads to; None if it is none, PermissionError if it isn't trusted."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISLNK(status.st_mode):
        return None
    around = os.fstat(parent).st_mode
    if status.st_uid not in (0, os.geteuid()) or (around & 0o022 and not around & stat.S_ISVTX):
        raise PermissionError(errno.EPERM, "a symbolic link that others may have made", name)
    return os.readlink(name, dir_fd=parent)


def _open_own(path: str, parent: int, name: str, *, new: bool = False) -> Directory:
    """Open the directory ``name`` below ``parent``, if it is one of this program's own; PermissionError if it isn't.

    ``new``: an empty one becomes its own.
    """
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    directory = Directory(path, descriptor)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "belongs to another user, or others may write into it", name)
        line = f"barman-cloud {name}\n"
        if new and not directory.holds(_OWNER_FILE):
            if any(not found.startswith(_OWNER_FILE) for found in directory.names()):
                raise PermissionError(errno.EPERM, f"holds files, but no file {_OWNER_FILE}", name)
            directory.write(_OWNER_FILE, line)
        if not directory.holds(_OWNER_FILE) or directory.read(_OWNER_FILE) != line:
            raise PermissionError(errno.EPERM, "is another directory under this name", name)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, ValueError):  # not even text
            raise PermissionError(errno.EPERM, "is another directory under this name", name) from error
        raise
    return directory


def _read_link(parent: int, link: str) -> str | None:
    """Return the directory that a link of :func:`remember_command` names, if this user made the link."""
    if os.stat(link, dir_fd=parent, follow_symlinks=False).st_uid != os.geteuid():
        return None
    target = os.readlink(link, dir_fd=parent)
    return (
        target
        if len(target) <= _NAME_LENGTH and target.startswith(("archive-", "restore-")) and "/" not in target
        else None
    )


def _is_own_file(status: os.stat_result) -> bool:
    """Tell whether a file is one that this program can have made in its spool: its own, and under no other name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _spool_error(message: str) -> Exception:
    from barman_cloud.errors import SpoolError

    return SpoolError(message, hint="name another directory with --spool-dir")
