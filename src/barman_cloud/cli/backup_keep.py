"""``barman-cloud-backup-keep``: keep a backup regardless of retention policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli import options
from barman_cloud.cli.command import Command
from barman_cloud.cli.command import main as run_command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("backup_id", help="id, name or shortcut of the backup")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("-r", "--release", action="store_true", help="stop keeping it")
    action.add_argument("-s", "--status", action="store_true", help="print how it is kept")
    action.add_argument(
        "--target",
        choices=("full", "standalone"),
        help="keep it with all WAL since, or with only the WAL it needs itself",
    )
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog import keep
    from barman_cloud.report.summary import Summary
    from barman_cloud.report.terminal import write

    with options.repository_from(args) as repository:
        if args.release:
            repository.release(args.backup_id)
            args.summary = Summary(f"backup {args.backup_id} is not kept any more", moved=False)
        elif args.status:
            annotation = repository.kept(args.backup_id)
            write(f"Keep: {'nokeep' if annotation is None else keep.label(annotation)}\n")
        else:
            repository.keep(args.backup_id, args.target)
            args.summary = Summary(f"backup {args.backup_id} is kept ({args.target})", moved=False)
    return None


COMMAND = Command("backup-keep", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
