"""Full backup and restore, of both data sets, by all tools, with every compression."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.support.postgres import PostgresServer
from tests.support.servers import StoreServer

from benchmarks.contestants import Contestant, barman, others, ours
from benchmarks.data import data_size, make_pgbench, make_realistic
from benchmarks.disk import cache, discard, forget_cached, sync
from benchmarks.limits import Limits
from benchmarks.meter import Usage, measure
from benchmarks.setting import CODECS, FROM_DISK, PLAIN_CODECS, Bench, Place


def run(bench: Bench) -> None:
    """Make each data set, and let all contestants take turns on it."""
    for name in ("pgbench", "realistic"):
        with _data_set(bench, name) as server:
            limits = Limits.measure(bench, server, name)
            runs: list[Callable[[], float]] = []
            for codec in CODECS:
                runs += _turns(bench, server, name, codec, limits, bench.secure)
            for codec in PLAIN_CODECS:
                runs += _turns(bench, server, name, codec, limits, bench.plain)
            for codec in FROM_DISK:
                runs += _turns(bench, server, name, codec, limits, bench.secure, cached=False)
            bench.results.take_turns(bench.scale.rounds, runs)


def _data_set(bench: Bench, name: str) -> PostgresServer:
    directory = bench.directory(name)
    if name == "pgbench":
        return make_pgbench(directory, bench.installation, bench.scale.pgbench_scale)
    return make_realistic(directory, bench.installation, bench.scale.rows)


def _turns(
    bench: Bench,
    server: PostgresServer,
    data: str,
    codec: str,
    limits: Limits,
    store: StoreServer,
    *,
    cached: bool = True,
) -> list[Callable[[], float]]:
    secure = store is bench.secure
    theirs = barman()
    contestants: list[Contestant] = [ours(), *([theirs] if theirs else [])]
    contestants += others(bench.installation.major) if secure else []
    case = f"{data}, {codec}{'' if secure else ', HTTP'}{'' if cached else ', from disk'}"
    return [
        partial(_backup_and_restore, bench, server, contestant, case, codec, limits, store, cached=cached)
        for contestant in contestants
        if codec in contestant.codecs
    ]


def _backup_and_restore(
    bench: Bench,
    server: PostgresServer,
    contestant: Contestant,
    case: str,
    codec: str,
    limits: Limits,
    store: StoreServer,
    *,
    cached: bool,
) -> float:
    """Do both, or only the backup if the data aren't cached, which makes no difference to the restore."""
    place = Place.new(store, bench.directory("contestant"))
    contestant.prepare(server, place, codec, bench.jobs)
    (cache if cached else forget_cached)(server.data)
    size = data_size(server)
    command = contestant.backup(server, place, codec, bench.jobs)
    taken = measure(command.argv, command.environ)
    stored = place.stored_bytes()
    bench.results.add(
        "backup",
        case,
        contestant.name,
        taken,
        _speed(size, taken, stored),
        limits.backup[codec, store.endpoint, cached],
    )
    if not cached:
        place.forget()
        return taken.wall
    limit = limits.restore[codec, store.endpoint]
    restored = _restore(bench, contestant, place)
    bench.results.add("restore", case, contestant.name, restored, _speed(size, restored), limit)
    slowest = max(taken.wall, restored.wall)
    if contestant.name.startswith("Barman"):
        mixed = _restore(bench, ours(), place)
        bench.results.add("restore of Barman's", case, "ours", mixed, _speed(size, mixed))
        bench.results.add("restore of Barman's", case, contestant.name, restored)
    place.forget()
    return slowest


def _restore(bench: Bench, contestant: Contestant, place: Place) -> Usage:
    parent = bench.new_directory("restored")
    command = contestant.restore(place, parent / "data", bench.jobs)
    sync(parent)  # what the store still has to write is no part of the restore
    used = measure(command.argv, command.environ, last=partial(sync, parent))
    discard(parent)
    return used


def _speed(size: int, usage: Usage, stored: int = 0) -> str:
    ratio = f", {size / stored:.1f}:1" if stored else ""
    return f"{size / usage.wall / 2**20:.0f} MiB/s{ratio}"
