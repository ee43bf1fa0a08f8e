"""A physical replication session: a connection to a WAL sender, its commands, and the COPY streams they answer with.

The protocol is in PostgreSQL's documentation, "Streaming Replication Protocol". psycopg makes the connection; commands
go through its libpq wrapper, because a COPY that lasts hours must neither hold the interpreter's lock nor keep the
thread from hearing that it should stop: libpq never waits in here, ``poll`` does.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.pq import ExecStatus

from barman_cloud import logs
from barman_cloud.errors import OperationError
from barman_cloud.postgres.backup_mode import log_notice
from barman_cloud.postgres.connection import Connection, ConnectionParameters, connection_arguments, first_line
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.replication.refusals import refused_connection

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

log = logs.get_logger(__name__)

APPLICATION_NAME = "barman_cloud_backup"

_CANCEL_TIMEOUT = 5.0
_COPY_IN_PIECE = 64 << 10
_ERRORS = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.EMPTY_QUERY)
_CHOOSES_A_SERVER = ("target_session_attrs", "load_balance_hosts", "service")


class Interrupted(Exception):
    """The session was told to stop waiting for the server."""


class EndOfCopy(Exception):
    """The server ended the COPY in both directions."""


class ConnectionLostError(OperationError):
    """The connection is gone; another one may do."""


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """Who answers: the cluster's system identifier, the timeline, and how far WAL is flushed (an LSN)."""

    system_identifier: str
    timeline: int
    flush_lsn: int


class ReplicationSession:
    """A connection to a WAL sender. One thread at a time uses it; :meth:`interrupt` may be called from any other.

    Whatever the server refuses is an ``OperationError``; a lost connection too.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        self._ahead: PGresult | None = None
        """A result that was taken before it was asked for."""
        self._stop = threading.Event()
        self._closing = threading.Lock()
        self._closed = False
        self._woken = False
        self._wake_read, self._wake_write = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        connection.add_notice_handler(log_notice)

    @property
    def server_version(self) -> int:
        """In the form of ``server_version_num``."""
        return self._connection.info.server_version

    def identify(self) -> SystemIdentity:
        """Ask the server who it is (``IDENTIFY_SYSTEM``)."""
        row = self.query("IDENTIFY_SYSTEM")[0]
        return SystemIdentity(str(row[0]), int(row[1] or 0), parse_lsn(str(row[2])))

    def query(self, command: str) -> list[list[str | None]]:
        """Run a command that answers with rows, and return those of its first result."""
        self.send(command)
        first = self.result()
        rows = rows_of(first) if first is not None else []
        self.finish()
        return rows

    def send(self, command: str) -> None:
        """Send a command; its results are then asked for one after another."""
        log.debug("replication command: %s", command)
        with self._lost("sending a command"):
            self._pg.send_query(command.encode())
            self._flush()

    def result(self) -> PGresult | None:
        """Return the next result of the command, None after the last; waits for it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            return ahead
        with self._lost("waiting for the server"):
            while self._pg.is_busy():
                self._wait(select.POLLIN)
                self._pg.consume_input()
            result = self._pg.get_result()
        if result is not None and result.status in _ERRORS:
            raise _refusal(result)
        return result

    def finish(self) -> None:
        """Take the results that are left."""
        while self.result() is not None:
            pass

    def copy_out(self) -> Iterator[memoryview]:
        """Yield the messages of the COPY that the last result began; raises what the server says instead of its end."""
        pg = self._pg
        copy_data = pg.get_copy_data
        lost = self._lost("reading the stream")
        while True:
            with lost:
                size, data = copy_data(1)
                while size == 0:
                    # What TLS has decrypted already isn't seen by poll: read first, and wait only if that gave nothing.
                    pg.consume_input()
                    size, data = copy_data(1)
                    if size == 0:
                        self._wait(select.POLLIN)
            if size < 0:
                break
            yield data
        with lost:
            # An error that cut the stream is there already; after a proper end it may be long until the server goes on.
            answered = not pg.is_busy()
        if answered:
            self._ahead = self.result()

    def copy_in(self, chunks: Iterable[bytes]) -> None:
        """Send the data of the COPY that the last result asked for, and end it."""
        with self._lost("sending data"):
            for chunk in chunks:
                for start in range(0, len(chunk), _COPY_IN_PIECE):
                    while self._pg.put_copy_data(chunk[start : start + _COPY_IN_PIECE]) == 0:
                        self._flush()
                    self._flush()
            while self._pg.put_copy_end() == 0:
                self._flush()
            self._flush()

    def copy_both_receive(self, seconds: float) -> memoryview | None:
        """Return the next message of a COPY in both directions; None if there was none within ``seconds``, or before
        :meth:`wake` was called.

        :class:`EndOfCopy` when the server ended it: :meth:`copy_both_end`, then take the results.
        """
        with self._lost("reading the stream"):
            size, data = self._pg.get_copy_data(1)
            if size == 0:
                self._pg.consume_input()
                size, data = self._pg.get_copy_data(1)
            if size == 0 and seconds > 0:
                self._wait(select.POLLIN, seconds)
                self._pg.consume_input()
                size, data = self._pg.get_copy_data(1)
        if size < 0:
            raise EndOfCopy
        return data if size else None

    def copy_both_send(self, message: bytes) -> None:
        """Send a message of a COPY in both directions."""
        with self._lost("answering the server"):
            while self._pg.put_copy_data(message) == 0:
                self._flush()
            self._flush()

    def copy_both_end(self) -> None:
        """End our direction of a COPY in both, unless an error has ended it."""
        with self._lost("ending the stream"):
            with contextlib.suppress(psycopg.Error):  # the result that is taken next tells why
                while self._pg.put_copy_end() == 0:
                    self._flush()
            self._flush()

    def interrupt(self) -> None:
        """Make the thread that waits for the server, or will, raise :class:`Interrupted`."""
        with self._closing:
            if not self._closed and not self._stop.is_set():
                self._stop.set()
                os.write(self._wake_write, b".")

    def wake(self) -> None:
        """Make the thread that waits for the server, or will, look up and go on; from any thread, at any time."""
        with self._closing:
            if not self._closed and not self._woken:
                self._woken = True
                os.write(self._wake_write, b".")

    def close(self) -> None:
        """End the session. A command that still runs is cancelled first: the server may be far from writing to us."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        if self._pg.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=_CANCEL_TIMEOUT)
        self._connection.close()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)

    def _flush(self) -> None:
        while self._pg.flush():
            self._wait(select.POLLIN | select.POLLOUT)
            self._pg.consume_input()

    def _wait(self, events: int, seconds: float | None = None) -> None:
        self._poll.register(self._pg.socket, events)
        self._poll.poll(None if seconds is None else seconds * 1000)
        if self._stop.is_set():
            raise Interrupted
        if self._woken:
            with self._closing:
                self._woken = False
                os.read(self._wake_read, 1)

    def _lost(self, what: str) -> _LostConnection:
        return _LostConnection(what)


class _LostConnection:
    """A context in which libpq's errors mean that the connection is gone."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.Error):
            raise ConnectionLostError(
                f"the replication connection was lost while {self._what}: {first_line(error)}",
                hint="the server's log may say why",
            ) from error


def open_session(
    beside: Connection, streaming_conninfo: str | None = None, application_name: str = APPLICATION_NAME
) -> ReplicationSession:
    """Open a replication session to the server that ``beside`` is connected to, as the same role.

    ``streaming_conninfo`` is a connection string to use instead. ``OperationError`` that names the setting which is in
    the way, or the server that answers instead; ``ConfigurationError`` for a string that isn't understood.
    """
    if streaming_conninfo is None:
        arguments = _same_server(beside) | {"application_name": application_name}
    else:
        arguments = connection_arguments(ConnectionParameters(streaming_conninfo), application_name)
    arguments["replication"] = "true"
    try:
        connection: Connection = psycopg.connect(**arguments, autocommit=True)
    except psycopg.Error as error:
        raise refused_connection(error, beside, arguments) from error
    session = ReplicationSession(connection)
    try:
        _require_same_cluster(session, beside)
    except BaseException:
        session.close()
        raise
    return session


def _same_server(beside: Connection) -> dict[str, Any]:
    """Return what leads to the very server of ``beside``, also if its name stands for several."""
    info = beside.info
    arguments: dict[str, Any] = {**info.get_parameters(), "host": info.host, "port": str(info.port), "user": info.user}
    for name in _CHOOSES_A_SERVER:
        arguments.pop(name, None)
    if info.hostaddr:
        arguments["hostaddr"] = info.hostaddr
    if info.password:
        arguments["password"] = info.password
    # As all of PostgreSQL's replication clients do, so that password files have one line for them.
    return arguments | {"dbname": "replication"}


def _require_same_cluster(session: ReplicationSession, beside: Connection) -> None:
    row = beside.execute("SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()").fetchone()
    found, expected = session.identify().system_identifier, str(row[0]) if row else ""
    if found != expected:
        raise OperationError(
            f"the replication connection leads to cluster {found}, the ordinary one to cluster {expected}",
            hint="both must reach the same server: check the addresses, and what a proxy in between does",
        )


def rows_of(result: PGresult) -> list[list[str | None]]:
    """Return the rows of a result as text."""

    def text(row: int, column: int) -> str | None:
        value = result.get_value(row, column)
        return None if value is None else value.decode()

    return [[text(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]


def _refusal(result: PGresult) -> OperationError:
    from psycopg.pq import DiagnosticField

    def field(which: DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode("utf-8", "replace")

    message = field(DiagnosticField.MESSAGE_PRIMARY) or (result.error_message or b"").decode("utf-8", "replace").strip()
    detail = field(DiagnosticField.MESSAGE_DETAIL)
    hint = field(DiagnosticField.MESSAGE_HINT)
    return ServerRefusal(
        f"PostgreSQL refused: {message}" + (f" ({detail.splitlines()[0]})" if detail else ""),
        hint=hint.splitlines()[0] if hint else None,
        sqlstate=field(DiagnosticField.SQLSTATE),
    )


class ServerRefusal(OperationError):
    """The server answered a replication command with an error."""

    def __init__(self, message: str, *, hint: str | None = None, sqlstate: str = "") -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate
