"""``cloud-wal-archive`` and ``cloud-wal-restore``: for archive_command and restore_command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli.server.session import add_server
from barman_cloud.errors import ConnectivityError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from barman_cloud.cli.server.session import Session


def cloud_wal_archive_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("wal_path", help="path of the WAL file (%%p of archive_command)")
    parser.add_argument("-p", "--parallel", type=int, metavar="N", help="also archive the next N-1 segments")


def cloud_wal_archive(session: Session, args: Namespace) -> None:
    from barman_cloud.cli.wal_archive import COMMAND

    server = session.server(args.server_name)
    COMMAND.run(server.plain("wal-archive", [*_parallel(args), args.wal_path]))


def cloud_wal_restore_arguments(parser: ArgumentParser) -> None:
    add_server(parser)
    parser.add_argument("wal_name", help="name of the WAL file (%%f of restore_command)")
    parser.add_argument("wal_dest", help="where to put it (%%p of restore_command)")
    parser.add_argument("-p", "--parallel", type=int, metavar="N", help="fetch the next N-1 segments ahead")
    parser.add_argument("--spool-dir", metavar="DIR", help="for what is fetched ahead")


def cloud_wal_restore(session: Session, args: Namespace) -> None:
    from barman_cloud.cli.wal_restore import COMMAND

    server = session.server(args.server_name)
    spool = ["--spool-dir", args.spool_dir] if args.spool_dir else []
    plain = server.plain("wal-restore", [*_parallel(args), *spool, args.wal_name, args.wal_dest])
    try:
        code = COMMAND.run(plain)
    except ConnectivityError as error:
        session.output.error(str(error), error.hint)
        code = 2  # recovery must be able to tell an outage from the end of the archive
    session.output.exit_code = code or 0


def _parallel(args: Namespace) -> list[str]:
    return [] if args.parallel is None else ["--parallel", str(args.parallel)]
