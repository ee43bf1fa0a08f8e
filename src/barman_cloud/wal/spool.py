"""The spool directory: what one call of ``wal-archive`` or ``wal-restore`` leaves for the calls after it.

::

    <spool directory>/
        archive-<key>/        files already archived by one command line         (wal/archive_spool.py)
        restore-<key>/        segments fetched ahead from one store and server   (wal/restore_spool.py)
        command-<key>         a symbolic link: this command line leads to that directory

PostgreSQL runs the same command line for each segment, with another file name in it. The link lets the next call find
its directory before a parser, a logger or a client of the store is imported, which is most of what a call costs.
A wrong or missing link is harmless: the long way round finds the directory by itself.

This module, like the two named above, imports only what the interpreter has loaded anyway.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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


def key_of(parts: Iterable[str], environ: Mapping[str, str]) -> str:
    """Return 32 hex digits that stand for ``parts`` and the variables that decide about the store."""
    try:
        from _blake2 import blake2b  # what hashlib.blake2b is, without loading OpenSSL
    except ImportError:
        from hashlib import blake2b
    variables = (f"{name}={environ[name]}" for name in DECIDING_VARIABLES if name in environ)
    text = "\0".join((*parts, "", *variables))
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def is_private(directory: str) -> bool:
    """Tell whether ``directory`` is one that no other user can have written into."""
    try:
        status = os.stat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def prepare(spool_dir: str, kind: str, parts: Iterable[str]) -> str:
    """Create (if needed) and return the directory of ``kind`` for the store and server that ``parts`` name.

    Raises ``SpoolError`` if it can't be created, or if others could write into it.
    """
    directory = os.path.join(os.path.abspath(spool_dir), f"{kind}-{key_of(parts, os.environ)}")
    try:
        os.makedirs(os.path.dirname(directory), mode=0o755, exist_ok=True)
        try:
            os.mkdir(directory, mode=0o700)
        except FileExistsError:
            pass
    except OSError as error:
        raise _spool_error(f"can't create spool directory {directory}: {error.strerror}") from error
    if not is_private(directory):
        raise _spool_error(f"spool directory {directory} belongs to another user, or others may write into it")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise _spool_error(f"spool directory {directory} can't be written to")
    return directory


def remember_command(directory: str, command: Sequence[str]) -> None:
    """Link the command line (as :func:`command_of` returned it) to ``directory``; failing costs time, nothing else."""
    link = _link_path(os.path.dirname(directory), command)
    target = os.path.basename(directory)
    try:
        if os.path.islink(link) and os.readlink(link) == target:
            return
        temporary = f"{link}.{os.getpid()}"
        os.symlink(target, temporary)
        os.replace(temporary, link)
    except OSError:
        pass


def directory_of_command(spool_dir: str, command: Sequence[str]) -> str | None:
    """Return the directory that this command line led to before, or None if that can't be known or trusted."""
    link = _link_path(os.path.abspath(spool_dir), command)
    try:
        if os.lstat(link).st_uid != os.geteuid():
            return None
    except OSError:
        return None
    return link if is_private(link) else None


def spool_dir_of(arguments: Sequence[str], default: str) -> str | None:
    """Return the value of ``--spool-dir`` without a parser; None if it isn't plain to see."""
    found = default
    for position, argument in enumerate(arguments):
        if argument == "--spool-dir":
            if position + 1 == len(arguments):
                return None
            found = arguments[position + 1]
        elif argument.startswith("--spool-dir="):
            found = argument.partition("=")[2]
        elif argument == "--" or argument.startswith(("-v", "--verb")):
            return None
    return found


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
    return len(digits) in (8, 24) and all(digit in "0123456789ABCDEFabcdef" for digit in digits)


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


def _link_path(spool_dir: str, command: Sequence[str]) -> str:
    return os.path.join(spool_dir, f"command-{key_of(command, os.environ)}")


def _spool_error(message: str) -> Exception:
    from barman_cloud.errors import SpoolError

    return SpoolError(message, hint="name another directory with --spool-dir")
