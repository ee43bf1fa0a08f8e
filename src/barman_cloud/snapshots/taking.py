"""Taking the snapshots of one backup: begun together, waited for together, and removed together if it comes to that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from barman_cloud import logs
from barman_cloud.catalog.backup_info import Snapshot, SnapshotsInfo
from barman_cloud.errors import AccessDeniedError, BarmanCloudError, ConflictError, SnapshotError
from barman_cloud.snapshots.base import COMPLETE, AttachedDisk, SnapshotProvider, StartedSnapshot, snapshot_name
from barman_cloud.snapshots.mounts import Mount

log = logs.get_logger(__name__)

_FIRST_PAUSE = 0.2
_DISCARD_PAUSES = (2.0, 5.0, 10.0)
_THREADS = 32


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One disk's snapshot, from the moment that it was asked for."""

    disk: AttachedDisk
    name: str
    answer: Future[StartedSnapshot]

    @property
    def may_exist(self) -> bool:
        """False if the provider surely has no snapshot of ours under that name."""
        return not self.answer.cancelled() and not isinstance(
            self.answer.exception(), ConflictError | AccessDeniedError
        )

    @property
    def snapshot(self) -> StartedSnapshot | None:
        return None if self.answer.cancelled() or self.answer.exception() else self.answer.result()


class SnapshotSet:
    """The snapshots of one backup. ``wait`` is how the calling thread sleeps (seconds); it may raise."""

    def __init__(
        self,
        provider: SnapshotProvider,
        wait: Callable[[float], None],
        *,
        discard_pauses: Sequence[float] = _DISCARD_PAUSES,
    ) -> None:
        self._provider = provider
        self._wait = wait
        self._discard_pauses = discard_pauses
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="snapshot")
        self._attempts: list[_Attempt] = []
        self._snapshots: list[StartedSnapshot] = []

    def take(self, disks: Sequence[AttachedDisk], backup_id: str) -> None:
        """Make a snapshot of every disk and return when all are complete.

        The first error is raised once every request has its answer. Either way :meth:`discard` removes what was made.
        """
        for disk in disks:
            name = snapshot_name(disk.name, backup_id)
            log.info("taking snapshot %s of disk %s", name, disk.id)
            self._attempts.append(_Attempt(disk, name, self._pool.submit(self._provider.begin, disk, name)))
        while not all(attempt.answer.done() for attempt in self._attempts):
            self._wait(_FIRST_PAUSE)
        self._pool.shutdown()
        self._snapshots = [attempt.answer.result() for attempt in self._attempts]
        self._await_completion()

    def lock(self) -> None:
        """Lock the snapshots if the options ask for it. From then on discarding them may be refused."""
        self._snapshots = [self._provider.lock(snapshot) for snapshot in self._snapshots]

    def info(self, mounts: Mapping[str, Mount]) -> SnapshotsInfo:
        """Return what ``backup.info`` stores; ``mounts`` has a mount for each disk id."""
        return SnapshotsInfo(
            self._provider.kind,
            self._provider.provider_info(self._snapshots),
            tuple(
                Snapshot(mounts[made.disk.id].mount_point, mounts[made.disk.id].options, made.record)
                for made in self._snapshots
            ),
        )

    @property
    def identifiers(self) -> list[str]:
        """What the provider calls the snapshots that were made, or the names of those that may have been."""
        possible = [attempt for attempt in self._attempts if attempt.answer.done() and attempt.may_exist]
        return [attempt.snapshot.identifier if attempt.snapshot else attempt.name for attempt in possible]

    def discard(self) -> bool:
        """Delete every snapshot that was made, also one whose answer is still to come; what stays is logged by name.

        Returns whether none is left.
        """
        # A request that is under way can't be called back: its answer says what to delete.
        self._pool.shutdown(wait=True, cancel_futures=True)
        gone = True
        attempts = [attempt for attempt in self._attempts if attempt.may_exist]
        if attempts:
            log.info("removing the snapshots of the failed backup: %s", ", ".join(self.identifiers))
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="snapshot-removal") as pool:
                gone = all(list(pool.map(self._discard, attempts)))
        self._attempts = []
        return gone

    def _discard(self, attempt: _Attempt) -> bool:
        for pause in (*self._discard_pauses, None):
            try:
                # Some providers refuse to delete a snapshot that is still being made.
                self._provider.discard(attempt.disk, attempt.name, attempt.snapshot)
            except BarmanCloudError as error:
                if pause is None:
                    made = attempt.snapshot
                    log.error(  # noqa: TRY400 - one line; the trace is of no use here
                        "snapshot %s of disk %s stays behind, delete it by hand: %s",
                        made.identifier if made else attempt.name,
                        attempt.disk.id,
                        error,
                    )
                else:
                    log.info("can't remove snapshot %s yet: %s", attempt.name, error)
                    time.sleep(pause)
            else:
                return True
        return False

    def _await_completion(self) -> None:
        deadline = time.monotonic() + self._provider.wait_timeout
        pause, before = _FIRST_PAUSE, None
        while True:
            percent = self._provider.progress(self._snapshots)
            if percent != before:
                log.info("snapshots: %s", _describe(self._snapshots, percent))
                before = percent
            if all(done == COMPLETE for done in percent):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise SnapshotError(
                    f"snapshots are not complete after {self._provider.wait_timeout:g} s: "
                    f"{_describe(self._snapshots, percent)}"
                )
            self._wait(min(pause, left))
            pause = min(2 * pause, self._provider.poll_seconds)


def _describe(snapshots: Sequence[StartedSnapshot], percent: Sequence[int]) -> str:
    return ", ".join(f"{snapshot.name} {done} %" for snapshot, done in zip(snapshots, percent, strict=True))
