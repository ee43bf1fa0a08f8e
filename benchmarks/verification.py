"""Do backups work: ``check`` of a large archive, and ``verify`` beside other tools that verify.

    python -m benchmarks.verification [--scale N] [--rounds N] [--write]

``check`` lists 200,000 WAL objects of the store in memory (``counting_store``). ``verify`` reads a backup of pgbench's
tables from ``rclone serve s3``, ``pgbackrest verify`` one of its own, and ``pg_verifybackup`` the restored directory:
it needs one, so the restore is told beside it. The figures are medians of turns; ``--write`` puts them into
``docs/explanation/performance.md``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.postgres import PostgresServer, command_environment
from tests.support.servers import ACCESS_KEY, REGION, SECRET_KEY, rclone_s3

from barman_cloud.postgres.page_checksum import bad_pages
from benchmarks import catalog
from benchmarks.__main__ import choose_installation, describe
from benchmarks.contestants import SERVER, CloudScripts, PgBackRest, others, ours
from benchmarks.counting_store import counting_store
from benchmarks.data import PARTITIONS, data_size
from benchmarks.disk import cache
from benchmarks.meter import adopt_orphans, measure
from benchmarks.results import OURS, Results
from benchmarks.setting import ETAG, QUICK, Bench, Command, Place

PAGE = Path(__file__).parents[1] / "docs/explanation/performance.md"
BEGIN, END = "<!-- verification: begin -->\n", "<!-- verification: end -->\n"
BACKUPS, WAL_OBJECTS = 100, 200_000
PAGES = 500
CODEC = "lz4"


def main() -> None:
    """Measure, print, and write if that is wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verification", description=__doc__.partition(":")[0])
    parser.add_argument("--scale", type=int, default=60, help="of pgbench, 15 MiB each (default 60)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/explanation/performance.md")
    args = parser.parse_args()
    for name in [name for name in os.environ if name.startswith(("AWS_", "PG"))]:
        del os.environ[name]
    adopt_orphans()
    installation = choose_installation()
    results = Results(describe(installation))
    checked = _check(results, args.rounds)
    with (
        tempfile.TemporaryDirectory(prefix="bc-verify-", dir="/tmp") as scratch,
        rclone_s3(tls=True, etag=ETAG) as secure,
        rclone_s3(etag=ETAG) as plain,
    ):
        os.chmod(scratch, 0o755)
        bench = Bench(QUICK, Path(scratch), results, secure, plain, installation)
        text = "\n".join(["", *checked, "", *_verify(bench, args.scale, args.rounds), ""]) + "\n"
    print(text)
    if args.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])


def _check(results: Results, rounds: int) -> list[str]:
    environ = command_environment(
        {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )
    with counting_store() as (store, endpoint):
        for objects in (WAL_OBJECTS // 100, WAL_OBJECTS):
            catalog.fill(store, BACKUPS, objects)
            argv = [umbrella(), "check", "--endpoint-url", endpoint, f"s3://{catalog.BUCKET}", catalog.SERVER]
            for _ in range(rounds):
                store.requests.clear()
                used = measure(argv, environ, codes=(0, 1))
                results.add("check", f"{objects} WAL objects", OURS, used, f"{sum(store.requests.values())} requests")
    lines = ["| `check` of 100 backups and | seconds | CPU seconds | memory | |", "|---|---|---|---|---|"]
    for row in results.rows.values():
        median = row.median
        memory = f"{median.memory / 2**20:.0f} MiB"
        lines.append(f"| {row.case} | {median.wall:.2f} | {median.cpu:.2f} | {memory} | {row.note} |")
    return lines


def umbrella() -> str:
    """Return the installed umbrella program."""
    return str(Path(ours().commands.path("barman-cloud-backup")).parent / "barman-cloud")


def checksum_speed(seconds: float = 2.0) -> float:
    """Return bytes of pages per second whose checksums one thread computes."""
    data = os.urandom(PAGES * 8192)
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        bad_pages(data, [range(PAGES)])
        count += 1
    return count * len(data) / (time.perf_counter() - began)


def _verify(bench: Bench, scale: int, rounds: int) -> list[str]:
    directory = bench.directory("cluster")
    environ = dict(bench.secure.environ)
    with PostgresServer.create(directory, bench.installation, initdb=("--data-checksums",), environ=environ) as server:
        server.pgbench("-i", "-s", str(scale), f"--partitions={PARTITIONS}")
        server.query("VACUUM")
        server.query("CHECKPOINT")
        size = data_size(server)
        own = _backed_up(bench, server, ours())
        restored = bench.new_directory("restored") / "data"
        restore = ours().restore(own, restored, bench.jobs)
        fetched = measure(restore.argv, restore.environ)
        commands = {
            OURS: Command.of(umbrella(), "verify", *own.store.options, own.url, SERVER, environ=own.environ),
            "pg_verifybackup": Command.of(
                bench.installation.tool("pg_verifybackup"), "-n", restored, environ=command_environment()
            ),
        }
        for other in others(bench.installation.major):
            if isinstance(other, PgBackRest):
                place = _backed_up(bench, server, other)
                commands[other.name] = Command.of(*other._call(place), "verify", environ=place.environ)
    cache(restored)
    speeds = [checksum_speed() for _ in range(rounds)]
    for _ in range(rounds):
        for name, command in commands.items():
            used = measure(command.argv, command.environ)
            bench.results.add("verify", CODEC, name, used, f"{size / used.wall / 1e9:.2f} GB/s")
    return _table(bench.results, size, fetched.wall, statistics.median(speeds))


def _backed_up(bench: Bench, server: PostgresServer, contestant: CloudScripts | PgBackRest) -> Place:
    place = Place.new(bench.secure, bench.new_directory("contestant"))
    contestant.prepare(server, place, CODEC, bench.jobs)
    server.archive_with(contestant.archive_command(place))
    server.wait_archived(server.switch_wal())
    command = contestant.backup(server, place, CODEC, bench.jobs)
    measure(command.argv, command.environ)
    server.wait_archived(server.switch_wal())
    return place


def _table(results: Results, size: int, restore: float, checksums: float) -> list[str]:
    rows = [row for row in results.rows.values() if row.scenario == "verify"]
    first = rows[0]
    lines = [
        f"| a backup of {size / 1e9:.2f} GB, {CODEC} | seconds | CPU seconds | GB/s | times ours |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        median = row.median
        # Turn by turn, because what else the machine does changes from one to the next.
        ratio = statistics.median(a.wall / b.wall for a, b in zip(row.usages, first.usages, strict=False))
        name = "`barman-cloud verify`" if row is first else f"`{row.contestant}`"
        if row.contestant == "pg_verifybackup":
            name += f", after a restore of {restore:.1f} s"
        elif row is not first:
            name += ", its `verify`"
        speed = size / median.wall / 1e9
        lines.append(f"| {name} | {median.wall:.2f} | {median.cpu:.2f} | {speed:.2f} | {ratio:.2f} |")
    place = "; ".join(f"{name}: {value}" for name, value in results.description.items())
    return [
        *lines,
        "",
        f"One thread computes page checksums at {checksums / 1e9:.1f} GB/s. Medians of {len(first.usages)} turns; the "
        f"ratios are medians of ratios of one turn. {place[0].upper()}{place[1:]}.",
    ]


if __name__ == "__main__":
    main()
