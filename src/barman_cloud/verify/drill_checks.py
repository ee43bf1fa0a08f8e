"""Questions to a restored server: are its tables and indexes whole (``amcheck``), and what its user asserts of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from barman_cloud import logs
from barman_cloud.report.text import counted
from barman_cloud.verify.findings import Finding, critical, ok, warning
from barman_cloud.verify.private_server import PrivateServer

log = logs.get_logger(__name__)

_CORRUPT = 2
"""What pg_amcheck ends with when it has found corruption; 1 if it couldn't look (its documentation)."""
_LINES = 5
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Assertion:
    """SQL that must hold on the restored server: each statement that returns rows has to return true first."""

    name: str
    """What it is called in the report: the statement itself, or the file it is from."""
    sql: str


def check_relations(server: PrivateServer, jobs: int) -> Iterator[Finding]:
    """Check tables and B-tree indexes of all databases, by ``pg_amcheck`` or else by the queries of ``amcheck``."""
    hint = "install PostgreSQL's contrib modules on this machine, or leave it out with --no-amcheck"
    with server.connect("postgres") as connection:
        found = connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchone()
    if found is None:
        yield warning("amcheck", "tables and indexes weren't checked: this PostgreSQL has no extension amcheck", hint)
    elif server.has("pg_amcheck"):
        yield _by_program(server, jobs)
    else:
        yield from _by_queries(server)


def _by_program(server: PrivateServer, jobs: int) -> Finding:
    done = server.run(
        "pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--no-password", "--jobs", str(jobs)
    )
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    for line in lines:
        log.info("pg_amcheck: %s", line)
    if done.returncode == 0:
        return ok("amcheck", "pg_amcheck found nothing wrong with tables and indexes of all databases")
    what = "damage" if done.returncode == _CORRUPT else "what it couldn't check"
    return _damage(f"pg_amcheck found {what}", lines)


def _by_queries(server: PrivateServer) -> Iterator[Finding]:
    with server.connect("postgres") as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1").fetchall()
    problems: list[str] = []
    count = 0
    for (name,) in rows:
        with server.connect(name) as connection:
            checked, found = _check_database(connection, name)
        count += checked
        problems += found
    if problems:
        yield _damage("amcheck found damage", problems)
    else:
        where = counted(len(rows), "database")
        yield ok("amcheck", f"amcheck found nothing wrong with {count} tables and indexes of {where}")


def _check_database(connection: psycopg.Connection[tuple[object, ...]], name: str) -> tuple[int, list[str]]:
    """Return how many tables and indexes were checked, and what is wrong with them."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'amcheck'"
    ).fetchone()
    assert row is not None
    schema = sql.Identifier(str(row[0]))
    heap = connection.execute("SELECT 1 FROM pg_proc WHERE proname = 'verify_heapam'").fetchone()
    relations = connection.execute(
        "SELECT c.oid, c.oid::regclass::text, c.relkind FROM pg_class c"
        " LEFT JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_index i ON i.indexrelid = c.oid"
        " WHERE c.relpersistence <> 't' AND (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready"
        " OR c.relkind IN ('r', 'm', 't') AND (a.amname IS NULL OR a.amname = 'heap')) ORDER BY 1"
    ).fetchall()
    count, problems = 0, []
    for oid, relation, kind in relations:
        if kind == "i":
            query = sql.SQL("SELECT {}.bt_index_check({}, true)").format(schema, sql.Literal(oid))
        elif heap:
            query = sql.SQL("SELECT msg FROM {}.verify_heapam({})").format(schema, sql.Literal(oid))
        else:
            continue
        count += 1
        try:
            found = connection.execute(query).fetchall()
        except psycopg.Error as error:
            problems.append(f"{name}: {relation}: {_one_line(error)}")
            continue
        if kind != "i":
            problems += [f"{name}: {relation}: {message}" for (message,) in found]
    return count, problems


def _damage(what: str, lines: Sequence[str]) -> Finding:
    more = f" / … {len(lines) - _LINES} more lines, see -v" if len(lines) > _LINES else ""
    for line in lines[_LINES:]:
        log.info("amcheck: %s", line)
    return critical(
        "amcheck",
        f"{what}: {' / '.join(lines[:_LINES])}{more}",
        "check the server itself with pg_amcheck: if it has the same damage, the backup is a true copy of it; "
        "otherwise drill an older backup",
    )


def check_assertions(server: PrivateServer, dbname: str, assertions: Sequence[Assertion]) -> Iterator[Finding]:
    """Run what the user asserts, each on a connection of its own."""
    for assertion in assertions:
        yield _check_assertion(server, dbname, assertion)


def _check_assertion(server: PrivateServer, dbname: str, assertion: Assertion) -> Finding:
    name = _shortened(assertion.name)
    hint = "is the assertion right, and is it asked of the right database (--dbname)? Otherwise data is missing"
    asked = 0
    try:
        with server.connect(dbname) as connection:
            cursor = connection.execute(assertion.sql.encode())
            while True:
                if cursor.description is not None:
                    asked += 1
                    row = cursor.fetchone()
                    if row is None or row[:1] != (True,) or row[0] is not True:
                        answer = "no row" if row is None else _shortened(repr(row[0]) if row else "no column")
                        which = f", statement {asked} that returns rows," if asked > 1 else ""
                        return critical("assertion", f"{name}{which} returned {answer}, not true", hint)
                if not cursor.nextset():
                    break
    except psycopg.Error as error:
        return critical("assertion", f"{name} failed: {_one_line(error)}", hint)
    if not asked:
        return critical("assertion", f"{name} has no statement that returns rows, so it asserts nothing", hint)
    return ok("assertion", f"{name} is true" if asked == 1 else f"{name}: all {asked} are true")


def _one_line(error: Exception) -> str:
    return " / ".join(line.strip() for line in str(error).splitlines() if line.strip())


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
