"""What this machine can do at best: read and write the disk, compress, move bytes to and from the store."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.postgres import PostgresServer
from tests.support.servers import StoreServer

from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.compression import compress_stream
from barman_cloud.restore.output import Outputs
from barman_cloud.store.open import open_store
from benchmarks.contestants import NONE
from benchmarks.data import data_files
from benchmarks.meter import Usage
from benchmarks.setting import Bench

READ = 1 << 20
OBJECT = 8 << 20
TRANSFERS = 4


@dataclass
class Limits:
    """Seconds for one data set."""

    size: int
    """Of the data, in bytes."""
    together: dict[tuple[str, str, bool], float] = field(default_factory=dict)
    """Codec, endpoint and whether the data are cached -> seconds for reading, compressing and sending all of it."""

    @classmethod
    def measure(cls, bench: Bench, server: PostgresServer, data: str) -> Limits:
        """Measure everything and add it to the results as contestant ``machine``."""
        from benchmarks.bulk import CODECS, FROM_DISK, PLAIN_CODECS, cache, forget_cached

        files = data_files(server)
        found = cls(sum(path.stat().st_size for path in files))

        def add(case: str, action: Callable[[], object], size: int) -> float:
            before, start = os.times(), time.perf_counter()
            action()
            wall, after = time.perf_counter() - start, os.times()
            usage = Usage(wall, sum(after[:4]) - sum(before[:4]), 0)
            bench.results.add("limits", f"{data}, {case}", "machine", usage, f"{size / wall / 2**20:.0f} MiB/s")
            return wall

        forget_cached(server.data)
        add("disk read", lambda: sum(map(len, _read(files))), found.size)
        add("disk write", lambda: _write(bench.directory("written") / "file", found.size), found.size)
        for codec in ("gzip", "lz4", "zstd", "snappy"):
            add(f"{codec}, all processors", lambda codec=codec: _compress(files, codec), found.size)
        if shutil.which("zstd"):
            add("zstd -1 -T0", lambda: _pipe(files, ["zstd", "-1", "-T0", "-q", "-c"]), found.size)
        if shutil.which("lz4"):
            add("lz4", lambda: _pipe(files, ["lz4", "-q", "-c"]), found.size)
        for store, kind in ((bench.secure, "TLS"), (bench.plain, "HTTP")):
            found._measure_store(store, kind, add, files)
            cases = [(codec, True) for codec in (CODECS if store is bench.secure else PLAIN_CODECS)]
            if store is bench.secure:
                cases += [(codec, False) for codec in FROM_DISK]
            for codec, cached in cases:
                (cache if cached else forget_cached)(server.data)
                found.together[codec, store.endpoint, cached] = add(
                    f"all together, {codec}, {kind}{'' if cached else ', from disk'}",
                    lambda codec=codec, store=store: _read_compress_put(files, None if codec == NONE else codec, store),
                    found.size,
                )
        return found

    def _measure_store(
        self, store: StoreServer, kind: str, add: Callable[[str, Callable[[], object], int], float], files: list[Path]
    ) -> None:
        bucket = store.new_bucket()
        chunks = _joined(_read(files))
        with open_store(bucket, environ=store.environ) as client, _pool(TRANSFERS) as pool:
            keys: list[str] = []

            def put() -> None:
                for number, done in enumerate(_bounded(pool, lambda data, key: client.put(key, data), chunks)):
                    keys.append(f"object/{number}")
                    done.result()

            add(f"PUT, {kind}", put, self.size)
            add(f"GET, {kind}", lambda: list(pool.map(lambda key: len(client.get(key)), keys)), self.size)
        if store.directory:
            shutil.rmtree(store.directory / bucket.removeprefix(store.prefix), ignore_errors=True)


def _pool(threads: int) -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(threads)


def _bounded(
    pool: concurrent.futures.ThreadPoolExecutor, action: Callable[[bytes, str], object], chunks: Iterator[bytes]
) -> Iterator[concurrent.futures.Future[object]]:
    """Start the action for every chunk, a few ahead of the one whose future is yielded."""
    waiting: list[concurrent.futures.Future[object]] = []
    for number, chunk in enumerate(chunks):
        waiting.append(pool.submit(action, chunk, f"object/{number}"))
        if len(waiting) > TRANSFERS:
            yield waiting.pop(0)
    yield from waiting


def _read(files: list[Path]) -> Iterator[bytes]:
    for path in files:
        with path.open("rb", buffering=0) as file:
            while data := file.read(READ):
                yield data


def _write(path: Path, size: int) -> None:
    """Write so many bytes to a new file as restores do, and make them durable."""
    block = os.urandom(READ)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        output = Outputs().open(descriptor, size)
        for position in range(0, size, READ):
            output.write(block[: size - position])
        output.end()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        path.unlink()


def _joined(pieces: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield the same bytes in objects of ``OBJECT`` bytes."""
    waiting = bytearray()
    for data in pieces:
        waiting += data
        while len(waiting) >= OBJECT:
            yield bytes(waiting[:OBJECT])
            del waiting[:OBJECT]
    yield bytes(waiting)


def _compress(files: list[Path], codec: str) -> None:
    """Compress with one thread per processor, each its share of the files; the result is thrown away."""
    shares = _shares(files)
    with _pool(len(shares)) as pool:
        list(pool.map(lambda share: sum(map(len, compress_stream(_read(share), codec))), shares))


def _read_compress_put(files: list[Path], codec: str | None, store: StoreServer) -> None:
    """Read, compress and send everything, with one thread per processor to compress, and nothing else that backups do:
    no tar, no checksums, no server that is asked anything.
    """
    shares = _shares(files)
    with open_store(store.new_bucket(), environ=store.environ) as client, _pool(len(shares)) as pool:

        def work(number: int) -> None:
            objects = _joined(compress_stream(_read(shares[number]), codec))
            with _pool(TRANSFERS) as senders:
                for sent in _bounded(senders, lambda data, key: client.put(f"{number}/{key}", data), objects):
                    sent.result()

        list(pool.map(work, range(len(shares))))
        if store.directory:
            shutil.rmtree(store.directory / client.url.bucket, ignore_errors=True)


def _shares(files: list[Path]) -> list[list[Path]]:
    """Divide files among the processors, by size."""
    shares: list[list[Path]] = [[] for _ in range(os.cpu_count() or 1)]
    loads = [0] * len(shares)
    for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(path)
        loads[least] += path.stat().st_size
    return shares


def _pipe(files: list[Path], program: list[str]) -> None:
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        for data in _read(files):
            process.stdin.write(data)
        process.stdin.close()
