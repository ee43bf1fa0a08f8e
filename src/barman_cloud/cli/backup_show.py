"""``barman-cloud-backup-show``: show one backup in detail."""

from __future__ import annotations

import argparse

from barman_cloud.cli import options
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command


def add_arguments(parser: Parser) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("backup_id", help="id, name or shortcut of the backup")
    options.add_format(parser)


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("backup-show", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
