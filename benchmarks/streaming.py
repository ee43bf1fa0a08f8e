"""Streamed base backups: the source's own limit, ours, pipes of ``pg_basebackup``, and Barman's server."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.barman_server import BarmanServer
from tests.support.installations import find_tool
from tests.support.peers import find_barman, our_commands
from tests.support.postgres import SUPERUSER, PostgresServer
from tests.support.servers import rclone_program

from benchmarks.contestants import SERVER, WalG, wal_g
from benchmarks.data import data_size, make_pgbench, make_realistic
from benchmarks.disk import cache
from benchmarks.meter import Usage, measure
from benchmarks.page import write_table
from benchmarks.results import OURS, Row
from benchmarks.setting import NONE, Bench, Command, Place

_CODECS = (NONE, "gzip", "lz4", "zstd")
_PIPES = {NONE: "cat", "gzip": "gzip -1", "lz4": "lz4 -1", "zstd": "zstd -2 -T0"}
"""What people put between ``pg_basebackup`` and the store."""
_SCENARIO = "streaming"
_NOWHERE = "to nowhere"
_SOURCE = "pg_basebackup"


def run(bench: Bench) -> None:
    """Measure both data sets, over HTTP, with the cluster in the page cache."""
    makers: dict[str, Callable[[Path], PostgresServer]] = {
        "pgbench": lambda directory: make_pgbench(directory, bench.installation, bench.scale.pgbench_scale // 2),
        "realistic": lambda directory: make_realistic(directory, bench.installation, bench.scale.rows // 2),
    }
    for data, make in makers.items():
        with make(bench.directory(f"streaming-{data}")) as server:
            server.archive_with("true")  # Barman's server takes no backup of one that doesn't archive
            bench.results.take_turns(
                bench.scale.rounds,
                [
                    partial(_source, bench, server, data),
                    partial(_received, bench, server, data),
                    *(partial(_ours, bench, server, data, codec) for codec in _CODECS),
                    *(partial(_pipe, bench, server, data, codec) for codec in _CODECS if _has(codec)),
                    *([partial(_barman, bench, server, data)] if find_barman() else []),
                    *(partial(_wal_g, bench, server, data, found) for found in wal_g()),
                ],
            )
    if bench.write:
        rows = [row for row in bench.results.rows.values() if row.scenario == _SCENARIO]
        told = f"PostgreSQL {bench.installation.version}, {bench.described}."
        write_table(_SCENARIO, [told, "", *streaming_table(rows)])


def streaming_table(rows: list[Row]) -> list[str]:
    """Return the table of all contestants, one line for each case."""
    contestants = list(dict.fromkeys(row.contestant for row in rows))
    found = {(row.case, row.contestant): row for row in rows}
    names = [contestant.replace("|", "\\|") for contestant in contestants]
    lines = [f"| | {' | '.join(names)} |", f"| --- |{' --- |' * len(contestants)}"]
    for case in dict.fromkeys(row.case for row in rows):
        limit = found.get((f"{case.partition(':')[0]}: {_NOWHERE}, manifest", _SOURCE))
        ours = found.get((case, OURS))
        cells = []
        for contestant in contestants:
            row = found.get((case, contestant))
            if row is None:
                cells.append("")
                continue
            used = row.median
            cell = f"{used.wall:.2f} / {used.cpu:.1f} / {used.memory / 2**20:.0f}"
            cell += f", {limit.median.wall / used.wall:.0%}" if limit and limit is not row else ""
            cell += f" (**{used.wall / ours.median.wall:.1f}**)" if ours and ours is not row else ""
            cells.append(cell)
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def _source(bench: Bench, server: PostgresServer, data: str) -> float:
    """What PostgreSQL and its client can do: everything is received, nothing is done with it."""
    for name, manifest in (("no manifest", ["--no-manifest"]), ("manifest", ["--manifest-checksums=CRC32C"])):
        cache(server.data)
        command = _shell(server, f"{_pg_basebackup(server, manifest)} > /dev/null", {})
        used = measure(command.argv, command.environ)
        seconds = _add(bench, server, f"{data}: {_NOWHERE}, {name}", _SOURCE, used)
    return seconds


def _received(bench: Bench, server: PostgresServer, data: str) -> float:
    """What ours takes to receive everything and take it apart, without compression and store."""
    cache(server.data)
    command = [sys.executable, str(Path(__file__).with_name("received.py")), server.conninfo]
    return _add(bench, server, f"{data}: {_NOWHERE}, manifest", OURS, measure(command, dict(os.environ)))


def _ours(bench: Bench, server: PostgresServer, data: str, codec: str) -> float:
    place = Place.new(bench.plain, bench.directory("contestant"))
    cache(server.data)
    flags = [] if codec == NONE else [f"--{codec}"]
    where = ["--host", "127.0.0.1", "--port", str(server.port), "--user", SUPERUSER]
    program = our_commands().path("barman-cloud-backup")
    command = Command.of(
        program,
        "--method",
        "stream",
        *flags,
        "--immediate-checkpoint",
        "--jobs",
        str(bench.jobs),
        *where,
        *place.store.options,
        place.url,
        SERVER,
        environ=place.environ,
    )
    return _add(bench, server, f"{data}: {codec}", OURS, measure(command.argv, command.environ), place)


def _pipe(bench: Bench, server: PostgresServer, data: str, codec: str) -> float:
    place = Place.new(bench.plain, bench.directory("contestant"))
    cache(server.data)
    environ = {
        "RCLONE_CONFIG": str(place.directory / "none"),
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENV_AUTH": "true",
        "RCLONE_S3_ENDPOINT": place.store.endpoint,
        **place.environ,
    }
    put = shlex.join([rclone_program(), "rcat", f":s3:{place.bucket}/base.tar"])
    pipe = f"{_pg_basebackup(server, ['--manifest-checksums=CRC32C'])} | {_PIPES[codec]} | {put}"
    command = _shell(server, pipe, environ)
    used = measure(command.argv, command.environ)
    return _add(bench, server, f"{data}: {codec}", "pg_basebackup | rclone", used, place)


def _barman(bench: Bench, server: PostgresServer, data: str) -> float:
    """Barman's server, which streams through a directory and never compresses."""
    commands = find_barman()
    assert commands is not None
    place = Place.new(bench.plain, bench.directory("contestant"))
    barman = BarmanServer.create(commands, place.directory, server, SERVER, place.url, place.environ)
    barman.archive_a_segment()
    cache(server.data)
    command = Command.of(*barman.command("backup", SERVER, "--immediate-checkpoint"), environ=barman.environ)
    return _add(bench, server, f"{data}: {NONE}", "Barman", measure(command.argv, command.environ), place)


def _wal_g(bench: Bench, server: PostgresServer, data: str, found: WalG) -> float:
    """WAL-G's backup over a replication connection."""
    place = Place.new(bench.plain, bench.directory("contestant"))
    found.prepare(server, place, "lz4", bench.jobs)
    cache(server.data)
    command = found.remote_backup(place, bench.jobs)
    return _add(bench, server, f"{data}: lz4", found.name, measure(command.argv, command.environ), place)


def _add(
    bench: Bench, server: PostgresServer, case: str, contestant: str, used: Usage, place: Place | None = None
) -> float:
    size = data_size(server)
    note = f"{size / used.wall / 1e6:.0f} MB/s"
    if place:
        note += f", {size / max(place.stored_bytes(), 1):.1f}:1"
        place.forget()
    bench.results.add(_SCENARIO, case, contestant, used, note)
    return used.wall


def _has(codec: str) -> bool:
    return shutil.which(_PIPES[codec].partition(" ")[0]) is not None


def _pg_basebackup(server: PostgresServer, manifest: list[str]) -> str:
    program, _ = find_tool("pg_basebackup", server.installation)
    return shlex.join([program, "-Ft", "-X", "none", "-D", "-", "-c", "fast", *manifest])


def _shell(server: PostgresServer, pipe: str, environ: dict[str, str]) -> Command:
    _, libraries = find_tool("pg_basebackup", server.installation)
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    everything = {**path, **environ, **libraries, **server.client_environ}
    return Command.of("bash", "-o", "pipefail", "-c", pipe, environ=everything)
