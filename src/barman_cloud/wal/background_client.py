"""How ``wal-archive`` and ``wal-restore`` talk to the process that works ahead of PostgreSQL in the background.

There is at most one for each directory of the spool. In it lie, beside what it has done::

    <file>.part        it is working on this file now
    requests           a FIFO: what PostgreSQL asked for last. It has a reader as long as the process lives
    lock, ahead.log    of the process                                                (wal/background.py)

This module imports only what the interpreter has loaded anyway.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from barman_cloud.deadline import Deadline
    from barman_cloud.wal.spool import Directory, Kind

_PAUSE = 0.003


def announce(directory: Directory, request: str) -> bool:
    """Tell the background process that ``request`` was asked for; False if there is no such process."""
    try:
        fifo = directory.open("requests", os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        os.write(fifo, os.fsencode(f"{request}\n"))
    except BlockingIOError:
        pass  # it has plenty to read
    except OSError:
        return False
    finally:
        os.close(fifo)
    return True


def start(directory: Directory, command: Kind, request: str, arguments: Sequence[str]) -> None:
    """Have the work that follows ``request`` done ahead, by a new process unless one is alive.

    ``arguments`` are those of the ``wal-archive`` or ``wal-restore`` that calls. The process is a session of its own
    with nothing open that belongs to PostgreSQL, so no shutdown waits for it. Raises OSError if it can't be started.
    """
    if announce(directory, request):
        return
    import sys

    null = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    program = [sys.executable, "-P", "-m", "barman_cloud.cli.wal_background", command, request, *arguments]
    os.posix_spawn(sys.executable, program, os.environ, file_actions=null, setsid=True)


def await_work(directory: Directory, name: str, deadline: Deadline) -> None:
    """Wait while the background process works on ``name``, unless it has worked on it for long.

    That is half the time that the command has: the other half is left to do the work a second time.
    """
    marker, half = f"{name}.part", deadline.seconds / 2
    while not directory.holds(name) and _age(directory, marker) < half < deadline.left() and _is_alive(directory):
        import time

        time.sleep(_PAUSE)


def _age(directory: Directory, name: str) -> float:
    """Return the seconds since the file was made; infinity if there is none, or its time is none of this clock's."""
    import time

    try:
        age = time.time() - directory.stat(name).st_mtime
    except OSError:
        return float("inf")
    return age if age > -1 else float("inf")


def _is_alive(directory: Directory) -> bool:
    try:
        os.close(directory.open("requests", os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
