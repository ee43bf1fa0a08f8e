"""How much memory a call of ``wal-archive`` or ``wal-restore`` uses, by the size of a segment.

    python -m benchmarks.wal_memory [MIB ...]

Peak resident size of the process, in MiB; half of each segment can't be compressed. The store is ``rclone serve s3``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.commands import peak_memory
from tests.support.segments import Cluster
from tests.support.servers import StoreServer, rclone_s3

SIZES = (16, 64, 1024)
COMPRESSIONS = ("none", "lz4", "zstd")


def measure(server: StoreServer, directory: Path, size: int) -> None:
    """Print one line for each compression."""
    path = Cluster(directory / str(size)).add(1, size=size << 20)
    for compression in COMPRESSIONS:
        options = [] if compression == "none" else [f"--{compression}", "--compression-level", "low"]
        place = [*server.options, server.new_bucket(), "main"]
        archive = peak_memory("wal-archive", *options, *place, path, environ=server.environ)
        fetch = ["--spool-dir", str(directory / "spool"), *place, path.name, str(directory / "restored")]
        restore = peak_memory("wal-restore", *fetch, environ=server.environ)
        print(f"| {size} MiB | {compression} | {archive:.0f} MiB | {restore:.0f} MiB |", flush=True)
    path.unlink()


def main() -> None:
    """Print the table."""
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    print("| segment | compression | `wal-archive` | `wal-restore` |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, rclone_s3(etag="xxh3") as server:
        for size in sizes:
            measure(server, Path(scratch), size)


if __name__ == "__main__":
    main()
