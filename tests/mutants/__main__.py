"""``python -m tests.mutants``: makes every mistake of the table, and tells which of them the tests notice."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.mutants import memory, page
from tests.mutants.mutant import Copy, Mutant
from tests.mutants.runner import FAILED, PASSED, Runner
from tests.mutants.table import MUTANTS

_LONGEST = 90.0
"""Seconds for the tests of one mutant; one that hangs is noticed as well."""


def main() -> int:
    """Return 0 if every mutant was noticed or is excused, 1 otherwise, 2 if that can't be told."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="mutants whose file or harm has this text")
    parser.add_argument("--minutes", type=float, help="end after this time; the next run goes on where this one ended")
    parser.add_argument("--write", action="store_true", help="write the score into docs/explanation/testing.md")
    parser.add_argument("--fresh", action="store_true", help="also run those whose source and tests haven't changed")
    parser.add_argument("--no-baseline", action="store_true", help="don't run the tests on the unchanged source first")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.only or any(text in f"{m.file} {m.harm}" for text in options.only)]
    keys = {mutant: memory.key(mutant) for mutant in chosen}
    known = {} if options.fresh else memory.load()
    todo = [mutant for mutant in chosen if keys[mutant] not in known]
    print(f"{len(chosen)} mutants, {len(chosen) - len(todo)} of them run before with the same tests", flush=True)
    noticed = {mutant: bool(known[keys[mutant]]) for mutant in chosen if keys[mutant] in known}
    end = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    with _runner() as (runner, copy):
        if not options.no_baseline and not _passes_unchanged(runner, todo, known, end):
            return 2
        for mutant in todo:
            if time.monotonic() > end:
                break
            noticed[mutant] = _is_noticed(runner, copy, mutant)
    missed = [mutant for mutant, seen in noticed.items() if not seen and not mutant.excuse]
    explained = len(noticed) - sum(noticed.values()) - len(missed)
    print(f"{sum(noticed.values())} of {len(noticed)} noticed, {explained} explained, {len(missed)} missed")
    for mutant in missed:
        print(f"missed: {mutant}")
    if left := len(chosen) - len(noticed):
        print(f"{left} mutants are left for the next run")
        return 2
    if options.write:
        page.write({mutant: noticed[mutant] for mutant in chosen})
    return 1 if missed else 0


@contextmanager
def _runner() -> Iterator[tuple[Runner, Copy]]:
    directory = Path(tempfile.mkdtemp(prefix="mutants-"))
    directory.chmod(0o755)  # tests run programs as other users, too
    try:
        copy = Copy(directory)
        yield Runner(copy.source, directory), copy
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _passes_unchanged(runner: Runner, mutants: Sequence[Mutant], known: Mapping[str, str], end: float) -> bool:
    """Tell whether the tests pass without any mistake: otherwise a failure of them says nothing."""
    tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
    for test in tests:
        if (key := memory.key_of_test(test)) in known:
            continue
        if time.monotonic() > end:
            print("there was no time for all tests on the unchanged source; the next run goes on with them")
            return False
        code, seconds = runner.run([test], _LONGEST)
        if code != PASSED:
            print(f"{test} fails on the unchanged source ({code}):\n{runner.log.read_text()[-3000:]}", file=sys.stderr)
            return False
        memory.add(key, "passes")
        print(f"unchanged {seconds:5.1f} s  {test}", flush=True)
    return True


def _is_noticed(runner: Runner, copy: Copy, mutant: Mutant) -> bool:
    """Run the tests of a mutant, one file after the other, until one notices it."""
    total, how = 0.0, ""
    key = memory.key(mutant)
    with copy.with_mistake(mutant):
        for test in mutant.tests:
            code, seconds = runner.run([test], _LONGEST)
            total += seconds
            if code != PASSED:
                how = _reason(code, runner.log.read_text(errors="replace"))
                break
    memory.add(key, how)
    said = "noticed " if how else "SURVIVED"
    print(f"{said} {total:5.1f} s  {mutant}  [{how or 'all tests passed'}]", flush=True)
    return bool(how)


def _reason(code: int | None, output: str) -> str:
    if code is None:
        return f"no end within {_LONGEST:.0f} s"
    lines = [line for line in output.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
    if code == FAILED and lines:
        return lines[0]
    return f"exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
