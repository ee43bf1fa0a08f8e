"""Where ``barman-cloud-wal-archive`` and ``barman-cloud-wal-restore`` start: as quick as Python can.

With ``--parallel``, most calls find their work done by an earlier one. They are answered here, before the parser,
logging or a store is imported; everything else goes on to the command's own module.
"""

from __future__ import annotations

import os
import sys

ARCHIVE_SPOOL_DIR = "/var/tmp/walarchive"  # noqa: S108 - beside the one below
RESTORE_SPOOL_DIR = "/var/tmp/walrestore"  # noqa: S108 - the original's default


def wal_archive() -> int:
    """Run ``barman-cloud-wal-archive`` and return its exit code."""
    from barman_cloud.wal import acknowledged

    if acknowledged.answer(sys.argv[1:], ARCHIVE_SPOOL_DIR):
        _leave()
    from barman_cloud.cli.wal_archive import main

    return main()


def wal_restore() -> int:
    """Run ``barman-cloud-wal-restore`` and return its exit code."""
    try:
        from barman_cloud.wal import prefetched

        if prefetched.answer(sys.argv[1:], RESTORE_SPOOL_DIR):
            _leave()
        from barman_cloud.cli.wal_restore import main
    except ImportError as error:
        # Uncaught it would end with 1, which means "not in the archive": PostgreSQL would end recovery on it.
        print(f"barman-cloud-wal-restore: the installation is incomplete: {error}", file=sys.stderr)
        return 4
    return main()


def _leave() -> None:
    """End at once: taking the interpreter down in an orderly way costs more than the answer did."""
    os._exit(0)
