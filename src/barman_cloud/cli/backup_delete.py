"""``barman-cloud-backup-delete``: delete backups and the WAL that nothing else needs."""

from __future__ import annotations

import argparse

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command


def add_arguments(parser: Parser) -> None:
    options.add_common(parser, "source_url")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("-b", "--backup-id", help="id, name or shortcut of one backup")
    which.add_argument("-r", "--retention-policy", help="REDUNDANCY n, or RECOVERY WINDOW OF n DAYS|WEEKS|MONTHS")
    parser.add_argument(
        "-m",
        "--minimum-redundancy",
        type=values.non_negative,
        default=0,
        metavar="N",
        help="never keep fewer backups (default 0)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be deleted, delete nothing")
    parser.add_argument(
        "--batch-size", type=values.integer, metavar="N", help="objects of one delete request (default: the most)"
    )
    parser.add_argument(
        "--check-object-lock", action="store_true", help="refuse to delete a backup while an archive is locked"
    )


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("backup-delete", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
