"""Incremental backups: what an increment stores and takes for a change rate, and what the restore of a chain costs.

A share of the blocks is changed by locking one row in each of them, evenly spread: that changes these blocks and no
others, and is the worst case for everything that is faster on neighbours. ``--write`` puts the two tables into
``docs/explanation/incrementals.md``.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.installations import Installation, newest_installation
from tests.support.peers import find_barman
from tests.support.postgres import PostgresServer
from tests.support.servers import StoreServer

from benchmarks.chain_tools import Barman, Deltas, Ours, PostgresTools, Rest, Tool
from benchmarks.contestants import newest_for_pgbackrest, pgbackrest, wal_g
from benchmarks.data import data_size, make_realistic
from benchmarks.disk import cache, discard, sync
from benchmarks.meter import Usage, measure
from benchmarks.page import INCREMENTALS, write_table
from benchmarks.setting import Bench, Command

_SCENARIO = "chains"
_BLOCK = 8192
_INCREMENTS = 6
_RATE = 0.02
_RATES = (0.001, 0.01, 0.02, 0.1, 0.5)
_SETTINGS = {"wal_level": "replica", "max_wal_size": "8GB"}
_SUMMARIES_SINCE = 17


@dataclass
class Rates:
    """What one method stored (bytes) and took (seconds): of the full backup, then of an increment of each rate."""

    method: str
    figures: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class ChainFigures:
    """What a full backup, the mean of six increments, and the restore of the full one and of the last one cost."""

    major: int
    tool: str
    stored: tuple[int, int]
    taken: tuple[Usage, Usage]
    restored: tuple[Usage, Usage]


def run(bench: Bench) -> None:
    """Measure on the newest PostgreSQL, and once more on the newest that pgBackRest knows, if that is another one."""
    rates: list[Rates] = []
    chains: list[ChainFigures] = []
    newest = newest_installation()
    lines = [f"PostgreSQL {newest.version}"]
    size = _measure(bench, newest, rates, chains)
    if bench.installation.major != newest.major:
        _measure(bench, bench.installation, [], chains)
        lines.append(f"and {bench.installation.version}")
    if bench.write:
        told = f"{size / 2**20:.0f} MiB of orders with their indexes, {' '.join(lines)}, zstd, {bench.described}."
        write_table("rates", [told, "", *rates_table(rates)], INCREMENTALS)
        write_table("chains", [told, "", *chains_table(chains)], INCREMENTALS)


def _measure(bench: Bench, installation: Installation, rates: list[Rates], chains: list[ChainFigures]) -> int:
    """Add the figures of one PostgreSQL; returns the bytes of its cluster.

    Servers before 17 have no WAL summaries: there the LSNs of the pages tell what changed, and neither
    ``pg_combinebackup`` nor Barman takes part.
    """
    summaries = installation.major >= _SUMMARIES_SINCE
    server = make_realistic(bench.directory(f"chains-{installation.major}"), installation, bench.scale.rows // 2)
    with server:
        server.configure(**_SETTINGS, **({"summarize_wal": "on"} if summaries else {"wal_log_hints": "on"}))
        server.restart()
        server.archive_with("true")  # neither Barman's server nor pgBackRest backs up one that doesn't archive
        size = data_size(server)
        for method in ("stream", "files") if summaries else ("files",):
            bench.results.take_turns(1, [partial(_rates, bench, server, method, rates)])
        makers = list(_tools(bench, server))
        bench.results.take_turns(1, [partial(_chain, bench, server, make, chains) for make in makers])
    shutil.rmtree(server.data, ignore_errors=True)
    return size


def _tools(bench: Bench, server: PostgresServer) -> Iterator[Callable[[], Tool]]:
    major = server.installation.major
    program = shutil.which("pgbackrest")
    rest = pgbackrest(program) if program and newest_for_pgbackrest(program) >= major else None
    if major >= _SUMMARIES_SINCE:
        yield partial(Ours, bench, server, "stream")
    if major < _SUMMARIES_SINCE or rest:
        store: StoreServer = bench.secure if rest else bench.plain  # pgBackRest speaks TLS only
        yield partial(Ours, bench, server, "files", store)
    if major >= _SUMMARIES_SINCE:
        yield partial(PostgresTools, bench, server)
        if find_barman():
            yield partial(Barman, bench, server)
    if rest:
        yield partial(Rest, bench, server, rest)
    for found in wal_g(_INCREMENTS):
        yield partial(Deltas, bench, server, found)


def _rates(bench: Bench, server: PostgresServer, method: str, rates: list[Rates]) -> float:
    """Take a full backup, and one increment after another, each of one rate."""
    ours = Ours(bench, server, method)
    found = Rates(method)
    cache(server.data)
    ours.take(None)
    full = ours.place.stored_bytes()
    found.figures.append((full, ours.last.wall))
    _add(bench, server, "full", ours.name, ours.last, _stored(full))
    for rate in _RATES:
        change(server, rate)
        before = ours.place.stored_bytes()
        ours.take("latest")
        stored = ours.place.stored_bytes() - before
        found.figures.append((stored, ours.last.wall))
        note = f"{_stored(stored)}, {stored / full:.1%} of the full's"
        _add(bench, server, f"increment of {rate:.1%}", ours.name, ours.last, note)
    ours.place.forget()
    rates.append(found)
    return 0.0


def _chain(bench: Bench, server: PostgresServer, make: Callable[[], Tool], chains: list[ChainFigures]) -> float:
    """Take a full backup and six increments of 2 %; restore the full one, then the last one."""
    tool = make()
    cache(server.data)
    tool.take(None)
    taken, stored = tool.last, tool.place.stored_bytes()
    _add(bench, server, "full", tool.name, taken, _stored(stored))
    alone = [_restore(bench, tool.restore("latest")) for _ in range(bench.scale.rounds)]
    for used in alone:
        _add(bench, server, "restore of the full", tool.name, used)
    increments: list[Usage] = []
    for _ in range(_INCREMENTS):
        change(server, _RATE)
        tool.take("latest")
        increments.append(tool.last)
    mean = Usage(
        statistics.mean(usage.wall for usage in increments),
        statistics.mean(usage.cpu for usage in increments),
        max(usage.memory for usage in increments),
    )
    each = (tool.place.stored_bytes() - stored) // _INCREMENTS
    _add(bench, server, f"increment of {_RATE:.0%}, mean of {_INCREMENTS}", tool.name, mean, _stored(each))
    whole = [_restore(bench, tool.restore("latest")) for _ in range(bench.scale.rounds)]
    ratio = _median(whole).wall / _median(alone).wall
    for used in whole:
        _add(
            bench, server, f"restore of the full and {_INCREMENTS}", tool.name, used, f"{ratio:.2f} x that of the full"
        )
    restored = _median(alone), _median(whole)
    chains.append(ChainFigures(server.installation.major, tool.name, (stored, each), (taken, mean), restored))
    tool.place.forget()
    return 0.0


def change(server: PostgresServer, rate: float) -> None:
    """Change that share of the cluster's blocks, in the large tables, and write them out."""
    wanted = int(rate * data_size(server) / _BLOCK)
    sizes = server.query(
        "SELECT c.oid::regclass::text, pg_relation_size(c.oid) / 8192"
        " FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'orders'::regclass AND c.relkind = 'r'"
    )
    every = max(1, sum(blocks for _, blocks in sizes) // max(1, wanted))
    for table, blocks in sizes:
        server.query(
            f"SELECT count(*) FROM (SELECT 1 FROM {table} WHERE ctid = ANY (ARRAY("
            f"SELECT format('(%s,1)', block)::tid FROM generate_series(0, {blocks - 1}, {every}) block)) FOR UPDATE) _"
        )
    server.query("CHECKPOINT")


def rates_table(rates: list[Rates]) -> list[str]:
    """Return the table of increments by change rate."""
    head = "".join(f" stored, `{found.method}` | taken, `{found.method}` |" for found in rates)
    lines = [f"| changed since the parent |{head}", f"| --- |{' --- | --- |' * len(rates)}"]
    for number, name in enumerate(["all (a full backup)", *(f"{rate * 100:g} %" for rate in _RATES)]):
        line = f"| {name} |"
        for found in rates:
            stored, seconds = found.figures[number]
            share = "" if number == 0 else f", {stored / found.figures[0][0] * 100:.1f} %"
            line += f" {_mebibytes(stored)}{share} | {seconds:.1f} s |"
        lines.append(line)
    return lines


def chains_table(chains: list[ChainFigures]) -> list[str]:
    """Return the table of chains, one line for each tool."""
    lines = [
        "| PostgreSQL | | full: stored, taken | increment of 2 %: stored, taken | restore of the full | and of six "
        "increments: wall / CPU s / MiB | times the full's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in chains:
        (full, each), (taken, mean), (alone, whole) = found.stored, found.taken, found.restored
        lines.append(
            f"| {found.major} | {found.tool} | {_mebibytes(full)}, {taken.wall:.1f} s"
            f" | {_mebibytes(each)}, {mean.wall:.1f} s | {alone.wall:.1f} s"
            f" | {whole.wall:.1f} / {whole.cpu:.1f} / {whole.memory / 2**20:.0f} | {whole.wall / alone.wall:.2f} |"
        )
    return lines


def _median(usages: list[Usage]) -> Usage:
    return Usage(
        statistics.median(usage.wall for usage in usages),
        statistics.median(usage.cpu for usage in usages),
        max(usage.memory for usage in usages),
    )


def _restore(bench: Bench, make: Callable[[Path], Command]) -> Usage:
    parent = bench.new_directory("restored")
    command = make(parent / "data")
    sync(parent)
    used = measure(command.argv, command.environ, last=partial(sync, parent))
    discard(parent)
    return used


def _add(bench: Bench, server: PostgresServer, case: str, contestant: str, used: Usage, note: str = "") -> None:
    bench.results.add(_SCENARIO, f"{server.installation.major}: {case}", contestant, used, note)


def _stored(stored: int) -> str:
    return f"{_mebibytes(stored)} stored"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size < 10 << 20 else f"{size / 2**20:.0f} MiB"
