"""How long a commit takes when it waits for a WAL receiver, and how many commits a second many clients get.

    python -m benchmarks.commit_latency [SECONDS] [--write]

A server with ``fsync`` on commits small rows: alone, behind ``pg_receivewal --synchronous`` (a local disk), behind
``wal-receive`` with a spool, and behind ``wal-receive --mode direct`` on a store in memory that answers after 0, 10 and
50 ms. One client shows the latency of a commit, sixteen show what is pipelined. Everything runs on the same processors.
Prints a table; ``--write`` puts it into ``docs/explanation/performance.md``.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.installations import find_tool
from tests.support.ports import end, wait_for
from tests.support.postgres import PostgresServer, command_environment, run_as_server, temporary_server_directory
from tests.support.servers import s3_environ

from benchmarks.counting_store import CountingStore, counting_store
from benchmarks.page import write_table
from benchmarks.receive import cost_of

CLIENTS = (1, 16)
LATENCIES = (0, 10, 50)
"""Of the store, in milliseconds."""
NAME = "standby"
SETTINGS = {"fsync": "on", "synchronous_commit": "on", "max_wal_size": "8GB"}


class Row(NamedTuple):
    """A line of the table."""

    name: str
    latency: float
    """Of a commit of the only client, in milliseconds."""
    commits: float
    """A second, of all clients together."""
    objects: float | None
    """Stored a second meanwhile."""
    cpu: float | None
    """Of the receiver: milliseconds for each commit."""
    peak: float | None
    """MiB of the receiver."""


def commits(server: PostgresServer, clients: int, seconds: int, script: Path) -> tuple[float, float]:
    """Return the average latency in milliseconds and the commits a second."""
    program, environ = find_tool("pgbench", server.installation)
    arguments = ["-n", "-M", "prepared", "-f", str(script), "-c", str(clients), "-j", "2", "-T", str(seconds)]
    done = run_as_server([program, *arguments], environ={**environ, **server.client_environ})
    latency = re.search(r"latency average = ([\d.]+) ms", done.stdout)
    rate = re.search(r"tps = ([\d.]+)", done.stdout)
    assert latency and rate, done.stdout
    return float(latency[1]), float(rate[1])


@contextlib.contextmanager
def synchronous(
    server: PostgresServer, command: Sequence[str], environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a receiver that every commit waits for."""
    process = subprocess.Popen(command, env=command_environment(environ), stderr=subprocess.DEVNULL)
    try:
        server.configure(synchronous_standby_names=NAME)
        query = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
        wait_for(lambda: server.query(query), what=f"{command[0]} to stream")
        yield process
    finally:
        server.configure(synchronous_standby_names="")
        end(process)


def measured(
    server: PostgresServer, name: str, seconds: int, script: Path, process: int | None, store: CountingStore | None
) -> Row:
    """Measure with one client and with many."""
    latency, _ = commits(server, CLIENTS[0], seconds, script)
    before = cost_of(process)[0] if process else 0.0
    puts = store.requests["PUT"] if store else 0
    _, rate = commits(server, CLIENTS[1], seconds, script)
    cpu, peak = cost_of(process) if process else (0.0, 0.0)
    objects = (store.requests["PUT"] - puts) / seconds if store else None
    if process is None:
        return Row(name, latency, rate, None, None, None)
    return Row(name, latency, rate, objects, (cpu - before) / (rate * seconds) * 1000, peak)


def rows(server: PostgresServer, seconds: int, scratch: Path) -> Iterator[Row]:
    """Measure all."""
    script = scratch / "commit.sql"
    script.write_text("INSERT INTO t VALUES (repeat('x', 200));\n")
    script.chmod(0o644)
    server.query("CREATE TABLE t (a text)")
    yield measured(server, "no receiver", seconds, script, None, None)
    stream = f"{server.conninfo} application_name={NAME}"
    program, environ = find_tool("pg_receivewal", server.installation)
    files = scratch / "files"
    files.mkdir()
    receiver = [program, "--synchronous", "-D", str(files), "-d", stream]
    with synchronous(server, receiver, environ) as process:
        yield measured(server, "`pg_receivewal --synchronous`", seconds, script, process.pid, None)
    own = [str(Path(sys.executable).parent / "barman-cloud"), "wal-receive", "--lz4", "-d", server.conninfo]
    own += ["--streaming-conninfo", stream]
    with counting_store(0) as (store, endpoint):
        line = [*own, "--spool-dir", str(scratch / "spool"), "--endpoint-url", endpoint, "s3://bucket", "main"]
        with synchronous(server, line, s3_environ(endpoint)) as process:
            yield measured(server, "`wal-receive`, spool", seconds, script, process.pid, store)
    for latency in LATENCIES:
        with counting_store(latency / 1000) as (store, endpoint):
            line = [*own, "--mode", "direct", "--endpoint-url", endpoint, "s3://bucket", "main"]
            with synchronous(server, line, s3_environ(endpoint)) as process:
                name = f"`wal-receive --mode direct`, store {latency} ms"
                yield measured(server, name, seconds, script, process.pid, store)


def main(seconds: int, *, write: bool) -> None:
    lines = [
        f"| commits wait for | ms, 1 client | commits/s, {CLIENTS[1]} clients | objects/s | CPU ms/commit | peak MiB |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines))
    with (
        temporary_server_directory() as directory,
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer.create(directory, settings=SETTINGS) as server,
    ):
        Path(scratch).chmod(0o755)
        for row in rows(server, seconds, Path(scratch)):
            optional = [row.objects, row.cpu, row.peak]
            texts = [
                "" if value is None else f"{value:.{digits}f}"
                for value, digits in zip(optional, (0, 2, 0), strict=True)
            ]
            lines.append(f"| {row.name} | {row.latency:.1f} | {row.commits:.0f} | {' | '.join(texts)} |")
            print(lines[-1], flush=True)
    if write:
        write_table("commit_latency", lines)


if __name__ == "__main__":
    numbers = [argument for argument in sys.argv[1:] if argument.isdecimal()]
    main(int(numbers[0]) if numbers else 10, write="--write" in sys.argv)
