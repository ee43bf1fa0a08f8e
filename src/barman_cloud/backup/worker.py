"""The workers of a backup: each turns one archive plan after another into an upload.

Reading, hashing, compressing and sending release the interpreter's lock, so the workers are threads. An archive flows
through its worker block by block: ``members → tar → compress → tally → throttle → store``.

There is one worker more than there are jobs. Only so many as there are jobs read and compress at the same time; the
other one waits for the store to take the last parts of its archive and to put them together.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from barman_cloud import logs
from barman_cloud.archive.buffers import Buffer
from barman_cloud.archive.checksum import Tally
from barman_cloud.archive.compression import SUFFIX, compress_stream
from barman_cloud.archive.manifest import EntrySpool
from barman_cloud.archive.tar import Member
from barman_cloud.archive.tar_stream import TarStream
from barman_cloud.archive.throttle import Throttle, throttle_stream
from barman_cloud.backup.members import Content, PlannedMembers
from barman_cloud.backup.pack import ArchivePlan, archive_capacity, part_size_for
from barman_cloud.backup.page_check import PageChecker, PageChecks
from barman_cloud.catalog.layout import Layout
from barman_cloud.incremental.increment import Increment
from barman_cloud.report.text import counted
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

UPLOAD_CONCURRENCY = 4
"""Parts of one archive that are on their way at the same time."""
SPARE_WORKERS = 1


class Cancelled(Exception):
    """The backup failed elsewhere: this upload is to be aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveForm:
    """What archives are like, as the user wants them. Sizes in bytes."""

    compression: str | None = None
    level: int | None = None
    max_archive_size: int = 100 << 30
    min_chunk_size: int | None = None
    """Of the parts of an upload."""


@dataclass(frozen=True, slots=True)
class Uploads(ArchiveForm):
    """Where and how the archives of one backup are stored."""

    store: ObjectStore
    layout: Layout
    backup_id: str
    throttle: Throttle | None = None
    tags: Mapping[str, str] | None = None
    page_checks: PageChecks | None = None


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """An archive that is complete in the store; ``size`` in bytes."""

    base: str
    part: int
    key: str
    size: int
    checksum: int
    """CRC-32C of the stored bytes."""
    members: int
    began: float
    """``time.monotonic()`` when its first byte was asked for, and when its upload was complete."""
    ended: float


class PartNumbers:
    """Hands out the part numbers of each base, ascending."""

    def __init__(self, plans: Iterable[ArchivePlan]) -> None:
        self._lock = threading.Lock()
        self._next: dict[str, int] = {}
        for plan in plans:
            self._next[plan.base] = max(self._next.get(plan.base, 0), plan.part + 1)

    def take(self, base: str) -> int:
        with self._lock:
            number = self._next.get(base, 0)
            self._next[base] = number + 1
            return number


class Workers:
    """The threads that make all planned archives, ``jobs`` of them reading and compressing at a time.

    ``wake`` is called, in the thread, as each of them ends.
    Not ``restore.pipeline.run_all``: an archive that grew too large adds another one to the queue, and the main thread
    waits for several things at once.
    """

    def __init__(
        self,
        uploads: Uploads,
        plans: Iterable[ArchivePlan],
        numbers: PartNumbers,
        cancelled: threading.Event,
        *,
        jobs: int,
        wake: Callable[[], None],
        fail: Callable[[BaseException], None],
        increment: Increment | None = None,
    ) -> None:
        self._uploads = uploads
        self._increment = increment
        self._plans = deque(plans)
        self._numbers = numbers
        self._wake = wake
        self._fail = fail
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._active = 0
        self.results: list[StoredArchive] = []
        self._turns = threading.Semaphore(jobs)
        self.spools = [EntrySpool() for _ in range(min(jobs + SPARE_WORKERS, len(self._plans)))]
        """One manifest entry for each archived file; complete when no worker runs any more."""
        self._threads = [
            threading.Thread(target=self._work, args=(spool,), name=f"worker-{number}", daemon=True)
            for number, spool in enumerate(self.spools, 1)
        ]

    def start(self) -> None:
        self._active = len(self._threads)
        for thread in self._threads:
            thread.start()

    @property
    def active(self) -> int:
        """How many workers have not ended yet."""
        with self._lock:
            return self._active

    def join(self, timeout: float) -> bool:
        """Wait for workers that were cancelled; False if one still waits for the store after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return self.active == 0

    def _work(self, spool: EntrySpool) -> None:
        pages = self._uploads.page_checks.checker() if self._uploads.page_checks else None
        try:
            while not self._cancelled.is_set():
                try:
                    plan = self._plans.popleft()
                except IndexError:
                    break
                self._make(plan, spool, pages)
            if pages and not self._cancelled.is_set():
                pages.flush()
        except Cancelled:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            self._fail(error)
        finally:
            with self._lock:
                self._active -= 1
            self._wake()

    def _make(self, plan: ArchivePlan, spool: EntrySpool, pages: PageChecker | None) -> None:
        uploads = self._uploads
        part_size = part_size_for(plan.size, uploads.store.capabilities, uploads.min_chunk_size)
        capacity = archive_capacity(part_size, uploads.store.capabilities, uploads.max_archive_size)
        members = PlannedMembers(plan, capacity, spool.add, pages, self._increment)
        archive = upload_archive(uploads, plan.base, plan.part, members, part_size, self._cancelled, self._turns)
        self.results.append(archive)
        if members.rest:
            self._plans.append(_renumbered(members.rest, self._numbers.take(plan.base)))


def upload_archive(
    uploads: Uploads,
    base: str,
    part: int,
    members: Iterable[tuple[Member, Content]],
    part_size: int,
    cancelled: threading.Event,
    turns: threading.Semaphore | None = None,
    *,
    threads: int = 1,
) -> StoredArchive:
    """Make one archive of ``members`` while it is uploaded; ``Cancelled`` aborts that once ``cancelled`` is set.

    One of ``turns`` is taken from its first byte to its last. ``threads`` may compress it, where the library can.
    """
    key = uploads.layout.archive(
        uploads.backup_id, base, part, SUFFIX[uploads.compression] if uploads.compression else ""
    )
    with ExitStack() as turn:
        if turns is not None:
            turn.enter_context(turns)
        began = time.monotonic()
        tar = TarStream(members, partial(_check, cancelled))
        stored = Tally(compress_stream(tar, uploads.compression, uploads.level, threads))
        uploads.store.put_stream(
            key,
            _followed_by(throttle_stream(stored, uploads.throttle), turn.close),
            kind="archive",
            part_size=part_size,
            concurrency=UPLOAD_CONCURRENCY,
            tags=uploads.tags,
        )
    ended = time.monotonic()
    url = uploads.store.object_url(key)
    count = counted(tar.count, "member")
    log.info("%s: %s, %.1f MiB stored in %.1f s", url, count, stored.size / 2**20, ended - began)
    return StoredArchive(base, part, key, stored.size, stored.crc32c, tar.count, began, ended)


def _followed_by(chunks: Iterable[Buffer], action: Callable[[], None]) -> Iterator[Buffer]:
    yield from chunks
    action()


def _check(cancelled: threading.Event) -> None:
    if cancelled.is_set():
        raise Cancelled


def _renumbered(plan: ArchivePlan, part: int) -> ArchivePlan:
    return ArchivePlan(plan.base, plan.root, part, plan.directories, plan.specials, plan.runs, plan.size)
