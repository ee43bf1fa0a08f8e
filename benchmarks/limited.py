"""Throughput of one object on a store that gives each connection no more than 50 MB/s, as clouds do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from tests.support.postgres import PostgresServer
from tests.support.servers import StoreServer

from benchmarks.contestants import CloudScripts, barman, ours
from benchmarks.data import data_size, make_pgbench
from benchmarks.disk import discard, forget_cached, sync
from benchmarks.meter import Usage, measure
from benchmarks.setting import NONE, Bench, Place

BYTES_PER_SECOND = 50e6
PIECE = 1 << 17


def run(bench: Bench) -> None:
    """Back up with one job through the limit, and restore what Barman and ours stored, also with one job."""
    with make_pgbench(bench.directory("limited"), bench.installation, bench.scale.pgbench_scale // 2) as server:
        size = data_size(server)
        with limiting_proxy(int(bench.plain.endpoint.rpartition(":")[2]), BYTES_PER_SECOND) as port:
            slow = _behind(bench.plain, port)
            theirs = barman()
            contestants = [ours(), *([theirs] if theirs else [])]
            runs: list[Callable[[], float]] = [partial(_turn, bench, server, slow, one, size) for one in contestants]
            bench.results.take_turns(bench.scale.rounds, runs)


def _behind(store: StoreServer, port: int) -> StoreServer:
    """Return the same store, reached through the proxy."""
    endpoint = f"http://127.0.0.1:{port}"
    environ = {**store.environ, "AWS_ENDPOINT_URL": endpoint}
    return replace(store, endpoint=endpoint, environ=environ, options=("--endpoint-url", endpoint))


def _turn(bench: Bench, server: PostgresServer, store: StoreServer, contestant: CloudScripts, size: int) -> float:
    place = Place.new(store, bench.directory("contestant"))
    forget_cached(server.data)
    command = contestant.backup(server, place, NONE, 1)
    used = measure(command.argv, command.environ)
    _add(bench, "backup, --jobs 1", contestant.name, used, size)
    seconds = used.wall
    for reader in [contestant, ours()] if contestant.name != "ours" else [contestant]:
        parent = bench.new_directory("restored")
        command = reader.restore(place, parent / "data", 1)
        used = measure(command.argv, command.environ, last=partial(sync, parent))
        discard(parent)
        source = "ours" if contestant.name == "ours" else "Barman's"
        _add(bench, f"restore of {source}, --jobs 1", reader.name, used, size)
        seconds = max(seconds, used.wall)
    place.forget()
    return seconds


def _add(bench: Bench, case: str, contestant: str, used: Usage, size: int) -> None:
    speed = size / used.wall
    note = f"{speed / 1e6:.0f} MB/s, {speed / BYTES_PER_SECOND:.1f} connections' worth"
    bench.results.add("50 MB/s each", case, contestant, used, note)


@contextlib.contextmanager
def limiting_proxy(target: int, bytes_per_second: float) -> Iterator[int]:
    """Pass TCP connections on to the loopback port ``target``, each direction of each at a limited speed."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", target))
                for source, sink in ((client, server), (server, client)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=_pump, args=(source, sink, bytes_per_second), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()


def _pump(source: socket.socket, sink: socket.socket, bytes_per_second: float) -> None:
    """Copy one direction; time not used isn't saved up, beyond a moment."""
    free = time.monotonic()
    buffer = bytearray(PIECE)
    view = memoryview(buffer)
    with contextlib.suppress(OSError):
        while count := source.recv_into(buffer):
            sink.sendall(view[:count])
            now = time.monotonic()
            free = max(free, now - 0.05) + count / bytes_per_second
            if free > now:
                time.sleep(free - now)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
