"""The background process of ``wal-archive --parallel``: archives what PostgreSQL has ready before it asks for it.

``acknowledged`` describes what it leaves in the spool; ``ahead`` is how it lives.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from barman_cloud.postgres.wal import parse_wal_name
from barman_cloud.wal import acknowledged
from barman_cloud.wal.ahead import IDLE_SECONDS, Crew, only_one
from barman_cloud.wal.archiver import ready_files
from barman_cloud.wal.delivery import remove

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barman_cloud.wal.archiver import Archiver

WINDOW_PER_JOB = 2
"""Files archived ahead, per job."""


class Uploader:
    """Archives the files that PostgreSQL will ask for next, ``jobs`` at a time."""

    def __init__(self, archiver: Archiver, directory: str, *, jobs: int, idle_seconds: float = IDLE_SECONDS) -> None:
        self._archiver = archiver
        self._directory = directory
        self._jobs = jobs
        self._idle_seconds = idle_seconds
        self._folder = ""
        self._ready: list[str] = []
        """Names of files in ``_folder`` that wait, in PostgreSQL's order, as they were when last looked at."""

    def run(self, path: str) -> None:
        """Archive what is ready beside the WAL file at ``path`` (absolute) until nothing is asked for any more.

        Returns at once if another process does so already. Raises ``SpoolError`` if the directory can't be used.
        """
        with only_one(self._directory, self._idle_seconds) as requests:
            if requests is None:
                return
            self._crew = Crew(self._directory, self._jobs, self._archive)
            try:
                self._plan(path)
                for request in requests:
                    if self._crew.hopeless:
                        break
                    self._plan(request)
            finally:
                self._crew.close()
                self._drop(self._spooled())

    def _plan(self, path: str) -> None:
        """Make the files after the one at ``path`` the window, and drop the entries of all before it."""
        window = {name: os.path.join(self._folder, name) for name in self._next_ready(path)}
        self._crew.move(window)
        # Its own entry stays for the case that PostgreSQL missed the answer and asks again.
        self._drop(self._spooled() - window.keys() - {os.path.basename(path)})

    def _next_ready(self, path: str) -> list[str]:
        """Return the files that PostgreSQL asks for next. A long backlog is listed once for many calls."""
        folder, own_name = os.path.split(path)
        size = self._jobs * WINDOW_PER_JOB
        if folder == self._folder and own_name in self._ready:
            del self._ready[: self._ready.index(own_name) + 1]
        else:
            self._folder, self._ready = folder, []
        if len(self._ready) < size:
            self._ready = ready_files(path)
        return self._ready[:size]

    def _archive(self, name: str, path: str) -> None:
        line = self._archiver.archive_ahead(path)
        if line is not None:
            acknowledged.record(self._directory, name, line)

    def _spooled(self) -> set[str]:
        if not os.path.isdir(self._directory):
            return set()
        return {name for name in os.listdir(self._directory) if parse_wal_name(name)}

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            remove(os.path.join(self._directory, name))
