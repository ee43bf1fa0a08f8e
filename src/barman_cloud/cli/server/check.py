"""``check``: Barman's lines, in its order and under its names, and behind them what only we look at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from barman_cloud.cli.server import check_archive, check_postgres
from barman_cloud.cli.server.check_line import Line
from barman_cloud.cli.server.session import add_servers
from barman_cloud.errors import BarmanCloudError
from barman_cloud.postgres.connection import first_line
from barman_cloud.report.terminal import printable

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import OneServer, Session


class Checked(NamedTuple):
    """What was found out about one server. Sizes in bytes."""

    server: str
    lines: tuple[Line, ...]
    size: int = 0
    wal_size: int = 0

    @property
    def failed(self) -> tuple[Line, ...]:
        return tuple(line for line in self.lines if not line.ok)


def check_arguments(parser: ArgumentParser) -> None:
    add_servers(parser)
    parser.add_argument("--nagios", action="store_true", help="one line and the exit code of a Nagios plugin")
    parser.add_argument("--check-timeout", type=int, metavar="SECONDS", help="give up after this time")


def check(session: Session, args: Namespace) -> None:
    found: list[Checked] = []

    def look(server: OneServer) -> None:
        checked = look_at(server, args.check_timeout)
        found.append(checked)
        if not args.nagios:
            _print(session, checked)

    session.each(args.server_name, look)
    if args.nagios:
        session.output.raw(f"{nagios(found)}\n")
        session.output.exit_code = 2 if any(checked.failed for checked in found) or session.output.exit_code else 0
    elif any(checked.failed for checked in found):
        session.output.exit_code = 1


def look_at(server: OneServer, timeout: int | None) -> Checked:
    """Check one server. What can't be reached is a line that FAILED, never an error."""
    seconds = server["check_timeout"] if timeout is None else timeout
    if not server["active"]:
        return Checked(server.name, (Line("server", True, "inactive"),))
    archive = check_archive.Archive.look(server)
    lines = [
        *check_archive.first_lines(server, archive),
        *_whole(check_postgres.lines(server, archive, seconds)),
    ]
    return Checked(server.name, tuple(lines), archive.size, archive.wal_size)


def _whole(lines: Iterator[Line]) -> Iterator[Line]:
    """Yield lines; where one can't be found out, a last line says why."""
    try:
        yield from lines
    except BarmanCloudError as error:
        yield Line("check completed", False, str(error))
    except psycopg.Error as error:
        yield Line("check completed", False, first_line(error))


def _print(session: Session, checked: Checked) -> None:
    lines = [f"Server {checked.server}:"]
    for line in checked.lines:
        hint = f" ({printable(line.hint)})" if line.hint else ""
        lines.append(f"\t{line.name}: {'OK' if line.ok else 'FAILED'}{hint}")
    session.output.text("".join(f"{line}\n" for line in lines))
    session.output.result(
        checked.server,
        {key_of(line.name): {"status": "OK" if line.ok else "FAILED", "hint": line.hint} for line in checked.lines},
    )


def key_of(name: str) -> str:
    """Return the key of a line in the JSON form."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower())


def nagios(found: list[Checked]) -> str:
    """Return the line of a Nagios plugin, with sizes as performance data and the details behind it."""
    data = " ".join(f"{one.server}={one.size}B {one.server}_wals={one.wal_size}B" for one in found)
    bad = [one for one in found if one.failed]
    names = ", ".join(one.server for one in found)
    if not bad:
        who = (
            f"backup for {names}"
            if len(found) == 1
            else f"backup for {len(found)} servers * {' * '.join(one.server for one in found)}"
        )
        return f"BARMAN OK - Ready to serve the Espresso {who}|{data}"
    failures = [f"{one.server} FAILED: {', '.join(line.name for line in one.failed)}" for one in bad]
    if len(found) == 1:
        head = f"BARMAN CRITICAL - server {names} has issues * {failures[0]}"
    else:
        head = f"BARMAN CRITICAL - {len(bad)} server out of {len(found)} have issues * {' * '.join(failures)}"
    details = [f"{one.server}.{line.name}: FAILED ({line.hint})" for one in bad for line in one.failed]
    return "\n".join([f"{head}|{data}", *details])
