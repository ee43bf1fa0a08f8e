"""Whether the server archives its WAL, as far as its settings and statistics tell."""

from __future__ import annotations

import re

import psycopg

from barman_cloud.errors import OperationError
from barman_cloud.postgres.connection import Connection, ServerMetadata, first_line

_ARCHIVES_NOTHING = re.compile(r"(?:(?:/usr)?/bin/)?(?:true|echo)(?:\s[^|&;<>`$]*)?|:|exit\s+0|cd\s+\.")
"""Commands that people set to switch archiving off without a restart: they succeed and store nothing."""


def archiving_problem(connection: Connection, metadata: ServerMetadata) -> str | None:
    """Return in one phrase why this server's WAL doesn't get into an archive; None if nothing speaks against it.

    ``OperationError`` if the server doesn't answer.
    """
    problem = problem_of_settings(metadata)
    if problem and is_streamed(connection):
        return None
    return problem or _problem_of_archiver(connection)


def is_streamed(connection: Connection) -> bool:
    """Tell whether a client streams WAL that replays none of it: a receiver such as ``wal-receive``."""
    try:
        row = connection.execute(
            "SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE state = 'streaming' AND replay_lsn IS NULL"
        ).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"cannot read who streams WAL: {first_line(error)}") from error
    return bool(row and row[0])


def streams_to(connection: Connection, application_name: str) -> bool:
    """Tell whether the server streams to a client of that name. ``OperationError`` if it doesn't answer.

    A standby doesn't know who receives from its primary: True.
    """
    try:
        row = connection.execute(
            "SELECT pg_catalog.pg_is_in_recovery() OR EXISTS"
            " (SELECT FROM pg_catalog.pg_stat_replication WHERE application_name = %s)",
            (application_name,),
        ).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"cannot read pg_stat_replication: {first_line(error)}") from error
    return bool(row and row[0])


def problem_of_settings(metadata: ServerMetadata) -> str | None:
    """Return in one phrase why the settings let the server archive nothing; None if they let it."""
    if metadata.in_recovery and metadata.archive_mode != "always":
        return "this is a standby that doesn't archive: the WAL has to come from the primary's archive"
    if metadata.archive_mode == "off":
        return "archive_mode is off"
    if metadata.archive_library or metadata.archive_command is None:
        return None
    command = metadata.archive_command.strip()
    if not command:
        return "archive_command is empty: the end of the backup will wait until it is set"
    if _ARCHIVES_NOTHING.fullmatch(command):
        return f"archive_command is '{command}', which archives nothing"
    return None


def _problem_of_archiver(connection: Connection) -> str | None:
    try:
        row = connection.execute(
            "SELECT last_failed_wal::pg_catalog.text, last_failed_time::pg_catalog.text"
            " FROM pg_catalog.pg_stat_archiver"
            " WHERE last_failed_time > COALESCE(last_archived_time, '-infinity'::pg_catalog.timestamptz)"
        ).fetchone()
    except psycopg.Error as error:
        raise OperationError(f"cannot read the archiver's statistics: {first_line(error)}") from error
    if row is None:
        return None
    return (
        f"archiving has failed since the last success, at {row[1]} for {row[0]} (the server's log says why): "
        "the end of the backup will wait until it works"
    )
