"""``barman-cloud-wal-restore``: fetch one WAL file; for ``restore_command``."""

from __future__ import annotations

import argparse

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command


def add_arguments(parser: Parser) -> None:
    options.add_common(parser, "source_url")
    parser.add_argument("wal_name", help="name of the WAL file (%%f of restore_command)")
    parser.add_argument("wal_dest", help="where to put it (%%p of restore_command)")
    parser.add_argument("--no-partial", action="store_true", help="never deliver a .partial segment")
    parser.add_argument(
        "-p", "--parallel", type=values.integer, default=0, metavar="N", help="fetch the next N-1 segments ahead"
    )
    parser.add_argument(
        "--spool-dir",
        default=options.DEFAULT_SPOOL_DIR,
        metavar="DIR",
        help=f"for --parallel (default {options.DEFAULT_SPOOL_DIR})",
    )
    parser.add_extension(
        "--abort-recovery-on-error", action="store_true",
        help="exit with 130 on errors other than 'not in the archive', so that PostgreSQL stops recovery",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("wal-restore", add_arguments, run, connectivity_exit_code=2)


def main() -> int:
    return run_command(COMMAND)
