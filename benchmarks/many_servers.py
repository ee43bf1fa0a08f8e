"""Many servers in one configuration: what reading it, ``check all`` and passes of ``cron`` take.

``python -m benchmarks.many_servers [SERVERS] [--write]`` makes so many servers (200) with local stores, each with a
backup's ``backup.info`` and some WAL, one of them broken, and prints wall clock, CPU and peak memory of each command,
with ``--write`` into ``docs/explanation/performance.md`` as well. The passes
are one that sees all schedules for the first time, one without anything due, and one after which every server's
retention runs; the last is timed until all of it has run.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.support.segments import segment, segment_name

from benchmarks.page import write_table

_CONFIGURATION = """
[{name}]
description = server {name}
conninfo = host=db-{name} user=barman dbname=postgres
backup_method = postgres
basebackups_directory = {store}/{name}/base
wals_directory = {store}/{name}/wals
retention_policy = RECOVERY WINDOW OF 14 DAYS
backup_schedule = 0 1 * * *
verify_schedule = 0 6 * * 0
"""
_INFO = """backup_label=None
begin_offset=40
begin_time={time}
begin_wal={first}
begin_xlog=0/1000028
end_offset=304
end_time={time}
end_wal={first}
end_xlog=0/1000130
server_name=cloud
status=DONE
systemid=7512345678901234567
timeline=1
version=170000
xlog_segment_size=1048576
"""


def make(directory: Path, count: int) -> Path:
    """Make the configuration and the stores, and return the main file."""
    files, store = directory / "barman.d", directory / "store"
    files.mkdir()
    content = segment(16)
    now = datetime.now().astimezone().isoformat()
    for number in range(count):
        name = f"pg{number:03d}"
        where = "s3://no/where" if number == count // 2 else str(store)
        text = _CONFIGURATION.format(name=name, store=where)
        if where.startswith("s3:"):
            text = text.replace(f"{where}/{name}/base", where).replace(f"{where}/{name}/wals", where)
            text += "aws_profile = nobody\n"
        (files / f"{name}.conf").write_text(text)
        backup = store / name / "base" / "20261128T010000"
        backup.mkdir(parents=True)
        (backup / "backup.info").write_text(_INFO.format(time=now, first=segment_name(16)))
        (backup / "data.tar").write_bytes(b"\0" * 10240)
        for offset in range(4):
            key = store / name / "wals" / segment_name(16 + offset)[:16] / segment_name(16 + offset)
            key.parent.mkdir(parents=True, exist_ok=True)
            key.write_bytes(content)
    main = directory / "barman.conf"
    main.write_text(f"[barman]\nbarman_home = {directory}/home\nconfiguration_files_directory = {files}\n")
    return main


def measure(main: Path, what: str, *words: str, now: str | None = None) -> str:
    """Run a command, print what it took, and return that as the row of a table."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    environ = {**os.environ, **({"BARMAN_CLOUD_NOW": now} if now else {})}
    process = subprocess.Popen(
        [sys.executable, "-m", "barman_cloud", "-c", str(main), *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ,
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row = (
        f"| `{' '.join(words)}`{what} | {took:.2f} | {cpu:.2f} | {usage.ru_maxrss / 1024:.0f} | {process.returncode} |"
    )
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_servers")
    parser.add_argument("servers", nargs="?", type=int, default=200)
    parser.add_argument("--write", action="store_true", help="write the table into docs/explanation/performance.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="barman-cloud-many-") as directory:
        configuration = make(Path(directory), args.servers)
        rows = [
            measure(configuration, " of one of them", "backup-list", "pg001"),
            measure(configuration, "", "check", "all", "--format", "json"),
            measure(configuration, ", the first", "cron", now="2026-11-28T12:10:00Z"),
            measure(configuration, ", nothing due", "cron", now="2026-11-28T12:11:00Z"),
            measure(configuration, "", "cron", "--list", now="2026-11-28T12:12:00Z"),
            measure(configuration, ", each server's retention due", "cron", "--wait", now="2026-11-28T13:01:00Z"),
            measure(configuration, ", nothing due", "cron", now="2026-11-28T13:05:00Z"),
        ]
    if args.write:
        head = f"| {args.servers} servers, one of them broken | wall s | CPU s | MiB | exit code |"
        write_table("many_servers", [head, "|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    main()
