"""Writing the changed blocks of a relation file over what an older backup of the chain left of it.

Every block that is kept lies before the truncation length, and every other is written or becomes zeros. So writing the
same changed blocks a second time, after a kill in the middle of the first, ends with the same file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.file_format import BLOCK, read_blocks, read_header

_EXISTING = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_base(name: str, folder: int, source: str) -> int:
    """Open the file ``name`` of the open directory ``folder``, which the changed blocks of ``source`` belong into.

    ``IntegrityError`` if it isn't there, or isn't a file.
    """
    try:
        fd = os.open(name, _EXISTING, dir_fd=folder)
    except FileNotFoundError:
        raise IntegrityError(
            f"{source}: the older backups of the chain left no {name} that these changed blocks belong into",
            hint="a backup of the chain is damaged; restore another one",
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise IntegrityError(f"{source}: what its changed blocks belong into is not a file")
    return fd


def overlay(fd: int, size: int, content: Iterable[Buffer], source: str) -> tuple[int, int]:
    """Make the open file ``fd`` what it was when the changed blocks in ``content`` (of ``size`` bytes) were stored.

    Returns bytes and CRC-32C of ``content``. Blocks behind the truncation length that aren't stored become zeros.
    """
    tally = Tally(content)
    chunks: Iterator[Buffer] = iter(tally)
    header, first = read_header(chunks, size, source)
    before = os.fstat(fd).st_size
    if before > header.truncation * BLOCK:
        os.ftruncate(fd, header.truncation * BLOCK)
    if min(before, header.truncation * BLOCK) != header.length * BLOCK:
        os.ftruncate(fd, header.length * BLOCK)
    for offset, run in read_blocks(header, first, chunks, source):
        _write_at(fd, run, offset)
    return tally.size, tally.crc32c


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data = data[written:]
        offset += written
