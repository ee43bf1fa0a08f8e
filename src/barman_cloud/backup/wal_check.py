"""Is the WAL that a backup needs in the archive? Without it, what is called DONE can't be recovered."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from barman_cloud import logs
from barman_cloud.backup.helper_threads import call_interruptibly
from barman_cloud.catalog import receiver_state
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import AccessDeniedError, BarmanCloudError
from barman_cloud.postgres.archiving import archiving_problem, streams_to
from barman_cloud.postgres.connection import Connection, ServerMetadata
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


def why_not_archived(
    connection: Connection, metadata: ServerMetadata, store: ObjectStore, layout: Layout
) -> str | None:
    """Return in one phrase why the server's WAL doesn't get into the archive; None if nothing speaks against it.

    Either way will do: that the server archives, or that a living ``wal-receive`` of this archive receives from it.
    """
    problem = archiving_problem(connection, metadata)
    if problem is None:
        return None
    try:
        receiver = call_interruptibly(lambda: receiver_state.read(store, layout))
    except BarmanCloudError as error:
        log.info("can't tell whether WAL is received: %s", error)
        return problem
    alive = receiver is not None and receiver.is_alive(datetime.now(UTC))
    if receiver is not None and alive and streams_to(connection, receiver.application_name):
        log.info("WAL gets into the archive by wal-receive (%s)", problem)
        return None
    return problem


def warn_of_missing_wal(
    find: Callable[[], list[str]],
    info: BackupInfo,
    *,
    timeout: float,
    sleep: Callable[[float], None],
    reason: str | None,
) -> list[str] | None:
    """Log a WARNING if WAL from the backup's begin to its end isn't in the archive within ``timeout`` seconds.

    ``find`` returns the names of the missing segments, ``reason`` is what the server's settings say of it. Nothing is
    raised for what the store answers: the backup is complete, whatever becomes of its WAL.
    Returns what is missing, None if that isn't known.
    """
    try:
        missing = _wait(find, info, timeout, sleep)
    except AccessDeniedError as error:
        log.info("can't tell whether the WAL of backup %s is in the archive: %s", info.backup_id, error)
        return None
    except BarmanCloudError as error:
        log.warning("can't tell whether the WAL of backup %s is in the archive: %s", info.backup_id, error)
        return None
    except KeyboardInterrupt as interruption:
        log.warning("backup %s is done; not waiting for its WAL: %s", info.backup_id, interruption)
        return None
    if not missing:
        log.debug("the WAL of backup %s is in the archive", info.backup_id)
        return missing
    which = missing[0] if len(missing) == 1 else f"{len(missing)} segments from {missing[0]} to {missing[-1]}"
    log.warning(
        "backup %s can't be recovered yet: the archive lacks its WAL, %s, up to %s%s%s",
        info.backup_id,
        which,
        info.end_xlog,
        f", after {timeout:.0f} seconds" if timeout else "",
        f" ({reason})" if reason else "",
    )
    return missing


def _wait(find: Callable[[], list[str]], info: BackupInfo, timeout: float, sleep: Callable[[float], None]) -> list[str]:
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        missing = find()
        left = deadline - time.monotonic()
        if not missing or left <= 0:
            return missing
        if pause == _FIRST_PAUSE:
            log.info("waiting up to %.0f seconds for WAL %s in the archive", timeout, missing[0])
        sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)
