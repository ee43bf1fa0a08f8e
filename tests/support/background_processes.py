"""The background processes that ``--parallel`` leaves; tests end their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil


def background_processes(spool_dir: Path) -> list[psutil.Process]:
    """Return the processes that work on this spool."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "barman_cloud.cli.wal_background" in command and str(spool_dir) in command:
            found.append(process)
    return found


@contextlib.contextmanager
def ended_background_processes(spool_dir: Path) -> Iterator[None]:
    """End at the end of the block what works on this spool, and wait until it is gone."""
    try:
        yield
    finally:
        while processes := background_processes(spool_dir):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=10)
