"""The physical replication slot that makes the server keep WAL until it was received."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from barman_cloud import logs
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import Connection, first_line
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.replication.session import ReplicationSession
from barman_cloud.replication.wal_stream import quoted

log = logs.get_logger(__name__)

_LOOK = (
    "SELECT slot_type, active_pid, restart_lsn::pg_catalog.text, wal_status"
    " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
)


@dataclass(frozen=True, slots=True)
class Slot:
    """What the server says of a slot."""

    name: str
    is_physical: bool
    active_pid: int | None
    restart_lsn: int | None
    """From where on WAL is kept; None: nothing was reserved yet, or the slot is invalidated."""
    is_lost: bool
    """``max_slot_wal_keep_size`` took WAL away that the slot should have kept."""


def look_at(connection: Connection, name: str) -> Slot | None:
    """Return what the server says of the slot ``name``; None if it has none of that name."""
    try:
        row = connection.execute(_LOOK, (name,)).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"cannot read pg_replication_slots: {first_line(error)}") from error
    if row is None:
        return None
    kind, pid, restart, status = row
    return Slot(name, kind == "physical", pid, parse_lsn(restart) if restart else None, status == "lost")


def create(session: ReplicationSession, name: str) -> None:
    """Create the slot; it keeps WAL from now on."""
    session.query(f"CREATE_REPLICATION_SLOT {quoted(name)} PHYSICAL RESERVE_WAL")
    log.info("created the replication slot %s", name)


def drop(session: ReplicationSession, name: str) -> None:
    """Drop the slot."""
    session.query(f"DROP_REPLICATION_SLOT {quoted(name)}")
    log.info("dropped the replication slot %s", name)


def require_usable(slot: Slot | None, name: str) -> Slot:
    """Return ``slot`` if a receiver can use it; ``OperationError`` says why not. It may still be in use."""
    if slot is None:
        raise OperationError(
            f"there is no replication slot {name} on the server", hint="--create-slot creates it if it is missing"
        )
    if not slot.is_physical:
        raise OperationError(
            f"replication slot {name} is a logical one", hint="name a physical slot with --slot, or another name"
        )
    return slot
