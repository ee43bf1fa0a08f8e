"""Modules and functions are small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import barman_cloud

SOURCES = Path(barman_cloud.__file__).parent
TESTS = Path(__file__).parent.parent
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60


@pytest.mark.parametrize("directory", [SOURCES, TESTS], ids=["src", "tests"])
def test_no_module_is_longer_than_400_lines(directory: Path) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in directory.rglob("*.py")}
    assert len(lengths) > 100
    assert {str(path): length for path, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    lengths = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 1000
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}
