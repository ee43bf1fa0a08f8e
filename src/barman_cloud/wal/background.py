"""What the two background processes share: one process per directory, requests, threads that work on a window.

``wal/restore_ahead.py`` fetches ahead of recovery, ``wal/archive_ahead.py`` archives ahead of the archiver. Both live
as long as PostgreSQL asks for files and a little longer. How the commands talk to them is in ``background_client``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import select
import stat
import threading
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from barman_cloud import logs
from barman_cloud.errors import SpoolError
from barman_cloud.postgres.wal import parse_wal_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from barman_cloud.wal.spool import Directory

log = logs.get_logger(__name__)

IDLE_SECONDS = 60.0
"""The process ends when nothing was asked for in this time."""
WINDOW_PER_JOB = 2
"""Files worked on ahead, per job."""
FAILURES = 3
"""So many failures with no success between them end it as well: a new process may have better credentials."""

T = TypeVar("T")


class Ahead(ABC, Generic[T]):
    """One of the two processes: keeps the files that PostgreSQL asks for next in ``directory``, done."""

    _largest: int | None = None
    """Files of more bytes aren't what it leaves under the names of WAL files; None: of any size."""

    def __init__(self, directory: Directory, jobs: int, idle_seconds: float) -> None:
        self._directory = directory
        self._jobs = jobs
        self._window_size = jobs * WINDOW_PER_JOB
        self._idle_seconds = idle_seconds

    def run(self, request: str) -> None:
        """Work on what follows ``request``, and on, until nothing is asked for any more.

        Returns at once if another process does so already. Raises ``SpoolError`` if the directory can't be used.
        """
        with only_one(self._directory, self._idle_seconds) as requests:
            if requests is None:
                return
            self._workers = WindowWorkers(self._directory, self._jobs, self._work)
            try:
                self._move(request)
                for latest in requests:
                    if self._workers.hopeless:
                        break
                    self._move(latest)
            finally:
                self._workers.close()
                self._drop_all_but(())

    @abstractmethod
    def _window_after(self, request: str) -> Mapping[str, T] | None:
        """Return the files that follow ``request``, in order, each with what :meth:`_work` needs; None: no change."""

    @abstractmethod
    def _work(self, name: str, task: T) -> None:
        """Leave the file ``name``, done, in the directory."""

    def _still_wanted(self, request: str) -> Collection[str]:
        """Return what must not be dropped although it isn't in the window after ``request``."""
        return ()

    def _move(self, request: str) -> None:
        window = self._window_after(request)
        if window is not None:
            self._workers.move(window)
            self._drop_all_but({*window, *self._still_wanted(request)})

    def _drop_all_but(self, names: Collection[str]) -> None:
        with suppress(FileNotFoundError):  # the directory was removed
            for name in self._directory.names():
                if parse_wal_name(name) and name not in names:
                    self._directory.remove(name, larger_than=self._largest)


class RequestQueue:
    """What PostgreSQL asks for, as it arrives: iterating ends when nothing came for a while, or the spool is gone."""

    def __init__(self, directory: Directory, idle_seconds: float) -> None:
        self._directory = directory
        self._idle_seconds = idle_seconds
        with suppress(FileExistsError):
            os.mkfifo("requests", 0o600, dir_fd=directory.descriptor)
        # Open for writing too, so that it stays open when the last writer is gone.
        self._fifo = directory.open("requests", os.O_RDWR | os.O_NONBLOCK)
        if not stat.S_ISFIFO(os.fstat(self._fifo).st_mode):
            raise FileExistsError(errno.EEXIST, "is no FIFO", "requests")

    def close(self) -> None:
        os.close(self._fifo)

    def __iter__(self) -> Iterator[str]:
        """Yield the latest request whenever there are new ones."""
        while select.select([self._fifo], [], [], self._idle_seconds)[0]:
            if not self._directory.holds("lock"):
                return
            lines = os.fsdecode(os.read(self._fifo, 1 << 16)).split("\n")[:-1]
            if lines:
                yield lines[-1]


@contextmanager
def only_one(directory: Directory, idle_seconds: float) -> Iterator[RequestQueue | None]:
    """Be the one process that works in ``directory``; None if another one does.

    What a killed one was working on is cleared away. Raises ``SpoolError`` for any OSError of the block.
    """
    try:
        lock = directory.open("lock", os.O_RDWR | os.O_CREAT)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            for name in directory.names():
                if name.endswith((".part", ".tmp")):
                    directory.remove(name)
            requests = RequestQueue(directory, idle_seconds)
            try:
                yield requests
            finally:
                requests.close()
        finally:
            os.close(lock)
    except OSError as error:
        raise SpoolError(f"can't use spool directory {directory.path}: {error}") from error


class WindowWorkers(Generic[T]):
    """``jobs`` threads that do the work of each file in a moving window, in order and once.

    Not ``restore.pipeline.run_all``, which ends with the first failure, and not the threads of ``store.upload``, which
    are one for each part: here a failure is one file's, and what has left the window is not begun any more.
    """

    def __init__(self, directory: Directory, jobs: int, work: Callable[[str, T], None]) -> None:
        """``work`` is called with a file's name and its task; a failure of it is logged, and the file left alone."""
        self._directory = directory
        self._work = work
        self._queue: queue.SimpleQueue[tuple[str, T] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._window: frozenset[str] = frozenset()
        self._on_their_way: set[str] = set()
        self._failures = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    @property
    def hopeless(self) -> bool:
        """Tell whether the work fails again and again, or a thread was lost."""
        return self._failures >= FAILURES or not all(thread.is_alive() for thread in self._threads)

    def wants(self, name: str) -> bool:
        """Tell whether the file is in the window."""
        return name in self._window

    def move(self, window: Mapping[str, T]) -> None:
        """Work on the files of ``window`` that the directory doesn't hold yet; others that haven't begun are left."""
        self._window = frozenset(window)
        with self._lock:
            for name, task in window.items():
                if name not in self._on_their_way and not self._directory.holds(name):
                    self._on_their_way.add(name)
                    self._queue.put((name, task))

    def close(self) -> None:
        """Let the threads finish what they are doing, and end them."""
        self._window = frozenset()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (order := self._queue.get()) is not None:
            name, task = order
            marker = f"{name}.part"
            try:
                if name in self._window:
                    # Tells the command that waiting is worth while.
                    os.close(self._directory.open(marker, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
                    self._work(name, task)
                    self._failures = 0
            except Exception as error:  # noqa: BLE001 - the command that needs the file will say it
                self._failures += 1
                with suppress(OSError):  # the log may be what can't be written
                    log.error("could not work ahead on %s: %s", name, error)  # noqa: TRY400 - a line, not a trace
            finally:
                self._directory.remove(marker)
                with self._lock:
                    self._on_their_way.discard(name)
