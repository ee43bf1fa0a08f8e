"""What the page about reliability names as proof exists, and its figures are those of a run."""

from __future__ import annotations

import ast
import re
from datetime import date
from pathlib import Path

import pytest
from scripts.reliability import BEGIN, END, PAGE, figures, with_figures

TESTS = Path(__file__).parent.parent
NAMED = re.compile(r"`((?:[a-z_]+/)+test_[a-z_]+\.py)(?:::([A-Za-z_]+))?`")
ROW = re.compile(r"^\| (?!promise|disturbance|---)(.+?) \| (.+) \|$", re.MULTILINE)


def functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 50
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (TESTS / file).exists() or (name and name not in functions(TESTS / file))
    ]
    assert missing == []


def test_every_promise_names_a_test() -> None:
    promises = PAGE.read_text().partition("## The last long run")[0]
    rows = ROW.findall(promises)
    assert len(rows) > 20
    assert [promise for promise, proof in rows if not NAMED.search(proof)] == []


def test_the_page_has_the_figures_of_a_run() -> None:
    text = PAGE.read_text()
    shown = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert re.match(r"Seed \d+, \d+ minutes on \d+ processors, \d{4}-\d\d-\d\d:\n", shown)
    assert re.search(r"^\| kills \| \d+ \|$", shown, re.MULTILINE)


def test_figures_tell_what_did_not_hold() -> None:
    report = {"seed": 7, "seconds": 601, "processors": 2, "cases": {"wire faults": 3, "kills": 4}, "findings": []}
    text = figures(report, date(2026, 11, 28))
    assert text.startswith("Seed 7, 10 minutes on 2 processors, 2026-11-28:\n")
    assert "| kills | 4 |\n| wire faults | 3 |\n| all | 7 |" in text
    assert text.endswith("Everything held.\n")
    counted = figures({**report, "compared_bytes": 3 << 20}, date(2026, 11, 28), 12000)
    assert "3.0 MiB of WAL and of restored files were compared" in counted
    assert "fed 12,000 hostile inputs" in counted
    bad = {**report, "findings": [{"case": "restore/main/KILL/3", "problems": ["one", "two"]}]}
    assert "In 1 of them something didn't hold" in figures(bad, date(2026, 11, 28))
    assert "* `restore/main/KILL/3`: one / two" in figures(bad, date(2026, 11, 28))
    assert with_figures(f"a\n{BEGIN}old\n{END}b\n", "new\n") == f"a\n{BEGIN}new\n{END}b\n"
    with pytest.raises(ValueError, match="substring"):
        with_figures("a", "new")
