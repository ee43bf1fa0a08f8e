"""What earlier runs have seen: a mutant that was noticed is run again only when its file or its tests have changed.

It is kept in ``.mutants.json``; ``--fresh`` doesn't look at it. Changes of anything else (fixtures, other modules)
aren't seen, so a score that is published is best that of a fresh run.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress

from tests.mutants.mutant import ROOT, Mutant

_FILE = ROOT / ".mutants.json"


def key(mutant: Mutant) -> str:
    """Return a digest of the mutant, the file that it changes and its tests."""
    files = [mutant.path, *(f"tests/{test.partition('::')[0]}" for test in mutant.tests)]
    parts = [mutant.old, mutant.new, *mutant.tests, *((ROOT / file).read_text() for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load() -> set[str]:
    """Return the keys of the mutants that were noticed."""
    with suppress(OSError, ValueError):
        return set(json.loads(_FILE.read_text()))
    return set()


def add(mutant: Mutant) -> None:
    """Remember a mutant that was noticed."""
    _FILE.write_text(json.dumps(sorted(load() | {key(mutant)})) + "\n")
