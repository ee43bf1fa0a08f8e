"""The figures of a run: medians of repetitions, ratios to ours, a Markdown table and a JSON document."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.meter import Usage

OURS = "ours"
SLOW_SECONDS = 20.0
"""What takes longer than this is measured once."""


@dataclass
class Row:
    """All runs of one contestant in one case of a scenario."""

    scenario: str
    case: str
    contestant: str
    usages: list[Usage] = field(default_factory=list)
    note: str = ""
    limit: float | None = None
    """The seconds that the machine needs at least, if they are known."""

    @property
    def median(self) -> Usage:
        """Medians of wall, CPU and memory, each for itself."""
        return Usage(
            statistics.median(usage.wall for usage in self.usages),
            statistics.median(usage.cpu for usage in self.usages),
            int(statistics.median(usage.memory for usage in self.usages)),
        )


class Results:
    """Rows in the order of their first figure."""

    def __init__(self, description: dict[str, object]) -> None:
        self.description = description
        self.rows: dict[tuple[str, str, str], Row] = {}
        self.failures: list[str] = []

    def add(
        self, scenario: str, case: str, contestant: str, usage: Usage, note: str = "", limit: float | None = None
    ) -> None:
        """Add one run; the last note and limit of a row stand."""
        row = self.rows.setdefault((scenario, case, contestant), Row(scenario, case, contestant))
        row.usages.append(usage)
        row.note, row.limit = note or row.note, limit or row.limit
        memory = f", {usage.memory / 2**20:.0f} MiB" if usage.memory else ""
        print(
            f"{scenario:12} {case:28} {contestant:22} {usage.wall:8.3f} s wall, {usage.cpu:7.3f} s CPU{memory} {note}",
            flush=True,
        )

    def take_turns(self, rounds: int, runs: Sequence[Callable[[], float]]) -> None:
        """Run all of ``runs`` once, then again; a run returns its seconds.

        One that took long isn't repeated, nor is one that fails, which is noted.
        """
        left = list(runs)
        for _ in range(rounds):
            for run in list(left):
                try:
                    seconds = run()
                except RuntimeError as error:
                    self.failures.append(str(error))
                    print(f"FAILED: {error}", flush=True)
                    seconds = math.inf
                if seconds > SLOW_SECONDS:
                    left.remove(run)

    def markdown(self) -> str:
        """Return one table; ``x ours`` is the median wall clock divided by that of ours in the same case."""
        described = [f"{name}: {value}" for name, value in self.description.items()]
        lines = [
            *(f"- {line}" for line in described),
            "",
            "| scenario | case | contestant | runs | wall s | CPU s | memory MiB | x ours | of the limit | |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        failures = [f"\nFailed: `{failure.splitlines()[0]}`" for failure in self.failures]
        return "\n".join([*lines, *map(self._line, self.rows.values()), *failures, ""])

    def _line(self, row: Row) -> str:
        ours = self.rows.get((row.scenario, row.case, OURS))
        median = row.median
        ratio = f"{median.wall / ours.median.wall:.2f}" if ours and ours is not row else ""
        memory = f"{median.memory / 2**20:.0f}" if median.memory else ""
        limit = f"{row.limit / median.wall:.0%}" if row.limit else ""
        cells = [row.scenario, row.case, row.contestant, len(row.usages), f"{median.wall:.3g}", f"{median.cpu:.3g}"]
        return "| " + " | ".join(map(str, [*cells, memory, ratio, limit, row.note])) + " |"

    def write(self, directory: Path) -> None:
        """Write ``results.md`` and ``results.json``."""
        directory.mkdir(exist_ok=True)
        (directory / "results.md").write_text(self.markdown())
        rows = [{**asdict(row), "median": asdict(row.median)} for row in self.rows.values()]
        (directory / "results.json").write_text(
            json.dumps({**self.description, "rows": rows, "failures": self.failures}, indent=1) + "\n"
        )
