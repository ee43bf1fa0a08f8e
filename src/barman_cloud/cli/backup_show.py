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
    options.add_chains(parser)


def run(args: Arguments) -> int | None:
    from barman_cloud.catalog import chain_summary, summary
    from barman_cloud.catalog.descent import chain_facts
    from barman_cloud.report.terminal import write

    with options.repository_from(args) as repository:
        info = repository.backup(args.backup_id)
        facts = chain_facts(repository.catalog, repository.view()).get(info.backup_id) if args.chains else None
        if args.format == "console":
            write(summary.show_as_text(info, args.server_name, chain_summary.section(facts) if facts else None))
        else:
            write(summary.show_as_json(info, facts.to_json() if facts else {}))
    return None


COMMAND = Command("backup-show", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
