"""One WAL segment at a time: what a call of ``wal-archive`` or ``wal-restore`` costs, beside real Barman in one run.

    python -m benchmarks.wal_single [ROUNDS]

The store is ``rclone serve s3`` on loopback. All cases take turns, so that other work on the machine hits each of them
alike; figures are medians of ROUNDS (default 15), in milliseconds. "beyond the PUT" is the time of the command less
that of the same request by a client that is warm: what starting a process, reading, checking and compressing cost.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.support.background_processes import ended_background_processes
from tests.support.commands import program
from tests.support.peers import find_barman
from tests.support.ports import wait_for
from tests.support.postgres import command_environment
from tests.support.segments import Cluster, segment_name
from tests.support.servers import StoreServer, rclone_s3

from barman_cloud.archive.compression import compress_bytes, compression_level
from barman_cloud.store.open import open_store
from benchmarks.setting import ETAG

SIZE = 16 << 20
PARALLEL = 8
CODECS = {"none": (), "lz4": ("--lz4", "low"), "zstd": ("--zstd", "low"), "gzip": ("--gzip", "low")}


class Cost(NamedTuple):
    """Milliseconds of wall clock and of CPU, in this process and its children."""

    wall: float
    cpu: float


class Bench:
    """The cases, and what each round of them cost."""

    def __init__(self, server: StoreServer, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self.cluster = Cluster(directory / "data")
        self.url = server.new_bucket()
        self.environ = command_environment(server.environ)
        self.costs: dict[str, list[Cost]] = {}
        self.warm = open_store(self.url, environ=server.environ)
        """A client that has its connection already."""
        self.warm.put("warm/up", b"", if_absent=True)

    def measure(self, case: str, action: Callable[[], object]) -> None:
        before, start = _cpu(), time.perf_counter()
        action()
        wall, cpu = time.perf_counter() - start, _cpu() - before
        self.costs.setdefault(case, []).append(Cost(wall * 1000, cpu * 1000))

    def command(self, *argv: str | Path) -> Callable[[], object]:
        def run() -> None:
            done = subprocess.run(
                [str(part) for part in argv], env=self.environ, capture_output=True, text=True, check=False
            )
            if done.returncode != 0:
                raise RuntimeError(f"{argv}: {done.stderr}")

        return run

    def median(self, case: str) -> Cost:
        costs = self.costs[case]
        return Cost(statistics.median(cost.wall for cost in costs), statistics.median(cost.cpu for cost in costs))


def _cpu() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def archive_round(bench: Bench, number: int, barman: Path | None) -> None:
    """Archive one segment in every way, each under another server name, so that nothing exists before."""
    path = bench.cluster.add(number, size=SIZE)
    bench.measure("an interpreter that does nothing", bench.command(sys.executable, "-c", "pass"))
    for codec, options in CODECS.items():
        flags = [options[0], "--compression-level", options[1]] if options else []
        tail = [*flags, *bench.server.options, bench.url]
        bench.measure(f"archive {codec}", bench.command(program("wal-archive"), *tail, f"{codec}{number}", path))
        if barman:
            theirs = bench.command(barman / "barman-cloud-wal-archive", *tail, f"b{codec}{number}", path)
            bench.measure(f"archive {codec}, Barman", theirs)
        data = path.read_bytes()
        if options:
            data = compress_bytes(data, codec, compression_level(codec, "low"))
        bench.measure(f"PUT {codec}", partial(bench.warm.put, f"warm{number}/{codec}", data, if_absent=True))
    spool = bench.directory / "spool"
    ahead: list[str | Path] = [
        "--parallel",
        "2",
        "--spool-dir",
        spool,
        *bench.server.options,
        bench.url,
        f"p{number}",
    ]
    first, second = bench.cluster.add(1000 + 2 * number, size=SIZE), bench.cluster.add(1001 + 2 * number, size=SIZE)
    (bench.cluster.status / f"{path.name}.ready").unlink()
    with ended_background_processes(spool):
        bench.command(program("wal-archive"), *ahead, first)()
        wait_for(lambda: list(spool.glob(f"archive-*/{second.name}")), what="the segment to be archived ahead")
        bench.cluster.archived(first)
        bench.measure("archive, done ahead", bench.command(program("wal-archive"), *ahead, second))
    for done in (path, first, second):
        done.unlink()
    (bench.cluster.status / f"{second.name}.ready").unlink()


def restore_cases(bench: Bench, rounds: int, barman: Path | None) -> None:
    """Restore segments one after the other, alone, ahead and by Barman."""
    server = "restore"
    for number in range(rounds + 1):
        path = bench.cluster.add(number, size=SIZE)
        lz4 = ["--lz4", "--compression-level", "low", *bench.server.options]
        bench.command(program("wal-archive"), *lz4, bench.url, server, path)()
    destination = bench.cluster.wal / "RECOVERYXLOG"
    options = [*bench.server.options, bench.url, server]
    single, ahead = bench.directory / "restore-single", bench.directory / "restore-ahead"
    with ended_background_processes(ahead):
        for number in range(rounds + 1):
            name = segment_name(number, size=SIZE)
            alone = bench.command(program("wal-restore"), "--spool-dir", single, *options, name, destination)
            parallel: list[str | Path] = ["--parallel", str(PARALLEL), "--spool-dir", ahead]
            fetched = bench.command(program("wal-restore"), *parallel, *options, name, destination)
            if number == 0:
                alone()
                fetched()
                time.sleep(2)
                continue
            bench.measure("restore lz4", alone)
            bench.measure("restore lz4, fetched ahead", fetched)
            if barman:
                theirs = bench.command(barman / "barman-cloud-wal-restore", *options, name, destination)
                bench.measure("restore lz4, Barman", theirs)


def table(bench: Bench) -> str:
    """Return the medians as Markdown."""
    lines = [
        "| case | wall ms | CPU ms | beyond the PUT, wall / CPU ms | Barman's wall / ours |",
        "|---|---|---|---|---|",
    ]
    for case in bench.costs:
        if "Barman" in case:
            continue
        cost = bench.median(case)
        beyond, ratio = "", ""
        if case.startswith("archive ") and (put := case.replace("archive", "PUT")) in bench.costs:
            warm = bench.median(put)
            beyond = f"{cost.wall - warm.wall:.0f} / {cost.cpu - warm.cpu:.0f}"
        peer = f"{case.removesuffix(', fetched ahead')}, Barman"
        if case == "archive, done ahead":
            peer = "archive lz4, Barman"
        if peer in bench.costs:
            ratio = f"{bench.median(peer).wall / cost.wall:.1f}"
        lines.append(f"| {case} | {cost.wall:.0f} | {cost.cpu:.0f} | {beyond} | {ratio} |")
    for case in bench.costs:
        if "Barman" in case:
            cost = bench.median(case)
            lines.append(f"| {case} | {cost.wall:.0f} | {cost.cpu:.0f} | | |")
    return "\n".join(lines)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found = find_barman()
    barman = found.bin if found else None
    with tempfile.TemporaryDirectory() as scratch, rclone_s3(etag=ETAG) as server:
        bench = Bench(server, Path(scratch))
        for number in range(1, rounds + 1):
            archive_round(bench, number, barman)
        restore_cases(bench, rounds, barman)
    print(table(bench))


if __name__ == "__main__":
    main()
