"""Print the tables of README.md from ``results/results.json``: ``python -m benchmarks.tables``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.results import OURS

RESULTS = Path(__file__).parent / "results" / "results.json"
PEERS = ("Barman", "pgBackRest", "WAL-G")
SIDE_BY_SIDE = ("backup", "restore", "restore of Barman's", "50 MB/s each")


def main() -> None:
    """Print all three, for the scenarios that were run."""
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"]
    peers = [peer for peer in PEERS if any(row["contestant"].startswith(peer) for row in rows)]
    print("| | ours | " + " | ".join(peers) + " | of the limit |\n" + "|---" * (len(peers) + 3) + "|")
    cases: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        cases.setdefault((row["scenario"], row["case"]), []).append(row)
    for (scenario, case), measured in cases.items():
        if scenario in SIDE_BY_SIDE:
            cells = [_cell(_of(measured, name), _of(measured, OURS)) for name in (OURS, *peers)]
            print(f"| {scenario}: {case} | " + " | ".join([*cells, _of_the_limit(_of(measured, OURS))]) + " |")
    print("\n| | | wall / CPU / MiB | |\n|---|---|---|---|")
    for row in rows:
        if row["scenario"] in ("wal-archive", "recovery"):
            print(f"| {row['scenario']}: {row['case']} | {row['contestant']} | {_cell(row, None)} | {row['note']} |")
    print("\n| | wall / CPU | |\n|---|---|---|")
    for row in rows:
        if row["scenario"] == "limits":
            print(f"| {row['case']} | {_cell(row, None)} | {row['note']} |")


def _of(measured: list[dict[str, Any]], contestant: str) -> dict[str, Any] | None:
    return next((row for row in measured if row["contestant"].startswith(contestant)), None)


def _cell(row: dict[str, Any] | None, ours: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    median = row["median"]
    shown = f"{_seconds(median['wall'])} / {_seconds(median['cpu'])}"
    if row["scenario"] != "limits":
        shown += f" / {median['memory'] >> 20}"
    if ours is None or ours is row:
        return shown
    return f"{shown} (**{median['wall'] / ours['median']['wall']:.1f}**)"


def _of_the_limit(row: dict[str, Any] | None) -> str:
    return f"{row['limit'] / row['median']['wall']:.0%}" if row and row["limit"] else ""


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 20 else f"{value:.3g}"


if __name__ == "__main__":
    main()
