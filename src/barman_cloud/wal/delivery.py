"""Putting a file in its place so that it is complete, on disk and under its name all at once."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from barman_cloud.store.base import Buffer


def deliver(data: Iterable[Buffer], destination: str) -> None:
    """Write the pieces ``data`` to ``destination``, replacing it: by a temporary name beside it, fsync and rename.

    The signals that end a command wait until the temporary file is gone (some milliseconds: the next piece isn't
    taken), so only SIGKILL can leave it behind. Raises ``InterruptedError`` if such a signal is handled by somebody.
    The mode follows the umask, which PostgreSQL sets for the commands that it runs.
    """
    directory, name = os.path.split(destination)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.tmp")
    with _SignalsPostponed() as noted:
        try:
            _write(data, temporary, noted)
            os.replace(temporary, destination)
        except BaseException:
            remove(temporary)
            raise


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
        deliver([data], destination)
        remove(source)


def remove(path: str) -> None:
    """Remove a file that may have gone already; a file that can't be removed is left."""
    try:
        os.unlink(path)
    except OSError:
        pass


class _SignalsPostponed:
    """Notes the signals that would end the process and sends them again at the end of the block.

    Blocking them in this thread isn't enough: they would be delivered to one of the store client's threads. In other
    threads than the main one nothing is done.
    """

    def __enter__(self) -> list[int]:
        """Return the list that signals are noted in."""
        import signal

        self._noted: list[int] = []
        self._before: dict[int, Any] = {}
        try:
            for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
                self._before[number] = signal.signal(number, lambda number, _: self._noted.append(number))
        except ValueError:
            pass  # not the main thread
        return self._noted

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        for number in self._noted:
            os.kill(os.getpid(), number)


def _write(data: Iterable[Buffer], path: str, noted: list[int]) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        for piece in data:
            if noted:  # making the pieces, decompression for one, may take long
                raise InterruptedError(f"{path}: stopped by signal {noted[0]}")
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(file, rest) :]
        os.fsync(file)
    finally:
        os.close(file)
