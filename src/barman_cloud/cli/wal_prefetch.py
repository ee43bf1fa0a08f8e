"""The background process of ``wal-restore --parallel``; started by ``wal-restore`` with its own command line.

``python -m barman_cloud.cli.wal_prefetch SEGMENT <arguments of wal-restore>`` goes on after SEGMENT.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Run until nothing is asked for any more. Errors go to ``prefetch.log`` in the spool: nobody reads our stderr."""
    # PostgreSQL's files and pipes may have come along; what waits for their end must not wait for this process.
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    position, arguments = sys.argv[1], sys.argv[2:]

    from barman_cloud import logs
    from barman_cloud.cli import options, wal_restore
    from barman_cloud.cli.command import parse
    from barman_cloud.errors import BarmanCloudError
    from barman_cloud.wal import spool
    from barman_cloud.wal.prefetch import Prefetcher
    from barman_cloud.wal.restorer import Restorer

    args = parse(wal_restore.COMMAND, arguments)
    try:
        directory = spool.prepare(args.spool_dir, "restore", options.spool_key(args))
        # Made by the first line only: a process that finds another one at work must not touch the file.
        logs.configure(0, os.path.join(directory, "prefetch.log"))
        with options.store_from(args, retry_budget=wal_restore.RETRY_BUDGET) as store:
            os.chdir("/")  # nothing of ours may keep a file system busy
            restorer = Restorer(store, options.layout_from(args, store))
            Prefetcher(restorer, directory, jobs=args.parallel).run(position)
    except BarmanCloudError as error:
        logs.get_logger("barman_cloud").error("%s", error)  # a line for the user, not a trace
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
