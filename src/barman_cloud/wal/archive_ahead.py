"""The background process of ``wal-archive --parallel``: archives what PostgreSQL has ready before it asks for it.

``archive_spool`` describes what it leaves in the spool; ``background`` is how it lives.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from barman_cloud.wal import archive_spool
from barman_cloud.wal.archiver import ready_files
from barman_cloud.wal.background import IDLE_SECONDS, Ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from barman_cloud.wal.archiver import Archiver
    from barman_cloud.wal.spool import Directory


class Uploader(Ahead[str]):
    """Archives the files that PostgreSQL will ask for next, ``jobs`` at a time. Requests are absolute paths."""

    _largest = archive_spool.LONGEST_ENTRY

    def __init__(
        self, archiver: Archiver, directory: Directory, *, jobs: int, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        super().__init__(directory, jobs, idle_seconds)
        self._archiver = archiver
        self._folder = ""
        self._ready: list[str] = []
        """Names of files in ``_folder`` that wait, in PostgreSQL's order, as they were when last looked at."""

    def _window_after(self, request: str) -> Mapping[str, str]:
        """Return the files that PostgreSQL asks for next. A long backlog is listed once for many calls."""
        folder, own_name = os.path.split(request)
        if folder == self._folder and own_name in self._ready:
            del self._ready[: self._ready.index(own_name) + 1]
        else:
            self._folder, self._ready = folder, []
        if len(self._ready) < self._window_size:
            self._ready = ready_files(request)
        return {name: os.path.join(folder, name) for name in self._ready[: self._window_size]}

    def _still_wanted(self, request: str) -> Collection[str]:
        # PostgreSQL may have missed the answer and ask again.
        return (os.path.basename(request),)

    def _work(self, name: str, task: str) -> None:
        line = self._archiver.archive_ahead(task)
        if line is not None:
            archive_spool.record(self._directory, name, line)
