"""Lock files of this machine, as Barman's: ``.<server>-<task>.lock``, held by flock, with the holder's pid in them.

They keep two processes of one machine apart (leases in the bucket do so for several), and tell which process to stop.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from barman_cloud.errors import ConfigurationError, ConflictError
from barman_cloud.schedule.local import lock_path


@contextmanager
def held(directory: str, server: str, task: str, busy: str) -> Iterator[None]:
    """Hold the lock of a task; ``ConflictError`` with the message ``busy`` if another process has it.

    ``ConfigurationError`` if the directory can't be used.
    """
    path = lock_path(Path(directory), server, task)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the lock file {path} can't be used: {error.strerror}",
            hint="set barman_lock_directory to a directory that this user can write to",
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(busy) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """Return the pid of the process that holds a lock file, None if nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            return int(text) if re.fullmatch("[0-9]+", text) else 0
        return None
    finally:
        os.close(descriptor)


def running(directory: str, server: str) -> dict[str, int]:
    """Return the tasks of a server that run on this machine, with their pids."""
    found = {}
    prefix = lock_path(Path(directory), server, "").name.removesuffix(".lock")
    for path in sorted(Path(directory).glob(f"{prefix}*.lock")) if Path(directory).is_dir() else ():
        task = path.name[len(prefix) : -len(".lock")]
        if pid := holder(path):
            found[task] = pid
    return found
