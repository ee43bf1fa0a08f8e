"""Files that the background process of ``wal-archive --parallel`` archived before PostgreSQL asked for them.

For each one the spool holds a small file of its name, written after the store acknowledged the upload, with one line:
what identified the content at that time. When PostgreSQL asks for the file, the same line is made again from what lies
in ``pg_wal`` now, checksum included; only if nothing has changed is the answer "archived".

The line is compared whole, so an entry that a crash tore counts for nothing, and a lost one costs an upload that finds
its object in place. That is why entries needn't be fsynced: the upload they speak of is durable already.
"""

from __future__ import annotations

import os

from barman_cloud.wal import background_client, spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from barman_cloud.deadline import Deadline
    from barman_cloud.wal.spool import Directory

TRUSTED_SECONDS = 600
"""An older entry counts for nothing: the object may have been deleted since."""

LONGEST_ENTRY = 200
"""No entry has more bytes."""

_PIECE = 1 << 20


def identity(status: os.stat_result, checksum: int) -> str:
    """Return the line that identifies a file's content: which file, its size, its times (ns) and its CRC-32."""
    return f"{_file_identity(status)}{checksum:08x}\n"


def _file_identity(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} "


def record(directory: Directory, name: str, line: str) -> None:
    """Remember that the content that ``line`` identifies is stored as ``name``. Raises OSError."""
    directory.write(name, line)


def holds(directory: Directory, path: str, deadline: Deadline) -> bool:
    """Tell whether the file at ``path`` was archived, lately, with the content that it has now.

    Waits while the background process works on it.
    """
    name = os.path.basename(path)
    background_client.await_work(directory, name, deadline)
    try:
        line = _entry(directory, name)
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(file)
            # Reading 16 MiB takes longer than all the rest, and is pointless if the file was touched.
            return line.startswith(_file_identity(status)) and line == identity(status, _checksum_of(file))
        finally:
            os.close(file)
    except (OSError, ValueError):
        return False


def answer(arguments: Sequence[str], deadline: Deadline) -> bool:
    """Tell whether this ``wal-archive`` command line is already done with. A cheap guess: False means "look closer"."""
    if "BARMAN_HOOK" in os.environ:
        return False
    spool_dir = spool.spool_dir_of(arguments, "archive")
    command = spool.command_of(arguments, variable=1)
    if spool_dir is None or command is None:
        return False
    constant, (path,) = command
    directory = spool.directory_of_command(spool_dir, constant)
    if directory is None or not holds(directory, path, deadline):
        return False
    background_client.announce(directory, os.path.abspath(path))
    release_cache(path)
    return True


def checksum(data: bytes | bytearray | memoryview, value: int = 0) -> int:
    """Return the CRC-32 of ``data``, going on from ``value``."""
    try:
        from isal.isal_zlib import crc32  # more than ten times as fast
    except ImportError:
        from zlib import crc32
    result: int = crc32(data, value)
    return result


def release_cache(path: str) -> None:
    """Let the kernel drop the file from the page cache: once archived, a segment is not read again."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except (AttributeError, OSError):
        pass  # not every system and file system has it
    finally:
        os.close(file)


def _entry(directory: Directory, name: str) -> str:
    import time

    age = time.time() - directory.stat(name).st_mtime
    return directory.read(name, LONGEST_ENTRY) if -TRUSTED_SECONDS < age < TRUSTED_SECONDS else ""


def _checksum_of(file: int) -> int:
    piece = bytearray(_PIECE)
    value = 0
    while length := os.readv(file, [piece]):
        value = checksum(memoryview(piece)[:length], value)
    return value
