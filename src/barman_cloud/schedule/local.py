"""What keeps processes of one machine apart: lock files, which end with who holds them."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from barman_cloud.config.server import Server
from barman_cloud.errors import ConfigurationError

LOG_LIMIT = 10 << 20
"""Bytes after which the log of scheduled jobs begins anew; the one before is kept."""


class FileLock:
    """A lock file that this process holds, and every process that it passes :attr:`descriptor` to."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self) -> None:
        """Let go of it, as far as this process is concerned."""
        os.close(self.descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def try_lock(path: Path) -> FileLock | None:
    """Lock a file, made if it isn't there; None if somebody else has locked it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return FileLock(descriptor)


def lock_directory(common: Server) -> Path:
    """Return the directory of lock files, made if it isn't there. ``ConfigurationError`` if it can't be used."""
    path = Path(common["barman_lock_directory"])
    return _made(path, common, "barman_lock_directory" if "barman_lock_directory" in common else "barman_home")


def lock_path(directory: Path, server: str, name: str) -> Path:
    """Return the lock file of a server's job."""
    return directory / f".{re.sub('[^A-Za-z0-9_.:-]', '_', server)}-{name}.lock"


def free_places(directory: Path, kind: str, count: int) -> list[FileLock]:
    """Lock and return those of ``count`` places for jobs of this machine that are free."""
    return [lock for number in range(count) if (lock := try_lock(directory / f".cron-{kind}-{number}.lock"))]


def open_log(common: Server) -> int:
    """Open the file that jobs write their messages to, and return its descriptor.

    It is ``log_file``, or else ``barman-cloud.log`` in ``barman_home``, which begins anew when it is large.
    """
    if "log_file" in common:
        path = Path(common["log_file"])
    else:
        path = _made(Path(common["barman_home"]), common, "barman_home") / "barman-cloud.log"
        with suppress(FileNotFoundError):
            if path.stat().st_size > LOG_LIMIT:
                path.replace(path.with_suffix(".log.1"))
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    except OSError as error:
        place = f"{common.places['log_file']}: " if "log_file" in common else ""
        raise ConfigurationError(
            f"{place}the log {path} can't be opened: {error.strerror}", hint="set log_file to one that can be written"
        ) from None


def _made(path: Path, common: Server, key: str) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "this user can't write to it")
    except OSError as error:
        place = f"{common.places[key]}: " if key in common else ""
        raise ConfigurationError(
            f"{place}{key} {path} can't be used: {error.strerror}", hint=f"set {key} to a directory of this user"
        ) from None
    return path
