"""Print the tables of README.md from ``results/results.json``: ``python -m benchmarks.tables``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.results import OURS

RESULTS = Path(__file__).parent / "results" / "results.json"
PEERS = ("Barman", "pgBackRest", "WAL-G")
SIDE_BY_SIDE = ("backup", "restore", "restore of Barman's", "50 MB/s each")
WAL = ("wal-archive", "recovery")

_Row: TypeAlias = dict[str, Any]


def main() -> None:
    """Print a table of bulk transfers, one of WAL and one of the machine's limits, and what failed."""
    found = json.loads(RESULTS.read_text())
    rows: list[_Row] = found["rows"]
    peers = [peer for peer in PEERS if any(row["contestant"].startswith(peer) for row in rows)]
    cases: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        if row["scenario"] in SIDE_BY_SIDE:
            cases.setdefault((row["scenario"], row["case"]), []).append(row)
    bulk = [
        [f"{scenario}: {case}", *_cells(measured, (OURS, *peers)), *_limits(measured)]
        for (scenario, case), measured in cases.items()
    ]
    wal = [
        [f"{row['scenario']}: {row['case']}", row["contestant"], _cell(row, None), row["note"]]
        for row in rows
        if row["scenario"] in WAL
    ]
    limits = [[row["case"], _cell(row, None), row["note"]] for row in rows if row["scenario"] == "limits"]
    _print(["", OURS, *peers, "of the limit", "Barman / limit"], bulk)
    _print(["", "", "wall / CPU / MiB", ""], wal)
    _print(["", "wall / CPU", ""], limits)
    for failure in found["failures"]:
        print(f"Failed: {failure.splitlines()[0]}")


def _print(head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    if lines:
        for line in (head, ["---"] * len(head), *lines):
            print(f"| {' | '.join(line)} |")
        print()


def _cells(measured: Sequence[_Row], contestants: Sequence[str]) -> list[str]:
    ours = _of(measured, OURS)
    return [_cell(_of(measured, contestant), ours) for contestant in contestants]


def _of(measured: Sequence[_Row], contestant: str) -> _Row | None:
    return next((row for row in measured if row["contestant"].startswith(contestant)), None)


def _cell(row: _Row | None, ours: _Row | None) -> str:
    """Return seconds, MiB, how much data that was for each stored byte, and how many times as long as ours."""
    if row is None:
        return ""
    median = row["median"]
    shown = f"{_seconds(median['wall'])} / {_seconds(median['cpu'])}"
    if row["scenario"] != "limits":
        shown += f" / {median['memory'] / 2**20:.0f}"
    ratio = row["note"].rpartition(", ")[2]
    if ratio.endswith(":1"):
        shown += f", {ratio}"
    if ours is None or ours is row:
        return shown
    return f"{shown} (**{median['wall'] / ours['median']['wall']:.1f}**)"


def _limits(measured: Sequence[_Row]) -> list[str]:
    """Return how near ours came to the machine's limit, and how many times as long as that limit Barman took."""
    ours, barman = _of(measured, OURS), _of(measured, "Barman")
    if ours is None or not ours["limit"]:
        return ["", ""]
    limit = ours["limit"]
    return [f"{limit / ours['median']['wall']:.0%}", f"{barman['median']['wall'] / limit:.1f}" if barman else ""]


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 20 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


if __name__ == "__main__":
    main()
