"""All mutants. Each table is in the order of the files' names."""

from __future__ import annotations

from tests.mutants.mutant import Mutant
from tests.mutants.table import (
    catalog,
    deletion,
    elsewhere,
    postgres,
    receiver,
    recovery,
    restore,
    restore_files,
    spools,
    store,
    wal,
)

MUTANTS: tuple[Mutant, ...] = (
    *catalog.MUTANTS,
    *deletion.MUTANTS,
    *postgres.MUTANTS,
    *receiver.MUTANTS,
    *recovery.MUTANTS,
    *restore.MUTANTS,
    *restore_files.MUTANTS,
    *spools.MUTANTS,
    *store.MUTANTS,
    *wal.MUTANTS,
    *elsewhere.MUTANTS,
)
