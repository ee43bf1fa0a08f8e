"""``barman-cloud check``: are backups and WAL whole and fresh, as far as listings tell?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, describe_os_error
from barman_cloud.errors import BarmanCloudError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from barman_cloud.api import Repository
    from barman_cloud.cli.plain import Arguments, Declarations
    from barman_cloud.verify.findings import Finding, Report
    from barman_cloud.verify.limits import Limits


_AT_A_TIME = 8
"""Servers that are checked at a time, of all."""


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
    server = options.add_optional_server(parser)
    server.add_argument(
        "--max-ready",
        type=values.non_negative,
        default=100,
        metavar="N",
        help="fail if more segments wait for the archiver (default 100)",
    )
    server.add_argument(
        "--min-wal-time",
        type=values.age,
        metavar="AGE",
        help="fail if pg_wal is full sooner at the rate at which WAL is written",
    )
    server.add_argument(
        "--wal-room",
        type=values.size,
        metavar="SIZE",
        help="how large pg_wal may become; default: what its file system has, if this is the server's machine",
    )
    output = parser.add_argument_group("output")
    options.add_format(output)
    output.add_argument("--nagios", action="store_true", help="one line and the exit code of a Nagios plugin (0 to 3)")
    output.add_argument("--prometheus", metavar="FILE", help="also write metrics for a textfile collector")
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    return _tell(args, [_report(args)])


def run_all(shared: Arguments, given: Sequence[Arguments], errors: Mapping[str, str]) -> int:
    """Check many servers; one that can't be looked at doesn't stop the others, and is UNKNOWN."""
    from concurrent.futures import ThreadPoolExecutor

    from barman_cloud.report import progress

    work = progress.current()
    work.phase("checking servers", items=len(given))

    def look(args: Arguments) -> Report:
        report = _report_safely(args)
        work.add(items=1)
        return report

    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        reports = list(pool.map(look, given))
    reports += [_unknown("", server, error) for server, error in errors.items()]
    return _tell(shared, sorted(reports, key=lambda report: report.server))


def _report(args: Arguments) -> Report:
    limits = _limits(args)
    with options.repository_from(args) as repository:

        def more() -> tuple[Finding, ...]:
            return (*_server_findings(args, limits, repository), *_configuration_findings(args, repository))

        return repository.check(limits, extra=more)


def _report_safely(args: Arguments) -> Report:
    try:
        return _report(args)
    except BarmanCloudError as error:
        return _unknown(options.url_from(args), args.server_name, str(error), error.hint)
    except OSError as error:
        return _unknown(options.url_from(args), args.server_name, describe_os_error(error))


def _unknown(url: str, server: str, message: str, hint: str | None = None) -> Report:
    """Return the report of a server that can't be looked at."""
    from datetime import UTC, datetime

    from barman_cloud.verify.findings import Report, unknown

    return Report("check", url, server, datetime.now(UTC), (unknown("store", message, hint),))


def _configuration_findings(args: Arguments, repository: Repository) -> tuple[Finding, ...]:
    if args.server is None:
        return ()
    from barman_cloud.cli.commands import SUMMARIES
    from barman_cloud.schedule.findings import findings

    return findings(repository.store, repository.layout, args.server, SUMMARIES)


def _tell(args: Arguments, reports: list[Report]) -> int:
    from barman_cloud.report.files import write_atomically
    from barman_cloud.verify import render

    if args.prometheus:
        write_atomically(Path(args.prometheus), render.prometheus(reports))
    return _show(args, reports)


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
        min_wal_time=args.min_wal_time,
        wal_room=args.wal_room,
    )


def _server_findings(args: Arguments, limits: Limits, repository: Repository) -> tuple[Finding, ...]:
    parameters = options.optional_server(args)
    if parameters is None:
        return ()
    from barman_cloud.verify.server_state import look_at_server

    return look_at_server(parameters, limits, repository.receiver())


def _show(args: Arguments, reports: list[Report]) -> int:
    if not args.nagios:
        from barman_cloud.cli.reports import show

        return show(args, *reports)
    from barman_cloud.report.terminal import write
    from barman_cloud.verify import render

    line, code = render.nagios(reports)
    write(f"{line}\n")
    return code


COMMAND = Command("check", add_arguments, run, connectivity_exit_code=2, run_all=run_all)
