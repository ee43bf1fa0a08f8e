"""The PostgreSQL side of ``wal-receive``: a connection, who answers on it, and which of its refusals are final."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import ConfigurationError, OperationError
from barman_cloud.postgres.connection import ConnectionParameters, connect, connection_arguments, read_system_identifier
from barman_cloud.postgres.timeline import history_name, parse_history
from barman_cloud.replication import slots
from barman_cloud.replication.refusals import require_streaming
from barman_cloud.replication.session import ConnectionLostError, ServerRefusal, open_session
from barman_cloud.replication.wal_stream import WalStream, segment_size_of, timeline_history
from barman_cloud.wal.receive_plan import Lineage

if TYPE_CHECKING:
    from barman_cloud.postgres.connection import Connection
    from barman_cloud.replication.session import ReplicationSession
    from barman_cloud.replication.slots import Slot

log = logs.get_logger(__name__)

APPLICATION_NAME = "barman_cloud_receive"
REMOVED = "58P01"
"""SQLSTATE of WAL that the server no longer has (``undefined_file``)."""
_IN_USE = "55006"
_MAY_PASS = ("57P", "53", "08", _IN_USE)
"""Classes of SQLSTATE of a server that starts, stops, or is short of something."""


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Where WAL comes from."""

    parameters: ConnectionParameters
    streaming_conninfo: str | None = None
    slot: str | None = None
    create_slot: bool = False

    @property
    def application_name(self) -> str:
        """By which the server knows the stream: a connection string may give it another one than ours."""
        if self.streaming_conninfo:
            arguments = connection_arguments(ConnectionParameters(self.streaming_conninfo), APPLICATION_NAME)
            return str(arguments["application_name"])
        return APPLICATION_NAME


class Source:
    """A server that WAL is received from, as long as one connection to it lasts."""

    def __init__(self, options: SourceOptions) -> None:
        """Connect and look at the server and the slot; ``OperationError`` if it can't stream to us."""
        self._options = options
        with _unreachable():
            connection = connect(options.parameters, APPLICATION_NAME)
        with connection as beside:
            require_streaming(beside, same_role=options.streaming_conninfo is None)
            with _unreachable():
                self.session: ReplicationSession = open_session(beside, options.streaming_conninfo, APPLICATION_NAME)
            try:
                self.in_recovery = bool(beside.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() == (True,))
                self.system_identifier = int(read_system_identifier(beside))
                self.slot = self._slot(beside) if options.slot else None
                self._identify()
            except BaseException:
                self.session.close()
                raise

    def _identify(self) -> None:
        identity = self.session.identify()
        self.flush_lsn = identity.flush_lsn
        self.history_content = timeline_history(self.session, identity.timeline)
        history = parse_history(self.history_content, identity.timeline) if self.history_content else ()
        self.lineage = Lineage(identity.timeline, history, segment_size_of(self.session))

    def _slot(self, beside: Connection) -> Slot:
        name = str(self._options.slot)
        slot = slots.look_at(beside, name)
        if slot is None and self._options.create_slot:
            slots.create(self.session, name)
            slot = slots.look_at(beside, name)
        slot = slots.require_usable(slot, name)
        if slot.active_pid is not None:
            raise SlotInUseError(
                f"replication slot {name} is in use, by the WAL sender of process {slot.active_pid}",
                hint="each receiver needs a slot of its own; pg_stat_replication shows who uses this one",
            )
        return slot

    @property
    def history(self) -> str | None:
        """The name of the history file of the server's timeline; None if it has none."""
        return history_name(self.lineage.timeline) if self.history_content else None

    def stream(self, timeline: int, lsn: int) -> WalStream:
        return WalStream(self.session, lsn, timeline, self._options.slot)

    def close(self) -> None:
        self.session.close()


class SlotInUseError(OperationError):
    """The slot is in use: by another receiver, or by a connection of ours that the server still takes for alive."""


class NotNowError(OperationError):
    """The server can't be reached, or isn't far enough yet."""


@contextmanager
def _unreachable() -> Iterator[None]:
    try:
        yield
    except ConfigurationError:
        raise
    except OperationError as error:
        raise NotNowError(str(error), hint=error.hint) from error


def may_pass(error: OperationError) -> bool:
    """Tell whether another connection, later, may do: the server is away, or comes up."""
    if isinstance(error, ServerRefusal):
        return not error.sqlstate or error.sqlstate.startswith(_MAY_PASS)  # libpq's own errors have none
    return isinstance(error, NotNowError | ConnectionLostError)
