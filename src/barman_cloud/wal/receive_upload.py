"""Storing what ``wal-receive`` has in its spool: several files at a time, until the store has taken them."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from barman_cloud import logs
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    BucketNotFoundError,
    ConflictError,
    ConnectivityError,
    IntegrityError,
    StoreError,
)
from barman_cloud.report import progress
from barman_cloud.wal.receive_spool import PARTIAL

if TYPE_CHECKING:
    from barman_cloud.wal.archiver import Archiver

log = logs.get_logger(__name__)

MAY_PASS = (ConnectivityError, AccessDeniedError, BucketNotFoundError, StoreError)
"""What the operator or time may mend while the WAL is safe in the spool."""
LONGEST_WAIT = 30.0
REMINDER = 60.0


class Uploader:
    """Archives files, by threads of its own. Nothing is removed from the spool before it is stored."""

    def __init__(self, archiver: Archiver, workers: int, drop_partial: Callable[[str], None]) -> None:
        """``drop_partial`` deletes the partial copy of a segment from the store, once the full one is there.

        ``ConflictError`` from it means that they aren't of the same WAL.
        """
        self._archiver = archiver
        self._drop_partial = drop_partial
        self._progress = progress.current()
        self._waiting: deque[str] = deque()
        self._busy: set[str] = set()
        self._changed = threading.Condition()
        self._failing = False
        self.problem: str | None = None
        """Why the store doesn't take WAL now, if it doesn't."""
        self._warned = 0.0
        self._pause = 1.0
        self._stored_partials: set[str] = set()
        self._stored_segments: set[str] = set()
        self.failure: BaseException | None = None
        """What time won't mend: nothing more is stored."""
        for number in range(workers):
            threading.Thread(target=self._work, name=f"upload-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many files aren't stored yet."""
        with self._changed:
            return len(self._waiting) + len(self._busy)

    def add(self, path: str) -> None:
        """Store the file at ``path``, then remove it; one that waits already is stored once."""
        with self._changed:
            if path not in self._waiting:
                self._waiting.append(path)
                self._changed.notify()

    def holds(self, path: str) -> bool:
        """Tell whether the file at ``path`` waits, or is being stored."""
        with self._changed:
            return path in self._waiting or path in self._busy

    def wait(self, seconds: float, most: int = 0) -> bool:
        """Wait until no more than ``most`` files wait, and tell whether that is so; ends with the first failure."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.failure is not None or len(self._waiting) + len(self._busy) <= most, seconds
            ) and (self.failure is None)

    def _work(self) -> None:
        while self.failure is None:
            with self._changed:
                self._changed.wait_for(lambda: self._next() is not None)
                path = str(self._next())
                self._waiting.remove(path)
                self._busy.add(path)
            stored = self._try(path)
            with self._changed:
                self._busy.discard(path)
                if not stored:
                    self._waiting.appendleft(path)
                self._changed.notify_all()
            if not stored:
                time.sleep(self._pause)

    def _next(self) -> str | None:
        """Return the first path that may be stored now.

        Copies of one partial segment go one after another: each looks at what is stored, and replaces less by more.
        """
        busy = {os.path.basename(path) for path in self._busy}
        return next((path for path in self._waiting if os.path.basename(path) not in busy), None)

    def may_have_partial(self, segment: str) -> None:
        """Note that the store may have a partial copy of the segment, of an earlier receiver."""
        with self._changed:
            self._stored_partials.add(segment)

    def _try(self, path: str) -> bool:
        try:
            size = os.stat(path).st_size
            stored = self._archiver.archive(path)
            os.unlink(path)
        except MAY_PASS as error:
            self._note_failure(error)
            return False
        except (ConflictError, IntegrityError) as error:
            if path.endswith(PARTIAL):  # the segment is received again from its beginning
                log.warning("a partial segment isn't stored and stays in the spool: %s", error)
                return True
            self.failure = error
            return False
        except BaseException as error:  # noqa: BLE001 - a panic of the store's client must not end a thread in silence
            self.failure = error
            return False
        self._note_success()
        if stored is not None and not path.endswith(PARTIAL):
            self._progress.add(data=size, stored=stored, items=1)
        self._tidy(os.path.basename(path))
        return True

    def _tidy(self, name: str) -> None:
        """Remove the partial copy of a segment that is there in full now, in whichever order they came."""
        segment = name.removesuffix(PARTIAL)
        with self._changed:
            (self._stored_partials if name.endswith(PARTIAL) else self._stored_segments).add(segment)
            both = segment in self._stored_partials and segment in self._stored_segments
            if both:
                self._stored_partials.discard(segment)
            elif segment in self._stored_segments and len(self._stored_segments) > 64:
                self._stored_segments = {segment}
        if not both:
            return
        try:
            self._drop_partial(segment)
        except ConflictError as error:
            self.failure = error
        except BarmanCloudError as error:
            log.info("the partial copy of %s stays beside the full one: %s", segment, error)

    def _note_failure(self, error: BarmanCloudError) -> None:
        with self._changed:
            now = time.monotonic()
            if not self._failing or now - self._warned >= REMINDER:
                self._warned = now
                log.warning(
                    "WAL can't be stored and waits in the spool (%d files): %s",
                    len(self._waiting) + len(self._busy), error,
                )  # fmt: skip
            self._pause = min(self._pause * 2, LONGEST_WAIT) if self._failing else 1.0
            self._failing = True
            self.problem = f"WAL can't be stored and waits in the spool: {error}"

    def _note_success(self) -> None:
        with self._changed:
            if self._failing:
                log.warning("the store takes WAL again; %d files wait", len(self._waiting))
            self._failing = False
            self.problem = None
            self._pause = 1.0
