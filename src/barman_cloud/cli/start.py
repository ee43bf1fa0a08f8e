"""Where the commands start that do long or frequent work, and how they end: at once.

``barman-cloud-wal-archive`` and ``barman-cloud-wal-restore`` are as quick as Python can. With ``--parallel``, most
calls find their work done by an earlier one. They are answered here, before the parser, logging or a store is imported;
everything else goes on to the command's own module.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False  # as in typing, whose import would cost more than the short way takes
if TYPE_CHECKING:
    from typing import NoReturn

ARCHIVE_SPOOL_DIR = "/var/tmp/walarchive"  # noqa: S108 - beside the one below
RESTORE_SPOOL_DIR = "/var/tmp/walrestore"  # noqa: S108 - the original's default


def umbrella() -> NoReturn:
    """Run ``barman-cloud COMMAND`` and end the process with its exit code."""
    from barman_cloud.cli.main import main

    _leave(main())


def backup() -> NoReturn:
    """Run ``barman-cloud-backup`` and end the process with its exit code."""
    from barman_cloud.cli.backup import main

    _leave(main())


def restore() -> NoReturn:
    """Run ``barman-cloud-restore`` and end the process with its exit code."""
    from barman_cloud.cli.restore import main

    _leave(main())


def wal_archive() -> NoReturn:
    """Run ``barman-cloud-wal-archive`` and end the process with its exit code."""
    gc.disable()  # these processes end before there is anything to collect
    from barman_cloud.wal import acknowledged

    if acknowledged.answer(sys.argv[1:], ARCHIVE_SPOOL_DIR):
        _leave(0)
    from barman_cloud.cli.wal_archive import main

    _leave(main())


def wal_restore() -> NoReturn:
    """Run ``barman-cloud-wal-restore`` and end the process with its exit code."""
    gc.disable()
    try:
        from barman_cloud.wal import prefetched

        if prefetched.answer(sys.argv[1:], RESTORE_SPOOL_DIR):
            _leave(0)
        from barman_cloud.cli.wal_restore import main
    except ImportError as error:
        # Uncaught it would end with 1, which means "not in the archive": PostgreSQL would end recovery on it.
        print(f"barman-cloud-wal-restore: the installation is incomplete: {error}", file=sys.stderr)
        _leave(4)
    _leave(main())


def _leave(code: int) -> NoReturn:
    """End at once, without taking interpreter and store client down.

    That takes longer than sending a segment, and waits for threads that may wait for a store which doesn't answer.
    Nothing is lost with it: what these commands do is durable when they return, and stderr holds no complete line back.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        code = code or 4  # nobody reads the output
    os._exit(code)
