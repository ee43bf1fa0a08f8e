"""What a program and everything it starts cost: wall clock, CPU seconds, memory.

CPU seconds come from the kernel's own account of a process and the children it waited for, so the shortest process
counts. What outlives its parent (an asynchronous archiver, a prefetcher) becomes a child of the benchmark, because that
asked to be the reaper of its descendants, and is added when it ends. Memory is the proportional set size (PSS) of all
of them, summed at each sample: pages that several processes share count once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_SECONDS = 0.2
ORPHAN_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """The cost of one run: seconds of wall clock and of CPU, peak memory in bytes."""

    wall: float
    cpu: float
    memory: int


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ended."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(
    argv: Sequence[str],
    environ: Mapping[str, str],
    *,
    last: Callable[[], object] | None = None,
    codes: Sequence[int] = (0,),
) -> Usage:
    """Run a program to its end and return what it cost; RuntimeError with its stderr if it fails.

    ``last`` runs when it has ended, within the time measured, such as a sync of what was written.
    """
    with tempfile.TemporaryFile() as errors:
        before = children(os.getpid())
        start = time.perf_counter()
        process = subprocess.Popen(
            argv, env=environ, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        with sampled(lambda: [process.pid]) as peak:
            _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if last:
            last()
        wall = time.perf_counter() - start
        cpu = used.ru_utime + used.ru_stime + end_orphans(before)
        if process.returncode not in codes:
            errors.seek(0)
            said = errors.read()[-3000:].decode(errors="replace")
            raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode}: {said}")
    return Usage(wall, cpu, peak.bytes)


class Watch:
    """The cost of the children of a process that runs on, such as PostgreSQL's archiver; see :func:`watch`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start = time.perf_counter()
        self.wall = 0.0
        self.usage = Usage(0, 0, 0)

    def stop(self) -> None:
        """End the time measured; what follows in the block still counts as CPU."""
        self.wall = time.perf_counter() - self.start


@contextlib.contextmanager
def watch(pid: int) -> Iterator[Watch]:
    """Measure what the children of process ``pid`` do during the block; ``usage`` is set after it."""
    before, used = children(os.getpid()), _cpu_of_children(pid)
    found = Watch(pid)

    def roots() -> list[int]:
        return [*children(pid), *(children(os.getpid()) - before)]

    with sampled(roots) as peak:
        yield found
    if not found.wall:
        found.stop()
    orphans = end_orphans(before)
    found.usage = Usage(found.wall, _cpu_of_children(pid) - used + orphans, peak.bytes)


class Peak:
    """The largest sum seen so far, in bytes."""

    bytes = 0


@contextlib.contextmanager
def sampled(roots: Callable[[], Sequence[int]]) -> Iterator[Peak]:
    """Sample the memory of the process trees at ``roots`` during the block."""
    peak, done = Peak(), threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_SECONDS):
            peak.bytes = max(peak.bytes, sum(map(_memory, _trees(roots()))))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def end_orphans(before: set[int]) -> float:
    """Wait a while for children that came since ``before``, then end them; return their CPU seconds."""
    cpu, deadline, told = 0.0, time.monotonic() + ORPHAN_SECONDS, False
    while orphans := children(os.getpid()) - before:
        for pid in orphans:
            with contextlib.suppress(ChildProcessError):
                ended, _, used = os.wait4(pid, os.WNOHANG)
                cpu += used.ru_utime + used.ru_stime if ended else 0.0
        if time.monotonic() > deadline:
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if told else signal.SIGTERM)
            deadline, told = time.monotonic() + 1, True
        time.sleep(0.01)
    return cpu


def children(pid: int) -> set[int]:
    """Return the pids of the children of all threads of a process, zombies included; none if it has gone."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found.update(map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split()))
    return found


def _trees(roots: Sequence[int]) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting.extend(children(pid))
    return found


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _cpu_of_children(pid: int) -> float:
    """Return the CPU seconds of the children that a process has waited for (proc(5): fields 16 and 17 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS
