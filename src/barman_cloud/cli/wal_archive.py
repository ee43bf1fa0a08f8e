"""``barman-cloud-wal-archive``: store one WAL file; for ``archive_command`` and Barman's pre-archive hook."""

from __future__ import annotations

import argparse

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command, Parser
from barman_cloud.cli.command import main as run_command

MIB = 1024**2


def add_arguments(parser: Parser) -> None:
    options.add_common(parser, "destination_url")
    parser.add_argument(
        "wal_path", nargs="?", help="path of the WAL file (%%p of archive_command); not needed in a Barman hook"
    )
    parser.extra_positional = "wal_path"
    options.add_compression(parser, {"gzip": "-z", "bzip2": "-j"}, ("gzip", "bzip2", "xz", "snappy", "zstd", "lz4"))
    parser.add_argument(
        "--compression-level", type=values.compression_level, default="medium", metavar="LEVEL",
        help="low, medium (default), high or a number of the algorithm",
    )  # fmt: skip
    options.add_tags(parser)
    options.add_tags(parser, "history-", "timeline history files, instead of the other tags")
    options.add_encryption(parser)
    azure = parser.add_argument_group("Azure uploads")
    azure.add_argument(
        "--max-block-size", type=values.size, default=4 * MIB, metavar="SIZE", help="of a block (default 4MB)"
    )
    azure.add_argument(
        "--max-concurrency", type=values.positive, default=1, metavar="N", help="blocks at a time (default 1)"
    )
    azure.add_argument(
        "--max-single-put-size",
        type=values.size,
        default=64 * MIB,
        metavar="SIZE",
        help="upload in one request up to this (default 64MB)",
    )
    parser.add_extension(
        "-p",
        "--parallel",
        type=values.integer,
        default=0,
        metavar="N",
        help="also archive the next N-1 segments that are ready",
    )
    parser.add_extension(
        "--spool-dir", default=options.DEFAULT_ARCHIVE_SPOOL_DIR, metavar="DIR", help="where --parallel remembers them"
    )
    parser.add_extension(
        "--overwrite", action="store_true", help="replace an archived file of the same name and other content"
    )


def run(args: argparse.Namespace) -> int | None:
    raise NotImplementedError


COMMAND = Command("wal-archive", add_arguments, run)


def main() -> int:
    return run_command(COMMAND)
