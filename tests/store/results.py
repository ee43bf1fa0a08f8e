"""What a run of the suite on one store found, as JSON: the answers of the store, and how the tests ended.

The files beside this module are the record that ``docs/reference/stores.md`` is made from (``scripts/store_table.py``).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.store.answers import Answers

RESULTS = Path(__file__).parent / "results"

_passed: set[str] = set()
_failed: set[str] = set()
_skipped: dict[str, str] = {}


def note(report: pytest.TestReport) -> None:
    """Note one report of one phase of a test."""
    name = report.nodeid.partition("::")[2]
    if report.failed:
        _failed.add(name)
    elif report.skipped:
        _skipped[name] = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
    elif report.when == "call":
        _passed.add(name)


def write(path: Path, answers: Answers) -> None:
    """Write the record of the run that ends."""
    found = {
        "answers": asdict(answers),
        "passed": len(_passed - _failed),
        "skipped": dict(sorted(Counter(_skipped.values()).items())),
        "failed": sorted(_failed),
    }
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def read(name: str) -> dict[str, Any]:
    """Return the record of one store."""
    recorded: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return recorded
