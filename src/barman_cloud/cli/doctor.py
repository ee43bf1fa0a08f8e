"""``barman-cloud doctor``: everything that stops a set-up from working, in one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.errors import UsageError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations

_CONNECT = "add --dbname postgres, or --host, --port or --user"


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    server = options.add_optional_server(parser)
    server.add_argument(
        "--switch-wal", action="store_true", help="finish a segment of WAL on the server, and wait until it is archived"
    )
    server.add_argument(
        "--wal-timeout",
        type=values.positive,
        default=60,
        metavar="SECONDS",
        help="how long --switch-wal waits (default 60)",
    )
    server.add_argument(
        "--server-environment",
        action="store_true",
        help="use the variables of the running server, so its credentials, in place of those of this shell",
    )
    options.add_format(parser)
    options.add_progress(parser, summary=False)


def validate(args: Arguments) -> None:
    if args.switch_wal and options.optional_server(args) is None:
        raise UsageError("--switch-wal needs a connection", hint=_CONNECT)
    if args.server_environment and options.optional_server(args) is None:
        raise UsageError("--server-environment needs a connection", hint=_CONNECT)


def run(args: Arguments) -> int | None:
    from barman_cloud.backup.signals import interruptible
    from barman_cloud.cli.lines import judge_archive_line
    from barman_cloud.cli.reports import show
    from barman_cloud.doctor.doctor import Doctor

    if args.server_environment:
        _take_environment(args)
    with interruptible(), options.store_from(args) as store:
        doctor = Doctor(
            store,
            options.layout_from(args, store),
            judge_archive_line,
            parameters=options.optional_server(args),
            switch_wal=args.wal_timeout if args.switch_wal else None,
            store_options=f" --endpoint-url {args.endpoint_url}" if args.endpoint_url else "",
            deadline=args.deadline,
        )
        report = doctor.examine()
    return show(args, report, timeline=False)


def _take_environment(args: Arguments) -> None:
    from barman_cloud.doctor.machine import find_server, take_environment
    from barman_cloud.errors import ConfigurationError
    from barman_cloud.postgres.connection import connect, read_metadata

    parameters = options.optional_server(args)
    assert parameters is not None
    with connect(parameters, "barman_cloud_doctor") as connection:
        server = find_server(read_metadata(connection).data_directory)
    if server is None or not server.environ:
        raise ConfigurationError(
            "the variables of the server can't be read from here",
            hint="run this on the server's machine, as the user that PostgreSQL runs as, with a role of pg_monitor",
        )
    take_environment(server)


COMMAND = Command("doctor", add_arguments, run, validate, connectivity_exit_code=2, interrupt_exit_code=130)
