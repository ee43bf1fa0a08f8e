"""Free ports, processes that must be waited for, and their orderly end."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.support.privileges import UNCHANGED

_POLL_SECONDS = 0.02
_LOWEST_PORT = 10_000
_BLOCK = 200
"""Ports that a process takes for itself at a time."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on now, and that nobody else gets.

    Between the moment when a port is found to be free and the one when a server listens on it, the kernel may deal it
    out to a client or to another server. So ports are taken from below those that it deals out, and each process of
    the tests has some of them for itself as long as it lives.
    """
    with _lock:
        for port in itertools.islice(_own_ports, 2 * _BLOCK):
            if _can_be_bound(port):
                return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _deal_out() -> Iterator[int]:
    """Yield the ports of a block that no other process has, in a circle; none where that can't be told."""
    try:
        lowest_of_kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return
    blocks = [range(first, first + _BLOCK) for first in range(_LOWEST_PORT, lowest_of_kernel - _BLOCK, _BLOCK)]
    first = os.getpid() % max(1, len(blocks))
    for block in blocks[first:] + blocks[:first]:
        # A name in the abstract namespace is held by one process, and free again when that has ended, however it did.
        sign = socket.socket(socket.AF_UNIX)
        try:
            sign.bind(f"\0barman-cloud-test-ports-{block[0]}")
        except OSError:
            sign.close()
            continue
        with sign:
            yield from itertools.cycle(block)


_lock = threading.Lock()
_own_ports = _deal_out()


def _can_be_bound(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


def accepts_connections(port: int) -> bool:
    """Tell whether something listens on the loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(condition: Callable[[], object], *, timeout: float = 120.0, what: str = "condition") -> None:
    """Poll until ``condition`` is true; TimeoutError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(_POLL_SECONDS)


def end(process: subprocess.Popen[bytes], *, timeout: float = 10.0) -> None:
    """Terminate a process that we started and collect it, by force if it takes longer than ``timeout`` seconds."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextlib.contextmanager
def background(
    command: Sequence[str], *, port: int, log: Path, environ: Mapping[str, str] | None = None, timeout: float = 60.0
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; the block begins when the server listens on ``port``.

    RuntimeError with the tail of its output if it ends before that.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            UNCHANGED.command(command, parent_death_signal=signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ,
        )
    try:

        def ready() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with status {process.returncode}: {tail(log)}")
            return accepts_connections(port)

        wait_for(ready, timeout=timeout, what=f"{command[0]} to listen on port {port}")
        yield process
    finally:
        end(process)


def tail(log: Path, *, size: int = 2000) -> str:
    """Return the end of a log file, at most ``size`` characters."""
    return log.read_text(errors="replace")[-size:] if log.exists() else ""
