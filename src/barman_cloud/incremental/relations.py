"""From a path below PGDATA to the relation that the file belongs to (PostgreSQL docs, 66.1, "Database File Layout")."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MAIN: Final = 0
FSM: Final = 1
VISIBILITY_MAP: Final = 2
INIT: Final = 3

DEFAULT_TABLESPACE: Final = 1663
GLOBAL_TABLESPACE: Final = 1664

_FORKS: Final = {None: MAIN, "fsm": FSM, "vm": VISIBILITY_MAP, "init": INIT}
_FILE: Final = r"(?P<relation>[1-9]\d*)(?:_(?P<fork>fsm|vm|init))?(?:\.(?P<segment>[1-9]\d*))?"
_PLACES: Final = re.compile(
    rf"(?a)(?:(?P<global>global)|base/(?P<database>[1-9]\d*)|pg_tblspc/(?P<tablespace>[1-9]\d*)/PG_[^/]+/(?P<own>[1-9]\d*))/{_FILE}"
)


class RelationFork(NamedTuple):
    """One fork of a relation, as WAL summaries name it."""

    tablespace: int
    database: int
    """0 for shared relations."""
    relation: int
    """The relation's file number."""
    fork: int


class RelationFile(NamedTuple):
    """One file of a fork."""

    fork: RelationFork
    segment: int
    """Number of the 1 GiB file."""


def parse(path: str) -> RelationFile | None:
    """Return which relation file ``path`` (relative to PGDATA) is, or None if it isn't one."""
    found = _PLACES.fullmatch(path)
    if found is None:
        return None
    if found["global"]:
        tablespace, database = GLOBAL_TABLESPACE, 0
    elif found["database"]:
        tablespace, database = DEFAULT_TABLESPACE, int(found["database"])
    else:
        tablespace, database = int(found["tablespace"]), int(found["own"])
    fork = RelationFork(tablespace, database, int(found["relation"]), _FORKS[found["fork"]])
    return RelationFile(fork, int(found["segment"] or 0))
