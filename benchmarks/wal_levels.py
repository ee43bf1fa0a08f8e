"""What each level of each compression makes of real WAL, and what ``wal-archive`` takes when nobody names one.

    python -m benchmarks.wal_levels

A server of its own writes the WAL: pgbench's transactions behind a checkpoint (whole pages at first, then small
records), and a table that is filled and indexed. Figures are means of the segments: CPU time, and the size left.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.postgres import PostgresServer, server_directory

from barman_cloud.archive.compression import compress_stream, compression_level, decompress_stream

LEVELS: dict[str, tuple[int, ...]] = {
    "lz4": (0, 3, 6),
    "zstd": (-1, 1, 2, 3, 4, 9),
    "gzip": (1, 6, 9),
    "snappy": (0,),
    "bzip2": (1, 5, 9),
    "xz": (1, 3),
}
PIECE = 256 << 10
SCALE = 4
TRANSACTIONS = 4000
ROWS = 120_000


class Cost(NamedTuple):
    """Of one segment: CPU seconds there and back, and the size left, as a share."""

    packing: float
    unpacking: float
    size: float


def make_segments(directory: Path) -> list[bytes]:
    """Return the segments that a new server wrote under load."""
    server = PostgresServer.create(server_directory(directory), settings={"wal_keep_size": "1GB"})
    with server:
        server.pgbench("-i", "-q", "-s", str(SCALE))
        server.value("SELECT pg_switch_wal()")
        first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        with server.connect() as connection:
            connection.execute("CHECKPOINT")
        server.pgbench("-c", "4", "-t", str(TRANSACTIONS))
        with server.connect() as connection:
            connection.execute(f"CREATE TABLE filled AS SELECT g, md5(g::text) FROM generate_series(1, {ROWS}) g")
            connection.execute("CREATE INDEX ON filled (md5)")
        server.value("SELECT pg_switch_wal()")
        last = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
        names = sorted(path for path in (server.data / "pg_wal").iterdir() if len(path.name) == 24)
        return [path.read_bytes() for path in names if first <= path.name < last]


def measure(data: bytes, name: str, level: int) -> Cost:
    """Compress and decompress a segment as the commands do."""
    begin = time.process_time()
    packed = b"".join(compress_stream(_pieces(data), name, level))
    middle = time.process_time()
    for _ in decompress_stream([packed], name):
        pass
    return Cost(middle - begin, time.process_time() - middle, len(packed) / len(data))


def _pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        segments = make_segments(Path(scratch) / "wal")
    print(f"{len(segments)} segments of 16 MiB\n")
    print("| compression | level | without `--compression-level` | CPU to archive | CPU to restore | size |")
    print("|---|---|---|---|---|---|")
    for name, levels in LEVELS.items():
        for level in levels:
            costs = [measure(data, name, level) for data in segments]
            packing, unpacking, size = (sum(values) / len(costs) for values in zip(*costs, strict=True))
            words = [
                word
                for word in ("low", "medium", "high")
                if name != "snappy" and compression_level(name, word) == level
            ]
            chosen = "yes" if compression_level(name, None) == level else ""
            label = f"{level} ({', '.join(words)})" if words else str(level)
            print(f"| {name} | {label} | {chosen} | {packing * 1000:.0f} ms | {unpacking * 1000:.0f} ms | {size:.1%} |")


if __name__ == "__main__":
    main()
