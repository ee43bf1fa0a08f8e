"""Peak memory of streamed backups and of restores of chains, beside the formulas of ``docs/explanation/memory.md``.

    python -m benchmarks.memory [streamed] [restored] [--write]

MiB of resident memory. ``--write`` puts the two tables into that page.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.commands import peak_memory
from tests.support.installations import newest_installation
from tests.support.postgres import PostgresServer, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.servers import rclone_s3
from tests.unit.restore.chains import PART, REL, HandMadeChain, changed

from barman_cloud.incremental.file_format import BLOCK
from barman_cloud.store.open import open_store
from benchmarks.page import MEMORY, write_table

_JOBS = (1, 2, 4, 8)
_MEBIBYTE = 1 << 20
_RANDOM, _REPEATED = 10, 2
"""Files of 50 and of 100 MiB."""
_TABLE = 256 * _MEBIBYTE
_BLOCKS = _TABLE // BLOCK
_SHARES = (0.05, 0.25, 0.47, 0.9)


def streamed() -> Iterator[str]:
    """Back up 700 MiB, of which 500 are random bytes, over a replication connection."""
    yield "| `--jobs` | formula, zstd | no compression | zstd |"
    yield "|---|---|---|---|"
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(directory, newest_installation()) as server,
        rclone_s3(etag="xxh3") as store,
    ):
        for number in range(_RANDOM):
            (server.data / "base" / f"random-{number}").write_bytes(os.urandom(50 * _MEBIBYTE))
        for number in range(_REPEATED):
            (server.data / "base" / f"repeated-{number}").write_bytes(os.urandom(_MEBIBYTE) * 100)
        server_account().own(server.data)
        environ = {**server.client_environ, **store.environ}
        for jobs in _JOBS:
            found = []
            for compression in ([], ["--zstd"]):
                how = ["--method", "stream", "--immediate-checkpoint", "--jobs", str(jobs), *compression]
                place = [*store.options, store.new_bucket(), "main"]
                found.append(peak_memory("backup", *how, *place, environ=environ))
            formula = 80 + (jobs + 1) * (6 * 8 + 10) + (14 * (jobs + 1) if jobs > 1 else 0)
            yield f"| {jobs} | {formula} MiB | {found[0]:.0f} MiB | {found[1]:.0f} MiB |"


def restored() -> Iterator[str]:
    """Restore a table of 256 MiB and two increments that change a share of its blocks each."""
    yield "| changed blocks, all increments | formula | restored |"
    yield "|---|---|---|"
    dice = random.Random(1)
    for share in _SHARES:
        with tempfile.TemporaryDirectory() as scratch, open_store(f"file://{scratch}") as store:
            chain = HandMadeChain(store)
            chain.add({REL: os.urandom(_TABLE), "base/5/16401": os.urandom(_TABLE)})
            for _ in range(2):
                blocks = sorted(dice.sample(range(_BLOCKS), int(share * _BLOCKS)))
                parts = {
                    name: changed({block: dice.randbytes(BLOCK) for block in blocks}, _BLOCKS)
                    for name in (PART, "base/5/INCREMENTAL.16401")
                }
                chain.add(parts)
            size = int(share * _BLOCKS) * 4 * BLOCK / _MEBIBYTE
            held = size * 1.1 if size * (BLOCK + 160) / BLOCK <= 512 else 0
            used = peak_memory("restore", store.url.text, "main", chain.infos[-1].backup_id, Path(scratch, "restored"))
            way = "in memory" if held else "in place"
            yield f"| {size:.0f} MiB, {way} | {240 + 4 * 12 + held:.0f} MiB | {used:.0f} MiB |"


def main() -> None:
    """Print both tables, and write them if asked for."""
    asked = set(sys.argv[1:]) - {"--write"}
    for name, lines in {"streamed": streamed(), "restored": restored()}.items():
        if asked and name not in asked:
            continue
        table = []
        for line in lines:
            print(line, flush=True)
            table.append(line)
        if "--write" in sys.argv[1:]:
            write_table(name, table, MEMORY)


if __name__ == "__main__":
    main()
