"""Putting a file in its place so that it is complete, on disk and under its name all at once."""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from barman_cloud.store.base import Buffer

_PIECE = 1 << 20


def deliver(data: Iterable[Buffer], destination: str, directory: int | None = None) -> None:
    """Write the pieces ``data`` to ``destination``, replacing it: by a temporary name beside it, fsync and rename.

    ``directory`` is the descriptor of an open directory that the path begins in. The signals that end a command wait
    until the temporary file is gone (some milliseconds: the next piece isn't taken), so only SIGKILL can leave it
    behind, and the next call for the same destination takes it over. Raises ``InterruptedError`` if such a signal is
    handled by somebody. The mode follows the umask, which PostgreSQL sets for the commands that it runs.
    """
    with _SignalsPostponed() as noted:
        temporary, file = _open_temporary(destination, directory)
        try:
            try:
                _write(data, file, temporary, noted)
                os.replace(temporary, destination, src_dir_fd=directory, dst_dir_fd=directory)
            finally:
                os.close(file)  # only now, since this gives up the lock
        except BaseException:
            _remove(temporary, directory)
            raise


def move(source: str, destination: str, directory: int) -> None:
    """Rename ``source`` in ``directory``, a complete and durable file, to ``destination``; copy it if that's another
    file system.
    """
    try:
        os.replace(source, destination, src_dir_fd=directory)
    except OSError as error:
        import errno

        if error.errno != errno.EXDEV:
            raise
        deliver(_pieces(source, directory), destination)
        _remove(source, directory)


def _pieces(source: str, directory: int) -> Iterator[Buffer]:
    file = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        while piece := os.read(file, _PIECE):
            yield piece
    finally:
        os.close(file)


def _remove(path: str, directory: int | None) -> None:
    try:
        os.unlink(path, dir_fd=directory)
    except OSError:
        pass


def _open_temporary(destination: str, directory: int | None) -> tuple[str, int]:
    """Make an empty file beside ``destination``; return its path and descriptor.

    It always has the same name, so that what a killed call left behind is found and removed. A lock tells that from the
    file of another call for the same destination, beside which this one takes a name of its own.
    """
    folder, name = os.path.split(destination)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    usual = os.path.join(folder, f".{name}.barman-cloud.tmp")
    for _ in range(2):
        try:
            file = os.open(usual, flags, 0o666, dir_fd=directory)
        except FileExistsError:
            if not _remove_leftover(usual, directory):
                break
        except OSError:
            break  # the other name will fail as well, or else it's good
        else:
            if _lock(file, usual, directory):
                return usual, file
            os.close(file)
            break
    other = os.path.join(folder, f".{name}.{os.urandom(6).hex()}.tmp")
    return other, os.open(other, flags, 0o666, dir_fd=directory)


def _remove_leftover(path: str, directory: int | None) -> bool:
    """Remove the temporary file of a call that was killed; False if it is in use, or may be somebody else's."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        if not _lock(file, path, directory):
            return False
        os.unlink(path, dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


def _lock(file: int, path: str, directory: int | None) -> bool:
    """Lock an open file; False if another call has, if the path leads to another by now, or if it isn't just ours."""
    try:
        os.lockf(file, os.F_TLOCK, 0)
        status = os.fstat(file)
        same = os.path.samestat(status, os.stat(path, dir_fd=directory, follow_symlinks=False))
    except OSError:
        return False
    return same and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


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


def _write(data: Iterable[Buffer], file: int, path: str, noted: list[int]) -> None:
    for piece in data:
        if noted:  # making the pieces, decompression for one, may take long
            raise InterruptedError(f"{path}: stopped by signal {noted[0]}")
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[os.write(file, rest) :]
        except OSError as error:
            error.filename = path  # a descriptor has no name
            raise
    try:
        os.fsync(file)
    except OSError as error:
        error.filename = path
        raise
