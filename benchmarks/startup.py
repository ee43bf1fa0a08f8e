"""What each command needs to start: ``--version`` and ``--help``, ours and Barman's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.support.peers import find_barman, our_commands
from tests.support.postgres import command_environment

from benchmarks.meter import measure
from benchmarks.setting import Bench

COMMANDS = (
    "backup",
    "backup-delete",
    "backup-keep",
    "backup-list",
    "backup-show",
    "check-wal-archive",
    "restore",
    "wal-archive",
    "wal-restore",
)


def run(bench: Bench) -> None:
    """Start every command a few times."""
    peer = find_barman()
    contestants = {"ours": our_commands()}
    if peer:
        contestants[f"Barman {'.'.join(map(str, peer.version))}"] = peer
    runs: list[Callable[[], float]] = [
        partial(_start, bench, f"barman-cloud-{command}", name, commands.bin)
        for command in COMMANDS
        for name, commands in contestants.items()
    ]
    bench.results.take_turns(bench.scale.start_rounds, runs)


def _start(bench: Bench, command: str, name: str, directory: Path) -> float:
    used = measure([str(directory / command), "--version"], command_environment())
    bench.results.add("start-up", f"{command} --version", name, used)
    return used.wall
