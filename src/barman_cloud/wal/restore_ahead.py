"""The background process of ``wal-restore --parallel``: keeps the segments ahead of recovery in the spool.

``restore_spool`` describes what it leaves there; ``background`` is how it lives.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import BarmanCloudError, IntegrityError
from barman_cloud.postgres.wal import DEFAULT_SEGMENT_SIZE, WalName, parse_wal_name
from barman_cloud.wal import restore_spool
from barman_cloud.wal.background import IDLE_SECONDS, Ahead
from barman_cloud.wal.delivery import deliver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barman_cloud.wal.restorer import Restorer
    from barman_cloud.wal.spool import Directory

log = logs.get_logger(__name__)


class Prefetcher(Ahead[tuple[WalName, str]]):
    """Fetches the segments that follow those that recovery asks for, ``jobs`` at a time. Requests are their names."""

    def __init__(
        self, restorer: Restorer, directory: Directory, *, jobs: int, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        super().__init__(directory, jobs, idle_seconds)
        self._restorer = restorer
        self._segment_size, self._system = self._read_cluster()
        self._known: dict[str, str] = {}
        """Keys by segment name, from listings."""
        self._lock = threading.Lock()
        self._processors = threading.Semaphore(os.cpu_count() or 1)

    def _window_after(self, request: str) -> Mapping[str, tuple[WalName, str]] | None:
        position = parse_wal_name(request)
        if position is None:
            return None
        self._known = {name: key for name, key in self._known.items() if name[:8] == request[:8] and name > request}
        return {name.text: (name, self._known[name.text]) for name in self._next_stored(position)}

    def _next_stored(self, position: WalName) -> list[WalName]:
        """Return the segments after ``position`` that are in the archive, to the first gap or the end of the window."""
        wanted: list[WalName] = []
        listed: set[str] = set()
        for text in position.following(self._segment_size):
            name = parse_wal_name(text)
            if name is None or len(wanted) == self._window_size:
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
            if found.is_full_segment:
                self._known.setdefault(found.name, found.key)

    def _work(self, name: str, task: tuple[WalName, str]) -> None:
        try:
            self._fetch(name, *task)
        except IntegrityError:
            restore_spool.note_damage(self._directory, name)
            raise

    def _fetch(self, name: str, wal_name: WalName, key: str) -> None:
        header, content = self._restorer.fetch(wal_name, key, thorough=True)
        assert header is not None  # only segments are fetched ahead
        with self._lock:
            self._settle_cluster(header.segment_size, header.system_identifier)
        # Downloads overlap, but what the processors have to do is done one segment after the other: recovery waits for
        # the first one, and would get it last if all took turns.
        with self._processors:
            if self._workers.wants(name):
                deliver(content, name, self._directory.descriptor)

    def _settle_cluster(self, segment_size: int, system: int) -> None:
        """Note whose segments these are; those of another cluster, spooled before, must go."""
        if (segment_size, system) == (self._segment_size, self._system):
            return
        self._drop_all_but(())
        self._directory.write("cluster", f"{segment_size} {system}\n")
        self._segment_size, self._system = segment_size, system

    def _read_cluster(self) -> tuple[int, int | None]:
        try:
            size, system = map(int, self._directory.read("cluster").split())
        except (OSError, ValueError):
            return DEFAULT_SEGMENT_SIZE, None
        return size, system
