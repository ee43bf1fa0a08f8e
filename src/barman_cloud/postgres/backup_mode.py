"""PostgreSQL's backup mode: start, hold the session, stop.

This is the low level API (PostgreSQL docs, "Making a Base Backup Using the Low Level API"). The mode belongs to the
session that started it: when the connection is lost, the server abandons the backup. So the session is never
re-established; a helper thread uses it now and then, watches its socket, and reports its loss at once.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

import psycopg

from barman_cloud import logs
from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import Connection, first_line, name_of, unconverted_text
from barman_cloud.postgres.rights import has, quoted, rights_of_backups, statement
from barman_cloud.postgres.wal import parse_lsn

log = logs.get_logger(__name__)

_START_TIMELINE = "START TIMELINE: "
_START_LOCATION = "START WAL LOCATION: "
_JOIN_TIMEOUT = 2.0

_BEGIN = (
    "SELECT location::pg_catalog.text, pg_catalog.now()::pg_catalog.text,"
    " (pg_catalog.pg_control_checkpoint()).timeline_id FROM "
)
_END = (
    "SELECT lsn::pg_catalog.text, pg_catalog.now()::pg_catalog.text, CASE WHEN pg_catalog.pg_is_in_recovery()"
    " THEN (pg_catalog.pg_control_recovery()).min_recovery_end_timeline"
    " ELSE (pg_catalog.pg_control_checkpoint()).timeline_id END, labelfile FROM "
)
_START: LiteralString = _BEGIN + "pg_catalog.pg_backup_start(%s, %s) AS location"
_START_BEFORE_15: LiteralString = _BEGIN + "pg_catalog.pg_start_backup(%s, %s, false) AS location"
_STOP: LiteralString = _END + "pg_catalog.pg_backup_stop(true)"
_STOP_BEFORE_15: LiteralString = _END + "pg_catalog.pg_stop_backup(false, true)"


@dataclass(frozen=True, slots=True)
class BackupStart:
    """What the start call told: where recovery must begin."""

    lsn: int
    time: datetime
    """The server's time, with the offset of the session's time zone."""
    timeline: int


@dataclass(frozen=True, slots=True)
class BackupStop:
    """What the stop call told: how far recovery must go, and the text of ``backup_label``."""

    lsn: int
    time: datetime
    timeline: int
    label: str


def check_privileges(connection: Connection, *, in_recovery: bool) -> None:
    """Raise ``OperationError`` naming what the role lacks to take a backup, before anything has begun."""
    rights = rights_of_backups(connection.info.server_version, in_recovery=in_recovery)
    try:
        with unconverted_text(connection):
            row = connection.execute("SELECT CURRENT_USER::pg_catalog.text").fetchone()
        missing = [right for right in rights if not has(connection, right)]
    except psycopg.Error as error:
        raise OperationError(f"cannot read the privileges of the role: {first_line(error)}") from error
    if missing:
        role = name_of(row[0], connection) if row else "?"
        raise OperationError(
            f"role {role} lacks {', '.join(right.name for right in missing)}",
            hint="as a superuser: " + " ".join(statement(right, quoted(role)) for right in missing),
        )


class BackupMode:
    """A backup on one session, from :meth:`start` to :meth:`stop`; closing it before makes the server abandon it.

    ``on_lost`` is called once, from a helper thread, if the connection is lost between the two. ``keepalive_interval``
    is in seconds; 0 sends nothing, and only watches the socket.
    """

    def __init__(
        self, connection: Connection, on_lost: Callable[[OperationError], None], *, keepalive_interval: float = 60
    ) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._interval = keepalive_interval
        self._wake_read, self._wake_write = os.pipe()
        self._keeper: threading.Thread | None = None
        connection.add_notice_handler(log_notice)

    def start(self, label: str, *, immediate_checkpoint: bool) -> BackupStart:
        """Enter backup mode, after a checkpoint (spread over time unless ``immediate_checkpoint``)."""
        query = _START if self._is_15 else _START_BEFORE_15
        row = self._call("start", query, label, immediate_checkpoint)
        self._keeper = threading.Thread(target=self._keep, name="backup-session", daemon=True)
        self._keeper.start()
        return BackupStart(parse_lsn(row[0]), datetime.fromisoformat(row[1]), int(row[2]))

    def stop(self) -> BackupStop:
        """Leave backup mode and wait until the server has archived the WAL that the backup needs.

        A failing ``archive_command`` makes this wait for ever (the server's warnings are logged); a signal handler that
        raises ``KeyboardInterrupt`` ends the wait. ``OperationError`` if the timeline changed since the start.
        """
        self._release()
        row = self._call("stop", _STOP if self._is_15 else _STOP_BEFORE_15)
        label = str(row[3])
        begin = label_timeline(label)
        timeline = int(row[2] or begin)
        if timeline != begin:
            raise OperationError(
                f"the server moved from timeline {begin} to {timeline} during the backup",
                hint="take the backup again",
            )
        return BackupStop(parse_lsn(row[0]), datetime.fromisoformat(row[1]), timeline, label)

    def switch_wal(self) -> None:
        """Finish the current segment, so that it is archived soon; not allowed on a standby."""
        self._call("WAL switch", "SELECT pg_catalog.pg_switch_wal()")

    def create_restore_point(self, name: str) -> None:
        """Write a named restore point; a failure is only logged."""
        create_restore_point(self._connection, name)

    def close(self) -> None:
        """End the session; if it is still in backup mode, the server abandons the backup."""
        if not self._release(_JOIN_TIMEOUT):
            return  # its thread waits for a dead network; the end of the process closes the socket
        self._connection.close()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)

    @property
    def _is_15(self) -> bool:
        return self._connection.info.server_version >= 150000

    def _call(self, what: str, query: LiteralString, *arguments: object) -> tuple[str, ...]:
        try:
            row = self._connection.execute(query, arguments).fetchone()
        except psycopg.Error as error:
            raise OperationError(f"PostgreSQL refused the backup's {what}: {first_line(error)}") from error
        assert row is not None
        return row

    def _keep(self) -> None:
        """Use the connection every interval, and at once when its socket has something to say (such as its end)."""
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        timeout = self._interval * 1000 if self._interval else None
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(timeout)]
            if self._wake_read in ready:
                return
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error as error:
                if not self._connection.broken:
                    continue  # only this query was cancelled
                self._on_lost(OperationError(f"the PostgreSQL session of the backup was lost: {first_line(error)}"))
                return

    def _release(self, timeout: float | None = None) -> bool:
        """Make the helper thread leave the connection alone; False if it didn't within ``timeout`` seconds."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return True
        os.write(self._wake_write, b".")
        keeper.join(timeout)
        return not keeper.is_alive()


def label_timeline(label: str) -> int:
    """Return the timeline that the text of a ``backup_label`` names; ``OperationError`` if it names none."""
    for line in label.splitlines():
        if line.startswith(_START_TIMELINE):
            return int(line.removeprefix(_START_TIMELINE))
    raise OperationError("the server's backup label has no timeline")


def label_start(label: str) -> int:
    """Return the LSN at which recovery begins, as the text of a ``backup_label`` says; errors as above."""
    for line in label.splitlines():
        if line.startswith(_START_LOCATION):
            return parse_lsn(line.removeprefix(_START_LOCATION).partition(" ")[0])
    raise OperationError("the server's backup label has no location")


def create_restore_point(connection: Connection, name: str) -> None:
    """Write a named restore point; a failure is only logged."""
    try:
        connection.execute("SELECT pg_catalog.pg_create_restore_point(%s)", (name,))
    except psycopg.Error as error:
        log.info("restore point %s was not created: %s", name, first_line(error))


def log_notice(notice: psycopg.errors.Diagnostic) -> None:
    """Log what the server says besides its answers; a notice handler of psycopg."""
    level = logs.WARNING if notice.severity_nonlocalized == "WARNING" else logs.INFO
    hint = f" (hint: {_one_line(notice.message_hint)})" if notice.message_hint else ""
    log.log(level, "PostgreSQL: %s%s", notice.message_primary, hint)


def _one_line(text: str) -> str:
    return " ".join(text.split())
