"""Segments that the background process of ``wal-restore --parallel`` fetched ahead.

::

    <segment>           complete, checked, fsynced: it got this name by rename
    cluster             one line: segment size in bytes and system identifier of every segment in here
    seen                what the last listing taught about the archive           (wal/key_hint.py)
    ...                 what ``background_client`` lists
"""

from __future__ import annotations

import os

from barman_cloud.wal import background_client, spool
from barman_cloud.wal.delivery import move, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from barman_cloud.deadline import Deadline


def serve(directory: str, name: str, destination: str, deadline: Deadline) -> bool:
    """Put the segment ``name`` at ``destination`` if it was fetched ahead; wait for it if it is on its way.

    False if it isn't there (any more), or doesn't belong to the cluster that asks. Raises OSError when it can't be put
    at its destination.
    """
    path = os.path.join(directory, name)
    background_client.await_work(directory, name, deadline)
    if not os.path.isfile(path):
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


def answer(arguments: Sequence[str], default_spool_dir: str, deadline: Deadline) -> bool:
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
        if directory is None or not serve(directory, name, destination, deadline):
            return False
    except OSError:
        return False
    try:
        background_client.start(directory, "restore", name, arguments)
    except OSError:
        pass  # the segment is delivered; the next call that finds none fetched ahead will say what is wrong
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
