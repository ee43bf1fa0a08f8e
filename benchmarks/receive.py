"""Rate, CPU and memory of ``wal-receive`` while it catches up.

    python -m benchmarks.receive [MIB] [--write]

A server writes MIB of WAL (default 512) that its slots keep; then a receiver takes it: ours with a spool and directly,
with each compression, and ``pg_receivewal --synchronous``. The spool, the store of ``file://`` and PGDATA are on one
disk, and PostgreSQL runs on the same processors. Prints a table; ``--write`` puts it
into ``docs/explanation/performance.md``, and ``memory.md`` there has its peaks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.installations import find_tool
from tests.support.ports import end
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory

from benchmarks.page import write_table

MIB = 1 << 20
_TICKS = os.sysconf("SC_CLK_TCK")


def cost_of(process: int) -> tuple[float, float]:
    """Return the CPU time of a running process in seconds, and its peak resident size in MiB."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{process}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / _TICKS, int(peak.split()[1]) / 1024


def catch_up(
    server: PostgresServer, command: Sequence[str], slot: str, target: str, environ: Mapping[str, str]
) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and peak MiB of a receiver until the slot has reached the LSN ``target``."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=command_environment(environ), stderr=subprocess.DEVNULL)
    try:
        query = "SELECT restart_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s"
        while not server.value(query, [target, slot]):
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        return time.monotonic() - began, *cost_of(process.pid)
    finally:
        end(process)


def main(mib: int, *, write: bool) -> None:
    own = str(Path(sys.executable).parent / "barman-cloud")
    with (
        temporary_server_directory() as directory,
        tempfile.TemporaryDirectory() as scratch,
        PostgresServer.create(directory, settings={"max_wal_size": "8GB", "autovacuum": "off"}) as server,
    ):
        contestants: list[tuple[str, list[str]]] = []
        for mode in ("spool", "direct"):
            for compression in ("", "--lz4", "--zstd"):
                store = Path(scratch, f"store-{mode}{compression}")
                store.mkdir()
                spool = ["--spool-dir", f"{scratch}/spool{compression}"] if mode == "spool" else []
                line = [own, "wal-receive", "--mode", mode, f"file://{store}", "main", "-d", server.conninfo, *spool]
                contestants.append((f"--mode {mode} {compression}".strip(), [*line, *filter(None, [compression])]))
        program, environ = find_tool("pg_receivewal", server.installation)
        files = Path(scratch, "files")
        files.mkdir()
        contestants.append(
            ("pg_receivewal --synchronous", [program, "--synchronous", "-D", str(files), "-d", server.conninfo])
        )
        for number, _ in enumerate(contestants):
            server.query(f"SELECT pg_create_physical_replication_slot('s{number}', true)")
        server.query("CREATE TABLE t (a text)")
        start = server.value("SELECT pg_current_wal_lsn()")
        while server.value("SELECT pg_current_wal_lsn() - %s", [start]) < mib * MIB:
            server.query("INSERT INTO t SELECT md5(random()::text) || i FROM generate_series(1, 200000) AS i")
        target = server.value("SELECT pg_current_wal_flush_lsn()")
        size = float(server.value("SELECT %s::pg_lsn - %s", [target, start])) / MIB
        lines = ["| receiver | MiB/s acknowledged | CPU s/GiB | peak MiB |", "| --- | --- | --- | --- |"]
        print("\n".join(lines))
        for number, (name, command) in enumerate(contestants):
            line = [*command, "--slot", f"s{number}"]
            seconds, cpu, peak = catch_up(server, line, f"s{number}", target, environ)
            lines.append(f"| `{name}` | {size / seconds:.0f} | {cpu / size * 1024:.1f} | {peak:.0f} |")
            print(lines[-1], flush=True)
    if write:
        write_table("receive", lines)


if __name__ == "__main__":
    numbers = [argument for argument in sys.argv[1:] if argument.isdecimal()]
    main(int(numbers[0]) if numbers else 512, write="--write" in sys.argv)
