"""The process that works ahead of PostgreSQL; started by ``wal-archive`` and ``wal-restore`` with ``--parallel``.

``python -m barman_cloud.cli.wal_background archive|restore REQUEST <arguments of that command>`` goes on after REQUEST,
the path of a WAL file to archive or the name of a segment to restore.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from barman_cloud.cli.plain import Arguments
    from barman_cloud.wal.spool import Directory


def main() -> int:
    """Run until nothing is asked for any more. Errors go to ``ahead.log`` in the spool: nobody reads our stderr."""
    # PostgreSQL's files and pipes may have come along; what waits for their end must not wait for this process.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    kind, request, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]

    from barman_cloud import logs
    from barman_cloud.cli import wal_archive, wal_restore
    from barman_cloud.cli.command import parse
    from barman_cloud.deadline import Deadline
    from barman_cloud.errors import BarmanCloudError, UnexpectedError

    command, directory_of, work = {
        "archive": (wal_archive.COMMAND, wal_archive.spool_directory, _archive),
        "restore": (wal_restore.COMMAND, wal_restore.spool_directory, _restore),
    }[kind]
    args = parse(command, arguments)
    # Short, because the command that waits for a file tries on by itself.
    args.deadline = Deadline(Deadline.of_command(command.name, args.timeout).seconds / 4)
    try:
        directory = directory_of(args)
        # Opened for the first line: a process that finds another one at work must not touch the file.
        logs.configure(0, lambda: _log_file(directory))
        work(args, directory, request)
    except BarmanCloudError as error:
        logs.get_logger("barman_cloud").error("%s", error)  # a line for the user, not a trace
        return error.exit_code
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - nobody would ever see it
        logs.get_logger("barman_cloud").error("ended by a defect", exc_info=True)
        return UnexpectedError.exit_code
    return 0


def _log_file(directory: Directory) -> TextIO:
    return os.fdopen(
        directory.open("ahead.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        "w",
        encoding="utf-8",
        errors="backslashreplace",
    )


def _archive(args: Arguments, directory: Directory, path: str) -> None:
    from barman_cloud.cli import options, wal_archive
    from barman_cloud.wal.archive_ahead import Uploader

    with options.store_from(args) as store:
        archiver = wal_archive.archiver_from(args, store)
        os.chdir("/")  # nothing of ours may keep a file system busy
        Uploader(archiver, directory, jobs=args.parallel - 1).run(path)


def _restore(args: Arguments, directory: Directory, position: str) -> None:
    from barman_cloud.cli import options, wal_restore
    from barman_cloud.wal.restore_ahead import Prefetcher

    with options.store_from(args) as store:
        restorer = wal_restore.restorer_from(args, store)
        os.chdir("/")
        Prefetcher(restorer, directory, jobs=args.parallel).run(position)


if __name__ == "__main__":
    sys.exit(main())
