"""Measure ours beside Barman, pgBackRest and WAL-G: ``python -m benchmarks [--quick] [--only NAME]``."""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.support.installations import Installation, find_installations, newest_installation
from tests.support.privileges import server_account
from tests.support.servers import rclone_s3

import barman_cloud
from benchmarks import bulk, catalog, chains, limited, startup, streaming, wal
from benchmarks.contestants import newest_for_pgbackrest
from benchmarks.meter import adopt_orphans
from benchmarks.results import Results
from benchmarks.setting import ETAG, FULL, QUICK, Bench

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "start-up": startup.run,
    "catalog": catalog.run,
    "bulk": bulk.run,
    "streaming": streaming.run,
    "chains": chains.run,
    "wal": wal.run,
    "limited": limited.run,
}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run the scenarios asked for and write what they found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition(":")[0])
    parser.add_argument("--quick", action="store_true", help="small data, one round")
    parser.add_argument("--only", action="append", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help="repetitions of each case")
    parser.add_argument("--write", action="store_true", help="tables of streaming and chains go into docs/explanation")
    args = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("AWS_", "PG", "WALG_"))]:
        del os.environ[name]
    adopt_orphans()
    # As pip leaves an installation; the servers' user, who runs our commands, can't write into a clone.
    compileall.compile_dir(Path(barman_cloud.__file__).parent, quiet=1)
    installation = choose_installation()
    results = Results(describe(installation))
    with (
        tempfile.TemporaryDirectory(prefix="bc-bench-", dir="/tmp") as scratch,
        rclone_s3(tls=True, etag=ETAG) as secure,
        rclone_s3(etag=ETAG) as plain,
    ):
        server_account().own(Path(scratch))
        scale = QUICK if args.quick else FULL
        if args.rounds:
            scale = replace(scale, rounds=args.rounds)
        bench = Bench(scale, Path(scratch), results, secure, plain, installation, write=args.write)
        for name in args.only or SCENARIOS:
            start = time.monotonic()
            SCENARIOS[name](bench)
            results.write(RESULTS)
            print(f"--- {name}: {time.monotonic() - start:.0f} s", flush=True)
    print(results.markdown())


def choose_installation() -> Installation:
    """Return the newest PostgreSQL that pgBackRest knows, if that is here, else the newest.

    ``BARMAN_CLOUD_TEST_POSTGRES`` asks for another major version, for peers that know only older ones.
    """
    program = shutil.which("pgbackrest")
    if program is None or "BARMAN_CLOUD_TEST_POSTGRES" in os.environ:
        return newest_installation()
    most = newest_for_pgbackrest(program)
    known = [found for found in find_installations() if found.major <= most and found.has("pgbench")]
    return known[0] if known else newest_installation()


def describe(installation: Installation) -> dict[str, object]:
    """Say what machine and versions the figures belong to."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": f"{os.cpu_count()} virtual CPUs, {memory / 2**30:.0f} GiB of memory, store on loopback",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "PostgreSQL": installation.version,
        "date": time.strftime("%Y-%m-%d"),
    }


if __name__ == "__main__":
    main()
