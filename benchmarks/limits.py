"""What this machine can do at best: read and write the disk, compress, move bytes to and from the store."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.postgres import PostgresServer

from barman_cloud.archive.compression import compress_stream
from benchmarks.data import data_files
from benchmarks.disk import READ, cache, discard, forget_cached, read, sync
from benchmarks.meter import Usage
from benchmarks.setting import CODECS, FROM_DISK, PLAIN_CODECS, Bench, Place
from benchmarks.together import Together, divide, in_flight, pool, put_all, write

Add = Callable[[str, Callable[[], object]], float]
"""Measures an action as a case of this name and returns its seconds."""


@dataclass
class Limits:
    """Seconds for one data set."""

    backup: dict[tuple[str, str, bool], float] = field(default_factory=dict)
    """Codec, endpoint and whether the data are cached -> seconds for reading, compressing and sending all of it."""
    restore: dict[tuple[str, str], float] = field(default_factory=dict)
    """Codec and endpoint -> seconds for fetching, decompressing and writing all of it."""

    @classmethod
    def measure(cls, bench: Bench, server: PostgresServer, data: str) -> Limits:
        """Measure everything and add it to the results as contestant ``machine``."""
        files = data_files(server)
        size = sum(path.stat().st_size for path in files)
        found = cls()

        def add(case: str, action: Callable[[], object]) -> float:
            before, start = os.times(), time.perf_counter()
            action()
            wall, after = time.perf_counter() - start, os.times()
            usage = Usage(wall, sum(after[:4]) - sum(before[:4]), 0)
            bench.results.add("limits", f"{data}, {case}", "machine", usage, f"{size / wall / 2**20:.0f} MiB/s")
            return wall

        forget_cached(server.data)
        add("disk read", lambda: sum(map(len, read(files))))
        written = bench.new_directory("written")
        add("disk write", lambda: write(written / "file", _noise(size), size))
        discard(written)
        for codec in CODECS[1:]:
            add(f"{codec}, all processors", partial(_compress, files, codec))
        for program in (["zstd", "-1", "-T0"], ["lz4"]):
            if shutil.which(program[0]):
                add(" ".join(program), partial(_pipe, files, [*program, "-q", "-c"]))
        for store, kind in ((bench.secure, "TLS"), (bench.plain, "HTTP")):
            _put_and_get(Place.new(store, written), kind, files, add)
            for codec in CODECS if store is bench.secure else PLAIN_CODECS:
                cache(server.data)
                place = Place.new(store, bench.new_directory("written"))
                together = Together(files, codec, place)
                found.backup[codec, store.endpoint, True] = add(f"all together, {codec}, {kind}", together.send)
                sync(place.directory)  # what the store still has to write is no part of the way back
                found.restore[codec, store.endpoint] = add(f"and back, {codec}, {kind}", together.fetch)
                discard(place.directory)
                place.forget()
        for codec in FROM_DISK:
            forget_cached(server.data)
            place = Place.new(bench.secure, written)
            case = f"all together, {codec}, TLS, from disk"
            found.backup[codec, bench.secure.endpoint, False] = add(case, Together(files, codec, place).send)
            place.forget()
        return found


def _put_and_get(place: Place, kind: str, files: list[Path], add: Add) -> None:
    keys: list[str] = []
    with place.open() as client:
        add(f"PUT, {kind}", lambda: keys.extend(put_all(client, "object", read(files))))
        add(f"GET, {kind}", lambda: sum(map(len, in_flight(client.get, keys))))
    place.forget()


def _noise(size: int) -> Iterator[bytes]:
    block = os.urandom(READ)
    for position in range(0, size, READ):
        yield block[: size - position]


def _compress(files: list[Path], codec: str) -> None:
    """Compress with one thread per processor, each its share of the files; the result is thrown away."""
    shares = divide(files)
    with pool(len(shares)) as workers:
        list(workers.map(lambda share: sum(map(len, compress_stream(read(share.files), codec))), shares))


def _pipe(files: list[Path], program: list[str]) -> None:
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        for data in read(files):
            process.stdin.write(data)
        process.stdin.close()
