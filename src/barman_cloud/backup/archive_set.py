"""All archives of one backup: those that workers make, the last one, and the sidecar that lists them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from barman_cloud import logs
from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import PageChecksums
from barman_cloud.archive.manifest import EntrySpool
from barman_cloud.archive.tar import Member
from barman_cloud.backup.helper_threads import Events, call_interruptibly
from barman_cloud.backup.lanes import Lanes
from barman_cloud.backup.members import Content
from barman_cloud.backup.pack import in_order_of_work, part_size_for, plan_archives, target_size
from barman_cloud.backup.scan import DATA, ScannedBase
from barman_cloud.backup.worker import Cancelled, PartNumbers, StoredArchive, Uploads, Workers, upload_archive
from barman_cloud.errors import AccessDeniedError, OperationError
from barman_cloud.incremental.increment import Increment
from barman_cloud.report.text import counted

log = logs.get_logger(__name__)

_CANCEL_TIMEOUT = 10.0


class ArchiveSet:
    """The archives of one backup, made by ``jobs`` workers.

    :meth:`make` (of files that are here) or :meth:`receive` (of a stream), :meth:`add_last`, then the rest.
    """

    def __init__(self, uploads: Uploads, jobs: int) -> None:
        self._uploads = uploads
        self._jobs = jobs
        self._began = time.monotonic()
        self._cancelled = threading.Event()
        self._workers: Workers | None = None
        self._lanes: Lanes | None = None
        self._receiver: threading.Thread | None = None
        self._aborted = False
        self._numbers = PartNumbers(())
        self._archives: list[StoredArchive] = []

    @property
    def spools(self) -> Sequence[EntrySpool]:
        """The manifest entries of all files archived by :meth:`make`."""
        return self._workers.spools if self._workers else ()

    def make(self, trees: Sequence[ScannedBase], events: Events, increment: Increment | None = None) -> None:
        """Archive the trees and wait until all of it is stored; raises what a worker or ``events`` raises.

        With an ``increment`` the changed blocks of a file stand for it where that decides so.
        """
        plans = plan_archives(trees, jobs=self._jobs, max_archive_size=self._uploads.max_archive_size)
        count, size = sum(tree.file_count for tree in trees), sum(tree.size for tree in trees)
        files, archives = counted(count, "file"), counted(len(plans), "archive")
        log.info("%s of %.1f MiB are packed into %s", files, size / 2**20, archives)
        uploads = self._uploads
        uploads.progress.phase("copying", total=sum(plan.size for plan in plans), items=len(plans))
        for plan in plans:
            log.debug("%s, part %d: %d files, %.1f MiB", plan.base, plan.part, plan.file_count, plan.size / 2**20)
        self._numbers = PartNumbers(plans)
        self._workers = Workers(
            self._uploads,
            in_order_of_work(plans),
            self._numbers,
            self._cancelled,
            jobs=self._jobs,
            wake=events.wake,
            fail=events.fail,
            increment=increment,
        )
        self._workers.start()
        while self._workers.active:
            events.wait()
        events.check()
        self._archives.extend(self._workers.results)

    def receive(self, deal: Callable[[Lanes], None], total: int, events: Events, *, known: bool = True) -> None:
        """Archive what ``deal`` puts on the lanes, in a thread of its own, and wait until all of it is stored.

        ``total`` is about the size of it, in bytes, or the most that it may be unless that is ``known``. Raises what
        ``deal``, a lane or ``events`` raises.
        """
        self._uploads.progress.phase("copying", total=total if known and total else None)
        lanes = self._lanes = Lanes(
            self._uploads,
            self._numbers,
            self._cancelled,
            jobs=self._jobs,
            limit=target_size(total, self._jobs, self._uploads.max_archive_size),
            fail=events.fail,
        )
        ended = threading.Event()

        def work() -> None:
            try:
                deal(lanes)
                lanes.finish()
            except Cancelled:
                pass
            except BaseException as error:  # noqa: BLE001 - carried to the main thread
                events.fail(error)
            finally:
                ended.set()
                events.wake()

        self._receiver = threading.Thread(target=work, name="receiver", daemon=True)
        self._receiver.start()
        while not ended.is_set():
            events.wait()
        events.check()
        self._archives.extend(lanes.results)

    @property
    def stored_size(self) -> int:
        """Bytes of all archives in the store."""
        return sum(archive.size for archive in self._archives)

    @property
    def is_receiving(self) -> bool:
        """The thread of :meth:`receive` still runs."""
        return self._receiver is not None and self._receiver.is_alive()

    def add_last(self, members: Iterable[tuple[Member, Content]], size: int) -> None:
        """Make the last archive of ``data``, of about ``size`` bytes."""
        uploads = self._uploads
        part_size = part_size_for(size, uploads.store.capabilities, uploads.min_chunk_size)
        number = self._numbers.take(DATA)
        uploads.progress.phase("storing the last archive")
        with uploads.progress.item() as item:
            self._archives.append(
                call_interruptibly(
                    lambda: upload_archive(uploads, DATA, number, members, part_size, self._cancelled, item)
                )
            )

    def store_sidecar(self, page_checksums: PageChecksums | None = None) -> None:
        """Check that all archives are there, and store ``archives.json``."""
        self._require_all()
        uploads = self._uploads
        records = [
            archives_json.ArchiveRecord(
                name=archive.key.rpartition("/")[2],
                size=archive.size,
                checksum=archive.checksum,
                compression=uploads.compression,
                members=archive.members,
            )
            for archive in sorted(self._archives, key=lambda archive: (archive.base, archive.part))
        ]
        key = uploads.layout.archives_json(uploads.backup_id)
        data = archives_json.dump(records, page_checksums).encode()
        call_interruptibly(lambda: uploads.store.put(key, data, tags=uploads.tags))

    def copy_stats(self) -> dict[str, Any]:
        """Return ``copy_stats`` of ``backup.info``: Barman's keys in Barman's order, seconds."""
        spans: dict[str, list[StoredArchive]] = {}
        for archive in sorted(self._archives, key=lambda archive: archive.base):
            spans.setdefault(archive.base, []).append(archive)
        return {
            "total_time": round(time.monotonic() - self._began, 6),
            "number_of_workers": self._jobs,
            "analysis_time": 0,
            "analysis_time_per_item": dict.fromkeys(spans, 0),
            "copy_time_per_item": {base: _span(archives) for base, archives in spans.items()},
            "serialized_copy_time_per_item": {base: _sum(archives) for base, archives in spans.items()},
            "copy_time": _span(self._archives),
            "serialized_copy_time": _sum(self._archives),
        }

    def abort(self) -> None:
        """Stop all workers and abort their uploads, in seconds. A second call does nothing."""
        if self._aborted:
            return
        self._aborted = True
        self._cancelled.set()
        if self._uploads.throttle:
            self._uploads.throttle.open()
        ended = self._workers is None or self._workers.join(_CANCEL_TIMEOUT)
        if self._lanes and self._receiver:
            ended = self._lanes.cancel(_CANCEL_TIMEOUT) and ended
            self._receiver.join(_CANCEL_TIMEOUT)
        if not ended:
            log.warning("uploads that wait for the store could not be aborted: parts of them may stay in the bucket")

    def _require_all(self) -> None:
        """Check that every archive is in the store, of the size that was sent; ``OperationError`` names one if not.

        A deletion of a backup that still runs takes its archives along, and what would be called DONE then couldn't be
        restored. Credentials that may not list are trusted.
        """
        uploads = self._uploads
        try:
            level = call_interruptibly(lambda: uploads.store.list_level(uploads.layout.backup_dir(uploads.backup_id)))
        except AccessDeniedError as error:
            log.info("the archives are not counted: %s", error)
            return
        self.check_stored({item.key: item.size for item in level.objects})

    def check_stored(self, sizes: Mapping[str, int]) -> None:
        """Raise ``OperationError`` if an archive isn't among the stored objects (key to size), with the size sent."""
        uploads = self._uploads
        for archive in self._archives:
            found = sizes.get(archive.key)
            if found != archive.size:
                raise OperationError(
                    f"{uploads.store.object_url(archive.key)} "
                    + ("has vanished" if found is None else f"has {found} bytes instead of {archive.size}"),
                    hint="was the backup deleted while it was made?",
                )


def _span(archives: Sequence[StoredArchive]) -> float:
    return round(max(archive.ended for archive in archives) - min(archive.began for archive in archives), 6)


def _sum(archives: Sequence[StoredArchive]) -> float:
    return round(sum(archive.ended - archive.began for archive in archives), 6)
