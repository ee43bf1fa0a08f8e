"""``python -m tests.mutants``: makes every mistake of the table, and tells which of them the tests notice."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants import memory, page
from tests.mutants.mutant import Copy, Mutant
from tests.mutants.runner import FAILED, PASSED, Runner
from tests.mutants.table import MUTANTS

_LONGEST = 90.0
"""Seconds for the tests of one mutant; one that hangs is noticed as well."""


@dataclass(frozen=True)
class Result:
    """What became of one mutant."""

    mutant: Mutant
    noticed: bool
    seconds: float
    how: str
    """The line of pytest's summary, or why there is none."""


def main() -> int:
    """Return 0 if every mutant was noticed or is excused, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="mutants whose file or harm has this text")
    parser.add_argument("--write", action="store_true", help="write the score into docs/explanation/testing.md")
    parser.add_argument("--fresh", action="store_true", help="also run those whose source and tests haven't changed")
    parser.add_argument("--no-baseline", action="store_true", help="don't run the tests on the unchanged source first")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.only or any(text in f"{m.file} {m.harm}" for text in options.only)]
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="mutants-"))
    directory.chmod(0o755)  # tests run programs as other users, too
    try:
        copy = Copy(directory)
        runner = Runner(copy.source, directory)
        known = set() if options.fresh else memory.load()
        todo = [mutant for mutant in chosen if memory.key(mutant) not in known]
        print(f"{len(chosen)} mutants, {len(chosen) - len(todo)} of them noticed before by the same tests", flush=True)
        if not options.no_baseline and not _passes_unchanged(runner, todo):
            return 2
        results = [_judge(runner, copy, mutant) for mutant in todo]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    survivors = [result.mutant for result in results if not result.noticed]
    missed = [mutant for mutant in survivors if not mutant.excuse]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} noticed, {len(survivors) - len(missed)} explained, "
          f"{len(missed)} missed, in {time.monotonic() - began:.0f} s")  # fmt: skip
    for mutant in missed:
        print(f"missed: {mutant}")
    if options.write:
        page.write({mutant: mutant not in survivors for mutant in chosen})
    return 1 if missed else 0


def _passes_unchanged(runner: Runner, mutants: Sequence[Mutant]) -> bool:
    """Tell whether the tests pass without any mistake: otherwise a failure of them says nothing."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    for test in tests:
        code, seconds = runner.run([test], _LONGEST)
        if code != PASSED:
            print(f"{test} fails on the unchanged source ({code}):\n{runner.log.read_text()[-3000:]}", file=sys.stderr)
            return False
        print(f"unchanged {seconds:5.1f} s  {test}", flush=True)
    return True


def _judge(runner: Runner, copy: Copy, mutant: Mutant) -> Result:
    """Run the tests of a mutant, one file after the other, until one notices it."""
    total, how = 0.0, "all tests passed"
    noticed = False
    with copy.with_mistake(mutant):
        for test in mutant.tests:
            code, seconds = runner.run([test], _LONGEST)
            total += seconds
            if code != PASSED:
                noticed = True
                how = _reason(code, runner.log.read_text(errors="replace"))
                memory.add(mutant)
                break
    print(f"{'noticed ' if noticed else 'SURVIVED'} {total:5.1f} s  {mutant}  [{how}]", flush=True)
    return Result(mutant, noticed, total, how)


def _reason(code: int | None, output: str) -> str:
    if code is None:
        return f"no end within {_LONGEST:.0f} s"
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    if code == FAILED and lines:
        return lines[0]
    return f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
