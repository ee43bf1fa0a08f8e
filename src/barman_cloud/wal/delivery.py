"""Putting a file in its place so that it is complete, on disk and under its name all at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barman_cloud.store.base import Buffer


def deliver(data: Buffer, destination: str) -> None:
    """Write ``data`` to ``destination``, replacing it: by a temporary name beside it, fsync and rename.

    The signals that end a command wait until it is done (some milliseconds), so only SIGKILL can leave the temporary
    file behind. The mode follows the umask, which PostgreSQL sets for the commands that it runs.
    """
    import signal

    directory, name = os.path.split(destination)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    ending = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    try:
        _write(data, temporary)
        os.replace(temporary, destination)
    except BaseException:
        remove(temporary)
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def move(source: str, destination: str) -> None:
    """Rename ``source``, a complete and durable file, to ``destination``; copy it if that's another file system."""
    try:
        os.replace(source, destination)
    except OSError as error:
        import errno

        if error.errno != errno.EXDEV:
            raise
        with open(source, "rb") as file:
            data = file.read()
        deliver(data, destination)
        remove(source)


def remove(path: str) -> None:
    """Remove a file that may have gone already; a file that can't be removed is left."""
    try:
        os.unlink(path)
    except OSError:
        pass


def _write(data: Buffer, path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)
