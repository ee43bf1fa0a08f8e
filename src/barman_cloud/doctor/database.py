"""The server: rights of the role, settings, the text of ``archive_command``, and one segment on its way."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import psycopg

from barman_cloud.catalog.layout import Layout
from barman_cloud.doctor.machine import ServerProcess, missing_program, own_program
from barman_cloud.postgres.archive_command import PROGRAM, ArchiveCall, read_archive_command
from barman_cloud.postgres.connection import Connection, ServerMetadata, first_line
from barman_cloud.postgres.rights import grants, has, rights_of_backups, rights_of_streams
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify.findings import Finding, critical, ok, unknown, warning

Judge = Callable[[ArchiveCall], tuple[str | None, str | None, str | None]]
"""A call of ``wal-archive`` to what is wrong with them (or None), and the URL and the server they name."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0


def examine_rights(connection: Connection, metadata: ServerMetadata) -> Iterator[Finding]:
    """Tell what the role lacks, with the statements that give it."""
    lacking = grants(connection, rights_of_backups(metadata.version, in_recovery=metadata.in_recovery))
    role = connection.info.user
    if lacking:
        statements = " ".join(lacking)
        yield critical(
            "role", f"role {role} may not take a backup", f"""psql -U postgres -c "{_in_shell(statements)}" """.strip()
        )
    else:
        yield ok("role", f"role {role} may take backups")
    stream = next(iter(rights_of_streams()))
    if has(connection, stream):
        yield ok("replication", "the role may stream backups and WAL")
    else:
        yield ok("replication", f"the role has no {stream.name}: only --method stream and wal-receive need it")


def examine_settings(connection: Connection) -> Iterator[Finding]:
    """Judge the settings that decide whether a backup can be recovered, and how much is lost at most."""
    settings: dict[str, str] = dict(
        connection.execute(
            "SELECT name::pg_catalog.text, setting FROM pg_catalog.pg_settings WHERE name IN"
            " ('archive_mode', 'archive_timeout', 'fsync', 'full_page_writes', 'data_checksums')"
        ).fetchall()
    )
    bad = [name for name in ("fsync", "full_page_writes") if settings.get(name) == "off"]
    for name in bad:
        yield warning(
            "settings",
            f"{name} is off: a crash can damage the cluster, and its backups with it",
            f'psql -c "ALTER SYSTEM SET {name} = on" -c "SELECT pg_reload_conf()"',
        )
    if settings.get("archive_timeout") == "0" and settings.get("archive_mode") != "off":
        yield warning(
            "settings",
            "archive_timeout is 0: a quiet server archives its last segment only when it is full",
            """psql -c "ALTER SYSTEM SET archive_timeout = '5min'" -c "SELECT pg_reload_conf()" """.strip(),
        )
    elif not bad:
        yield ok(
            "settings", f"archive_timeout is {settings.get('archive_timeout')} s; fsync and full_page_writes are on"
        )
    if settings.get("data_checksums") == "off":
        yield ok("checksums", "data checksums are off: verify can't tell whether pages are whole")
    else:
        yield ok("checksums", "data checksums are on")


def examine_command(
    metadata: ServerMetadata, server: ServerProcess | None, url: str, layout: Layout, judge: Judge
) -> Iterator[Finding]:
    """Judge the text of ``archive_command``; nothing where the server doesn't use one."""
    command = metadata.archive_command
    if metadata.archive_mode == "off" or not command or not command.strip():
        return  # the archiver's finding says it
    if metadata.archive_library:
        yield warning(
            "archive-command",
            f"archive_library is {metadata.archive_library}, so archive_command isn't used",
            'psql -c "ALTER SYSTEM SET archive_library = \'\'" -c "SELECT pg_reload_conf()"',
        )
        return
    good = f"archive_command = '{own_program(PROGRAM)} --zstd {url} {layout.server} %p'"
    call = read_archive_command(command)
    if without_secrets(command) != command:
        yield critical(
            "archive-command",
            "archive_command holds a secret, which everybody sees who may read settings, backups and process lists",
            "put it into a file of the service: barman-cloud setup --part keys; then replace it, it is known by now",
        )
    for problem in call.problems:
        yield critical("archive-command", f"archive_command {problem}", good)
    if call.program is None:
        yield warning(
            "archive-command",
            f"archive_command doesn't run {PROGRAM} by its name, so it can't be judged: {without_secrets(command)}",
            f"if that should archive here: {good}",
        )
        return
    judged = list(_judged(call, server, url, layout, judge, good))
    yield from judged
    if not judged and not call.problems:
        yield ok("archive-command", without_secrets(command))


def _judged(
    call: ArchiveCall, server: ServerProcess | None, url: str, layout: Layout, judge: Judge, good: str
) -> Iterator[Finding]:
    program = call.program or ""
    if not program.startswith("/"):
        yield warning(
            "archive-command",
            f"archive_command names {program} without its path: how the server was started decides whether it is found",
            good,
        )
    elif server is not None and (missing := missing_program(program)):
        yield missing
    wrong, place, name = judge(call)
    if wrong:
        yield critical("archive-command", f"archive_command isn't a line that {PROGRAM} understands: {wrong}", good)
    elif (place or "").rstrip("/") != url.rstrip("/") or name != layout.server:
        yield critical(
            "archive-command", f"archive_command archives to {place} {name}, not to {url} {layout.server}", good
        )


def switch_and_wait(
    connection: Connection, metadata: ServerMetadata, store: ObjectStore, layout: Layout, seconds: float
) -> Finding:
    """Finish a segment of WAL, and wait until it is in the archive."""
    if metadata.in_recovery:
        return ok("one-segment", "not tried: a standby can't switch to the next segment")
    try:
        connection.execute("SELECT pg_catalog.pg_create_restore_point('barman-cloud-doctor')")
        row = connection.execute("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_switch_wal())").fetchone()
    except psycopg.Error as error:
        return unknown(
            "one-segment", f"can't switch to the next segment: {first_line(error)}", "see the finding on the role"
        )
    name = str(row[0]) if row else ""
    began, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        found = any(True for _ in store.list(f"{layout.wal_folder(name)}{name}"))
        waited = time.monotonic() - began
        if found:
            return ok("one-segment", f"{name} was in the archive {waited:.1f} s after it was finished", name)
        if waited >= seconds:
            break
        time.sleep(min(pause, max(0.0, seconds - waited)))
        pause = min(2 * pause, _LONGEST_PAUSE)
    return critical(
        "one-segment",
        f"{name} wasn't in the archive {seconds:.0f} s after it was finished{_last_failure(connection)}",
        'the server\'s log says what archive_command said: psql -Atc "SELECT pg_current_logfile()"',
        name,
    )


def _last_failure(connection: Connection) -> str:
    row = connection.execute(
        "SELECT last_failed_wal::pg_catalog.text, failed_count FROM pg_catalog.pg_stat_archiver"
        " WHERE last_failed_time > COALESCE(last_archived_time, '-infinity'::pg_catalog.timestamptz)"
    ).fetchone()
    return f"; archiving {row[0]} has failed ({row[1]} failures)" if row else ""


def without_secrets(command: str) -> str:
    """Return a command line without the values of variables that are secrets by their names."""
    return re.sub(r"(?i)\b(\w*(?:secret|password|token|account_?key|storage_key)\w*)=(?!file)\S+", r"\1=…", command)


def _in_shell(text: str) -> str:
    """Return text for between double quotes of a shell."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`")
