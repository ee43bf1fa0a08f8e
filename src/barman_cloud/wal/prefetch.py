"""The background process of ``wal-restore --parallel``: keeps the segments ahead of recovery in the spool.

It lives as long as recovery asks for segments and a little longer, and talks to ``wal-restore`` through the directory
that ``prefetched`` describes. One process per directory holds the lock; a second one ends at once.
"""

from __future__ import annotations

import fcntl
import os
import queue
import select
import threading
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, SpoolError
from barman_cloud.postgres.wal import DEFAULT_SEGMENT_SIZE, WalName, parse_wal_name
from barman_cloud.wal.delivery import deliver, remove

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barman_cloud.wal.restorer import Restorer

log = logs.get_logger(__name__)

IDLE_SECONDS = 60.0
"""The process ends when nothing was asked for in this time."""
WINDOW_PER_JOB = 2
"""Segments kept ahead, per job."""


class Prefetcher:
    """Fetches the segments that follow those that recovery asks for, ``jobs`` at a time."""

    def __init__(self, restorer: Restorer, directory: str, *, jobs: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._restorer = restorer
        self._directory = directory
        self._jobs = jobs
        self._idle_seconds = idle_seconds
        self._segment_size, self._system = self._read_cluster()
        self._known: dict[str, str] = {}
        """Keys by segment name, from listings."""
        self._queue: queue.SimpleQueue[tuple[WalName, str] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._window: frozenset[str] = frozenset()
        self._on_their_way: set[str] = set()

    def run(self, position: str) -> None:
        """Go on after the segment ``position`` until nothing is asked for any more.

        Returns at once if another process does so already. Raises ``SpoolError`` if the directory can't be used.
        """
        lock = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            self._serve(position)
        except OSError as error:
            raise SpoolError(f"can't use spool directory {self._directory}: {error}") from error
        finally:
            os.close(lock)

    def _serve(self, position: str) -> None:
        for name in os.listdir(self._directory):
            if name.endswith((".part", ".tmp")):
                remove(self._path(name))
        if not os.path.exists(self._path("requests")):
            os.mkfifo(self._path("requests"), 0o600)
        # Open for writing too, so that it stays open when the last writer is gone.
        requests = os.open(self._path("requests"), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        workers = [threading.Thread(target=self._work, daemon=True) for _ in range(self._jobs)]
        for worker in workers:
            worker.start()
        try:
            self._plan(position)
            while names := self._wait_for_requests(requests):
                self._plan(names[-1])
        finally:
            self._window = frozenset()
            for _ in workers:
                self._queue.put(None)
            for worker in workers:
                worker.join()
            os.close(requests)
            self._drop(self._spooled())

    def _wait_for_requests(self, requests: int) -> list[str]:
        """Return the names asked for since the last time; none after the idle time, or when the spool is gone."""
        readable, _, _ = select.select([requests], [], [], self._idle_seconds)
        if not readable or not os.path.exists(self._path("lock")):
            return []
        return os.read(requests, 1 << 16).decode("ascii", "replace").split()

    def _plan(self, text: str) -> None:
        """Make the segments after ``text`` the window: drop what is spooled outside it, order what is missing in it."""
        position = parse_wal_name(text)
        if position is None:
            return
        self._known = {name: key for name, key in self._known.items() if name[:8] == text[:8] and name > text}
        wanted = self._next_stored(position)
        self._window = frozenset(name.text for name in wanted)
        spooled = self._spooled()
        self._drop(spooled - self._window)
        with self._lock:
            for name in wanted:
                if name.text not in spooled and name.text not in self._on_their_way:
                    self._on_their_way.add(name.text)
                    self._queue.put((name, self._known[name.text]))

    def _next_stored(self, position: WalName) -> list[WalName]:
        """Return the segments after ``position`` that are in the archive, to the first gap or the end of the window."""
        wanted: list[WalName] = []
        listed: set[str] = set()
        for text in position.following(self._segment_size):
            name = parse_wal_name(text)
            if name is None or len(wanted) == self._jobs * WINDOW_PER_JOB:
                break
            if text not in self._known and name.folder not in listed:
                listed.add(name.folder)
                try:
                    self._learn(name)
                except BarmanCloudError as error:
                    log.warning("could not list the WAL archive: %s", error)
            if text not in self._known:
                break
            wanted.append(name)
        return wanted

    def _learn(self, name: WalName) -> None:
        for found in self._restorer.listing(name):
            if len(found.name) == 24:
                self._known.setdefault(found.name, found.key)

    def _work(self) -> None:
        while (order := self._queue.get()) is not None:
            name, key = order
            try:
                if name.text in self._window:
                    self._fetch(name, key)
            except (BarmanCloudError, OSError) as error:
                log.error("could not fetch segment %s ahead: %s", name.text, error)  # noqa: TRY400 - a line, not a trace
            finally:
                remove(self._path(f"{name.text}.part"))
                with self._lock:
                    self._on_their_way.discard(name.text)

    def _fetch(self, name: WalName, key: str) -> None:
        with open(self._path(f"{name.text}.part"), "wb"):
            pass  # tells wal-restore that waiting is worth while
        header, content = self._restorer.fetch(name, key)
        assert header is not None  # only segments are fetched ahead
        with self._lock:
            self._settle_cluster(header.segment_size, header.system_identifier)
        if name.text in self._window:
            deliver(content, self._path(name.text))

    def _settle_cluster(self, segment_size: int, system: int) -> None:
        """Note whose segments these are; those of another cluster, spooled before, must go."""
        if (segment_size, system) == (self._segment_size, self._system):
            return
        self._drop(self._spooled())
        deliver([f"{segment_size} {system}\n".encode()], self._path("cluster"))
        self._segment_size, self._system = segment_size, system

    def _read_cluster(self) -> tuple[int, int | None]:
        try:
            with open(self._path("cluster"), encoding="utf-8") as file:
                size, system = map(int, file.read().split())
        except (OSError, ValueError):
            return DEFAULT_SEGMENT_SIZE, None
        return size, system

    def _spooled(self) -> set[str]:
        if not os.path.isdir(self._directory):
            return set()
        return {name for name in os.listdir(self._directory) if len(name) == 24 and parse_wal_name(name)}

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            remove(self._path(name))

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)
