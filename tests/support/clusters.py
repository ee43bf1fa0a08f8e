"""New clusters as copies of one that ``initdb`` has made, each with a system identifier of its own.

A copy costs a fraction of what ``initdb`` does, which compiles and runs a thousand statements each time.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from crc32c import crc32c

from barman_cloud.postgres.control_file import checksum_offset
from tests.support.privileges import server_account

_IDENTIFIER_IN_WAL = 24
"""Where the long header of a segment's first page has it (``XLogLongPageHeaderData``)."""


def make_cluster(initdb: str, options: Sequence[str], environ: Sequence[tuple[str, str]], data: Path) -> None:
    """Make the data directory ``data``, whose parent is the servers' user's; RuntimeError if ``initdb`` fails."""
    _run(["cp", "-a", _model(initdb, tuple(options), tuple(environ)), data], {"PATH": os.defpath})
    now = time.time_ns() // 1000  # as the server makes one: seconds, microseconds, process
    identifier = (now // 1_000_000) << 32 | (now % 1_000_000) << 12 | os.getpid() & 0xFFF
    _write_identifier(data, identifier)


@functools.cache
def _model(initdb: str, options: tuple[str, ...], environ: tuple[tuple[str, str], ...]) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="bc-model-", dir="/tmp"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    data = server_account().own(directory) / "data"
    _run([initdb, "-D", data, *options], dict(environ))
    return data


def _run(command: Sequence[str | os.PathLike[str]], environ: dict[str, str]) -> None:
    done = subprocess.run(
        server_account().command(command),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environ, cwd="/", timeout=300, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed with status {done.returncode}: {done.stderr.strip()}")


def _write_identifier(data: Path, identifier: int) -> None:
    """Write a system identifier into the control file and the segments of a cluster that was shut down."""
    control = data / "global" / "pg_control"
    content = bytearray(control.read_bytes())
    size = checksum_offset(bytes(content))
    assert size is not None
    struct.pack_into("=Q", content, 0, identifier)
    struct.pack_into("=I", content, size, crc32c(content[:size]))
    control.write_bytes(content)
    for path in (data / "pg_wal").iterdir():
        if path.is_file():
            with path.open("r+b") as segment:
                if segment.read(2) != b"\0\0":
                    segment.seek(_IDENTIFIER_IN_WAL)
                    segment.write(struct.pack("=Q", identifier))
