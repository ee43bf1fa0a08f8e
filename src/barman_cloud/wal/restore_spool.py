"""Segments that the background process of ``wal-restore --parallel`` fetched ahead.

::

    <segment>           complete, checked, fsynced: it got this name by rename
    cluster             one line: segment size in bytes and system identifier of every segment in here
    <segment>.damaged   what is stored fails its checksums: the call for it must say how, and deliver nothing
    seen                what the last listing taught about the archive           (wal/key_hint.py)
    ...                 what ``background_client`` lists
"""

from __future__ import annotations

import os

from barman_cloud.wal import background_client, spool
from barman_cloud.wal.delivery import move

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from barman_cloud.deadline import Deadline
    from barman_cloud.wal.spool import Directory


_DAMAGED = ".damaged"


def serve(directory: Directory, name: str, destination: str, deadline: Deadline) -> bool:
    """Put the segment ``name`` at ``destination`` if it was fetched ahead; wait for it if it is on its way.

    False if it isn't there (any more), or doesn't belong to the cluster that asks. Raises OSError when it can't be put
    at its destination.
    """
    background_client.await_work(directory, name, deadline)
    if not directory.holds(name):
        return False
    if not _fits(directory, name, destination):
        directory.remove(name)
        return False
    try:
        move(name, destination, directory.descriptor)
    except FileNotFoundError:
        if directory.holds(name):
            raise
        return False
    return True


def note_damage(directory: Directory, name: str) -> None:
    """Let the call for the segment ``name`` know that what is stored must be looked at closely. Raises OSError."""
    directory.write(f"{name}{_DAMAGED}", "")


def is_damaged(directory: Directory, name: str) -> bool:
    """Tell whether the background process found the segment ``name`` damaged."""
    return directory.holds(f"{name}{_DAMAGED}")


def forget_damage(directory: Directory, name: str) -> None:
    """Note that the segment ``name`` was looked at closely and is right."""
    directory.remove(f"{name}{_DAMAGED}")


def answer(arguments: Sequence[str], deadline: Deadline) -> bool:
    """Do what this ``wal-restore`` command line asks if the segment was fetched ahead; False means "look closer"."""
    spool_dir = spool.spool_dir_of(arguments, "restore")
    command = spool.command_of(arguments, variable=2)
    if spool_dir is None or command is None:
        return False
    constant, (name, destination) = command
    if len(name) != spool.SEGMENT_NAME_LENGTH:
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


def _fits(directory: Directory, name: str, destination: str) -> bool:
    """Tell whether the segment has the size and the system identifier that it must have."""
    try:
        size, system = map(int, directory.read("cluster").split())
        own = spool.own_system_identifier(os.path.abspath(destination))
        return directory.stat(name).st_size == size and own in (None, system)
    except (OSError, ValueError):
        return False
