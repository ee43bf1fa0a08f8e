"""``barman-cloud-check-wal-archive``: check that a WAL archive is safe to use for a new cluster."""

from __future__ import annotations

import argparse

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command


def add_arguments(parser: Parser) -> None:
    options.add_common(parser, "destination_url")
    parser.add_argument(
        "--timeline", type=values.positive, help="accept WAL of earlier timelines (default: the archive must be empty)"
    )


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("check-wal-archive", add_arguments, run, connectivity_exit_code=2, has_own_test=True)


def main() -> int:
    return run_command(COMMAND)
