"""Segments that the background process of ``wal-restore --parallel`` fetched ahead, and how to talk to it.

::

    <segment>           complete, checked, fsynced: it got this name by rename
    <segment>.part      on its way
    cluster             one line: segment size in bytes and system identifier of every segment in here
    seen                what the last listing taught about the archive           (wal/memory.py)
    requests            a FIFO: what PostgreSQL asked for last. It has a reader as long as the process lives
    lock, prefetch.log  of the background process                                 (wal/prefetch.py)
"""

from __future__ import annotations

import os

from barman_cloud.wal import spool
from barman_cloud.wal.delivery import move, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 60.0
"""Seconds to wait for a segment that is on its way before fetching it a second time."""
_PAUSE = 0.003


def serve(directory: str, name: str, destination: str) -> bool:
    """Put the segment ``name`` at ``destination`` if it was fetched ahead; wait for it if it is on its way.

    False if it isn't there (any more), or doesn't belong to the cluster that asks. Raises OSError when it can't be put
    at its destination.
    """
    path = os.path.join(directory, name)
    if not _arrived(directory, path):
        return False
    if not _fits(directory, path, destination):
        remove(path)
        return False
    try:
        move(path, destination)
    except FileNotFoundError:
        if os.path.lexists(path):
            raise
        return False
    return True


def announce(directory: str, name: str) -> bool:
    """Tell the background process that ``name`` was asked for; False if there is no such process."""
    try:
        fifo = os.open(os.path.join(directory, "requests"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fifo, f"{name}\n".encode())
    except BlockingIOError:
        pass  # it has plenty to read
    except OSError:
        return False
    finally:
        os.close(fifo)
    return True


def start(directory: str, name: str, arguments: Sequence[str]) -> None:
    """Start the background process for this command line, unless one is alive; it goes on after ``name``.

    It is a session of its own with nothing open that belongs to PostgreSQL, so no shutdown waits for it.
    """
    if announce(directory, name):
        return
    import sys

    null = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_RDWR, 0) for stream in (0, 1, 2)]
    command = [sys.executable, "-P", "-m", "barman_cloud.cli.wal_prefetch", name, *arguments]
    os.posix_spawn(sys.executable, command, os.environ, file_actions=null, setsid=True)


def answer(arguments: Sequence[str], default_spool_dir: str) -> bool:
    """Do what this ``wal-restore`` command line asks if the segment was fetched ahead; False means "look closer"."""
    spool_dir = spool.spool_dir_of(arguments, default_spool_dir)
    command = spool.command_of(arguments, variable=2)
    if spool_dir is None or command is None:
        return False
    constant, (name, destination) = command
    if len(name) != 24:
        return False
    directory = spool.directory_of_command(spool_dir, constant)
    try:
        if directory is None or not serve(directory, name, destination):
            return False
    except OSError:
        return False
    try:
        start(directory, name, arguments)
    except OSError:
        pass  # the segment is delivered; the next call that finds none fetched ahead will say what is wrong
    return True


def _arrived(directory: str, path: str) -> bool:
    """Wait while the segment is on its way; return whether it is there."""
    if os.path.isfile(path):
        return True
    waited = 0.0
    while os.path.exists(f"{path}.part") and waited < PATIENCE and _is_alive(directory):
        import time

        time.sleep(_PAUSE)
        waited += _PAUSE
    return os.path.isfile(path)


def _is_alive(directory: str) -> bool:
    try:
        os.close(os.open(os.path.join(directory, "requests"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _fits(directory: str, path: str, destination: str) -> bool:
    """Tell whether the segment has the size and the system identifier that it must have."""
    try:
        with open(os.path.join(directory, "cluster"), encoding="utf-8") as file:
            size, system = map(int, file.read().split())
        own = spool.own_system_identifier(os.path.abspath(destination))
        return os.stat(path).st_size == size and own in (None, system)
    except (OSError, ValueError):
        return False
