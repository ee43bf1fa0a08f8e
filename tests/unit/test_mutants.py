"""The table of mutants fits the source, so that ``make mutants`` changes what it means to change."""

from __future__ import annotations

import ast
from collections import Counter

from tests.mutants.mutant import ROOT
from tests.mutants.table import MUTANTS


def test_every_mutant_changes_one_place_to_another_program() -> None:
    wrong = []
    for mutant in MUTANTS:
        text = (ROOT / mutant.path).read_text()
        try:
            ast.parse(mutant.applied(text))
        except (ValueError, SyntaxError) as error:
            wrong.append(f"{mutant.file}: {mutant.harm}: {error}")
        if mutant.old.split() == mutant.new.split():
            wrong.append(f"{mutant.file}: {mutant.harm}: it changes nothing")
    assert not wrong, "\n".join(wrong)


def test_each_is_there_once_and_has_tests() -> None:
    counts = Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS)
    assert [found for found, count in counts.items() if count > 1] == []
    tests = {test.partition("::")[0] for mutant in MUTANTS for test in mutant.tests}
    assert [test for test in sorted(tests) if not (ROOT / "tests" / test).is_file()] == []
    assert all(mutant.harm for mutant in MUTANTS)


def test_there_are_enough_of_them() -> None:
    assert len(MUTANTS) >= 100
    assert sum(1 for mutant in MUTANTS if mutant.excuse) * 20 <= len(MUTANTS), "what survives has to stay rare"
    for package in ("catalog/", "wal/", "restore/", "postgres/", "store/local.py"):
        assert sum(mutant.file.startswith(package) for mutant in MUTANTS) >= 10, package
