"""The data sets, made in a real PostgreSQL."""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

from tests.support.installations import Installation
from tests.support.postgres import PostgresServer

WORDS = 8000
BATCH = 5_000
PARTITIONS = 8
"""Of both data sets' large tables: a cluster worth backing up is many files, which PostgreSQL ends at 1 GiB."""
_STATES = ("new", "paid", "sent", "returned")

_TABLE = """
CREATE TABLE orders (
  id bigint PRIMARY KEY, created timestamptz NOT NULL, customer uuid NOT NULL, amount numeric(12, 2) NOT NULL,
  weight float8 NOT NULL, attributes jsonb NOT NULL, remarks text NOT NULL
)"""

_INDEXES = """
CREATE INDEX ON orders (customer);
CREATE INDEX ON orders (created);
CREATE INDEX ON orders (amount, weight);
"""


def make_pgbench(directory: Path, installation: Installation, scale: int) -> PostgresServer:
    """Start a server with pgbench's tables: rows of filler that compress 8 to 23 times."""
    server = PostgresServer.create(directory, installation).start()
    server.pgbench("-i", "-s", str(scale), f"--partitions={PARTITIONS}")
    return _settled(server)


def make_realistic(directory: Path, installation: Installation, rows: int) -> PostgresServer:
    """Start a server with orders: text of few thousand words, JSON, numbers, indexes; compresses 1.7 to 2.6 times."""
    server = PostgresServer.create(directory, installation).start()
    server.query(f"{_TABLE} PARTITION BY HASH (id)")
    for number in range(PARTITIONS):
        bounds = f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        server.query(f"CREATE TABLE orders_{number} PARTITION OF orders {bounds}")
    _insert_orders(server, 0, rows)
    server.query(_INDEXES)
    return _settled(server)


def _insert_orders(server: PostgresServer, first: int, rows: int) -> None:
    """Add orders from the id ``first`` on; the same ids are always the same orders."""
    with server.connect() as connection, connection.cursor().copy("COPY orders FROM STDIN") as copy:
        for start in range(first, first + rows, BATCH):
            copy.write("".join(_orders(start, min(BATCH, first + rows - start))))


def _orders(first: int, rows: int) -> Iterator[str]:
    source = random.Random(first)
    # Frequent words are as much more frequent as in a language (Zipf's law).
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(WORDS)))
    for number in range(first, first + rows):
        words = source.choices(_words(), cum_weights=weights, k=source.randrange(20, 80))
        attributes = {"state": source.choice(_STATES), "items": number % 17, "token": source.randbytes(12).hex()}
        yield (
            f"{number}\t2026-{source.randrange(1, 13):02}-{source.randrange(1, 29):02} {number % 24:02}:00:00+00"
            f"\t{source.randbytes(16).hex()}\t{source.randrange(10**6) / 100}\t{source.random()}"
            f"\t{json.dumps(attributes)}\t{' '.join(words)}\n"
        )


@functools.cache
def _words() -> list[str]:
    source = random.Random(1)
    return ["".join(source.choices("etaoinshrdlucmfw", k=2 + source.randrange(9))) for _ in range(WORDS)]


def data_size(server: PostgresServer) -> int:
    """Return the size of what a backup reads, in bytes."""
    return sum(path.stat().st_size for path in data_files(server))


def data_files(server: PostgresServer) -> list[Path]:
    """Return the files of a backup: all of PGDATA but the WAL."""
    files = (path for path in server.data.rglob("*") if path.is_file())
    return sorted(path for path in files if "pg_wal" not in path.relative_to(server.data).parts)


def _settled(server: PostgresServer) -> PostgresServer:
    """Write everything out, so that a backup's checkpoint has nothing to do."""
    server.query("VACUUM")
    server.query("CHECKPOINT")
    return server
