"""``barman-cloud check``: are backups and WAL whole and fresh, as far as listings tell?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.verify.findings import Finding, Report
    from barman_cloud.verify.limits import Limits


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-backup-age", type=values.age, metavar="AGE", help="fail if the newest backup is older")
    limits.add_argument("--max-wal-age", type=values.age, metavar="AGE", help="fail if the newest WAL is older")
    limits.add_argument(
        "--max-verified-age", type=values.age, metavar="AGE", help="fail if the last successful verify is longer ago"
    )
    limits.add_argument("--max-drill-age", type=values.age, metavar="AGE", help="fail if the last drill is longer ago")
    limits.add_argument(
        "--min-backup-size", type=values.size, metavar="SIZE", help="fail if the newest backup is smaller"
    )
    limits.add_argument(
        "--minimum-redundancy",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="fail if there are fewer full backups (default 0)",
    )
    limits.add_argument(
        "-r",
        "--retention-policy",
        metavar="POLICY",
        help="compare object locks with the policy that backups are deleted by, as backup-delete takes it",
    )
    server = parser.add_argument_group("PostgreSQL")
    server.add_argument("-d", "--dbname", help="look at the server as well: database name or connection string")
    server.add_argument("-h", "--host", help="host name or socket directory")
    server.add_argument("-p", "--port", help="port")
    server.add_argument("-U", "--user", help="role")
    server.add_argument(
        "--max-ready",
        type=values.non_negative,
        default=100,
        metavar="N",
        help="fail if more segments wait for the archiver (default 100)",
    )
    output = parser.add_argument_group("output")
    options.add_format(output)
    output.add_argument("--nagios", action="store_true", help="one line and the exit code of a Nagios plugin (0 to 3)")
    output.add_argument("--prometheus", metavar="FILE", help="also write metrics for a textfile collector")


def run(args: Arguments) -> int | None:
    from barman_cloud.verify import render

    limits = _limits(args)
    with options.repository_from(args) as repository:
        report = repository.check(limits, extra=lambda: _server_findings(args, limits))
    if args.prometheus:
        render.write_atomically(Path(args.prometheus), render.prometheus([report]))
    return _show(args, report)


def _limits(args: Arguments) -> Limits:
    from barman_cloud.catalog.retention import parse_policy
    from barman_cloud.verify.limits import Limits

    return Limits(
        max_backup_age=args.max_backup_age,
        max_wal_age=args.max_wal_age,
        max_verified_age=args.max_verified_age,
        max_drill_age=args.max_drill_age,
        min_backup_size=args.min_backup_size,
        minimum_redundancy=args.minimum_redundancy,
        retention=parse_policy(args.retention_policy) if args.retention_policy is not None else None,
        max_ready=args.max_ready,
    )


def _server_findings(args: Arguments, limits: Limits) -> tuple[Finding, ...]:
    if not (args.dbname or args.host or args.port or args.user):
        return ()
    from barman_cloud.postgres.connection import ConnectionParameters
    from barman_cloud.verify.server_state import look_at_server

    return look_at_server(ConnectionParameters(args.dbname or "postgres", args.host, args.port, args.user), limits)


def _show(args: Arguments, report: Report) -> int:
    if not args.nagios:
        from barman_cloud.cli.reports import show

        return show(args, report)
    from barman_cloud.report.terminal import write
    from barman_cloud.verify import render

    line, code = render.nagios([report])
    write(f"{line}\n")
    return code


COMMAND = Command("check", add_arguments, run, connectivity_exit_code=2)
