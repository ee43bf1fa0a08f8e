"""``barman-cloud consolidate``: make a full backup out of a chain of incremental ones, from bucket to bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barman_cloud.cli import options, values
from barman_cloud.cli.command import Command

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments, Declarations


def add_arguments(parser: Declarations) -> None:
    options.add_common(parser, "destination_url")
    options.add_progress(parser)
    parser.add_argument("backup_id", help="id, name or shortcut of an incremental backup, such as 'last'")
    options.add_compression(parser, {"gzip": "-z", "bzip2": "-j"}, ("gzip", "bzip2", "snappy", "lz4", "zstd"))
    parser.add_argument(
        "--compression-level",
        type=values.compression_level,
        metavar="LEVEL",
        help="low, medium, high or a number of the algorithm",
    )
    parser.add_argument("-n", "--name", type=values.backup_name, help="a name for the new backup, besides its id")
    parser.add_argument("-J", "--jobs", type=values.positive, default=2, help="archives at a time (default 2)")
    parser.add_argument(
        "--memory",
        type=values.size,
        metavar="SIZE",
        help="hold so much of the changed blocks at a time (default 1GB, at least 64MB); more needs several passes",
    )
    options.add_upload_limits(parser)
    options.add_tags(parser)
    options.add_encryption(parser)
    options.add_storage_class(parser)


def run(args: Arguments) -> int | None:
    from barman_cloud.archive.allocator import keep_freed_buffers
    from barman_cloud.archive.compression import compression_level
    from barman_cloud.backup.archive_backup import BackupOptions
    from barman_cloud.backup.lifecycle import BackupRequest
    from barman_cloud.cli.summaries import of_consolidation
    from barman_cloud.consolidation.consolidate import MEMORY, ConsolidationOptions
    from barman_cloud.report.terminal import write

    keep_freed_buffers()
    level = args.compression_level
    archives = BackupOptions(
        BackupRequest(backup_name=args.name, tags=options.tags_from(args)),
        jobs=args.jobs,
        compression=args.compression,
        level=compression_level(args.compression, level) if args.compression and level is not None else None,
        max_archive_size=args.max_archive_size,
        min_chunk_size=args.min_chunk_size,
        max_bandwidth=args.max_bandwidth,
    )
    repository = options.repository_from(args)
    info = repository.consolidate(args.backup_id, ConsolidationOptions(archives, args.memory or MEMORY))
    repository.close()  # not after an error: threads may still wait for a store that doesn't answer
    args.summary = of_consolidation(info)
    write(f"{info.backup_id}\n")
    return None


COMMAND = Command("consolidate", add_arguments, run, interrupt_exit_code=1)
