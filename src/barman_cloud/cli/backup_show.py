"""``barman-cloud-backup-show``: show one backup in detail."""

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
    options.add_format(parser)
    options.add_progress(parser, summary=False)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog import lineage, summary
    from barman_cloud.report.terminal import write

    with options.repository_from(args) as repository:
        info = repository.backup(args.backup_id)
        kinship = weight = None
        if args.is_umbrella:
            kinship = lineage.kinship_of({**repository.view().backups, info.backup_id: info}, info.backup_id)
            weight = lineage.weigh(kinship, lineage.stored_sizes(repository.catalog, kinship.chain))
        if args.format == "console":
            write(summary.show_as_text(info, args.server_name, kinship, weight))
        else:
            write(summary.show_as_json(info, kinship, weight))
    return None


COMMAND = Command("backup-show", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
