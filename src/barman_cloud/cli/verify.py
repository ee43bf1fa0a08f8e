"""``barman-cloud verify``: read backups and WAL, and tell what is broken and what can be restored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command
from barman_cloud.errors import UsageError

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument(
        "backup_id", nargs="?", help="id, name or shortcut of a backup, or 'all' (default: the newest complete one)"
    )
    parser.add_argument("--newest", type=values.positive, metavar="N", help="verify the newest N complete backups")
    parser.add_argument("--quick", action="store_true", help="compare names and sizes only; nothing is read")
    parser.add_argument("--wal", action="store_true", help="also read all WAL of the archive")
    parser.add_argument(
        "--max-age", type=values.age, metavar="AGE", help="don't read again what was verified within this time"
    )
    parser.add_argument(
        "-j", "--jobs", type=values.positive, default=2, metavar="N", help="read so many objects at a time (default 2)"
    )
    options.add_format(parser)
    options.add_progress(parser)


def validate(args: Arguments) -> None:
    if args.newest and args.backup_id:
        raise UsageError(f"--newest {args.newest} and the backup '{args.backup_id}' exclude each other")
    if args.quick and args.wal:
        raise UsageError("--quick reads nothing, so there is no --wal with it", hint="'check' finds gaps in the WAL")


def run(args: Arguments) -> int | None:
    from barman_cloud.cli.reports import show
    from barman_cloud.cli.summaries import of_verify
    from barman_cloud.verify.verify import VerifyOptions

    chosen = VerifyOptions(jobs=args.jobs, quick=args.quick, wal=args.wal, max_age=args.max_age)
    with options.repository_from(args) as repository:
        report = repository.verify(args.backup_id, newest=args.newest, options=chosen)
    args.summary = of_verify(report)
    return show(args, report)


COMMAND = Command("verify", add_arguments, run, validate, connectivity_exit_code=2)
