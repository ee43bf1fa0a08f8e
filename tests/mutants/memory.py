"""What earlier runs have seen, so that a run can be made in pieces: see ``--minutes``.

A mutant is run again only when its file or its tests have changed; a test is held against the unchanged source again
when it or anything in the source has. It is kept in ``.mutants.json``; ``--fresh`` doesn't look at it. Changes of
anything else (fixtures, and for a mutant other modules) aren't seen, so a score that is published is best that of a
fresh run.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache

from tests.mutants.mutant import PACKAGE, ROOT, Mutant

_FILE = ROOT / ".mutants.json"


def key(mutant: Mutant) -> str:
    """Return a digest of the mutant, the file that it changes and its tests."""
    files = [mutant.path, *(f"tests/{test.partition('::')[0]}" for test in mutant.tests)]
    return _digest(mutant.old, mutant.new, *mutant.tests, *((ROOT / file).read_text() for file in files))


def key_of_test(test: str) -> str:
    """Return a digest of a test and the unchanged source."""
    return _digest(test, (ROOT / "tests" / test.partition("::")[0]).read_text(), _digest_of_source())


def load() -> dict[str, str]:
    """Return what happened, by the keys of mutants and tests: how a mutant was noticed, or "" if it wasn't."""
    with suppress(OSError, ValueError):
        return dict(json.loads(_FILE.read_text()))
    return {}


def add(found: str, how: str) -> None:
    """Remember what happened to a mutant or a test, by its key."""
    text = json.dumps(load() | {found: how}, indent=0, sort_keys=True)
    fresh = _FILE.with_suffix(".new")
    fresh.write_text(f"{text}\n")
    fresh.replace(_FILE)


@cache
def _digest_of_source() -> str:
    return _digest(*(file.read_text() for file in sorted((ROOT / PACKAGE).rglob("*.py"))))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
