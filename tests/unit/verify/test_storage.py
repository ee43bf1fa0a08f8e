"""What check tells of signs of life, of unfinished uploads, and of locks that contradict a retention policy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.retention import parse_policy
from barman_cloud.errors import AccessDeniedError
from barman_cloud.store.base import Capabilities, ObjectLock, PendingUpload
from barman_cloud.verify.check import check
from barman_cloud.verify.findings import Finding, Level
from barman_cloud.verify.limits import Limits
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Store(MemoryStore):
    """Tells of these uploads, and of a lock for each backup id."""

    capabilities = Capabilities(object_lock=True)
    uploads: Callable[[], list[PendingUpload]]
    locks: dict[str, ObjectLock]

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        return (upload for upload in self.uploads() if upload.key.startswith(prefix))

    def object_lock(self, key: str) -> ObjectLock | None:
        return next((lock for backup_id, lock in self.locks.items() if backup_id in key), None)


def a_catalog(*days_ago: int, statuses: dict[int, str] | None = None) -> tuple[Catalog, Store, dict[int, str]]:
    """A catalog with a backup of each day; ids by day."""
    inner = memory_catalog()
    store = Store(inner.store.url, inner.store._bucket)  # type: ignore[attr-defined]
    store.uploads, store.locks = list, {}
    catalog = Catalog(store, inner.layout)
    ids = {day: (NOW - day * DAY).strftime("%Y%m%dT%H%M%S") for day in days_ago}
    fill(
        catalog,
        [
            backup(backup_id, segment(2), (statuses or {}).get(day, "DONE"), begin_time=NOW - day * DAY)
            for day, backup_id in ids.items()
        ],
        [segment(2)],
    )
    return catalog, store, ids


def findings(catalog: Catalog, subject: str, policy: str | None = None) -> list[Finding]:
    limits = Limits(retention=parse_policy(policy) if policy else None)
    report = check(catalog.store, catalog.layout, limits, now=NOW)
    return [finding for finding in report.findings if finding.subject == subject]


def test_signs_of_life_tell_running_backups_from_dead_ones() -> None:
    catalog, _, ids = a_catalog(0, 3, 4, 5, statuses={3: "STARTED", 4: "STARTED", 5: "STARTED"})

    def sign(day: int, renewed: datetime) -> None:
        text = json.dumps({"host": "db1", "pid": 7, "renewed": renewed.isoformat()})
        catalog.store.put(catalog.layout.heartbeat(ids[day]), text.encode())

    sign(3, NOW)
    (running,) = findings(catalog, "running-backup")
    assert running.message == f"{ids[3]} began 3 d ago, by process 7 on db1"
    without = findings(catalog, "abandoned-backup")
    assert [finding.objects for finding in without] == [(ids[5],), (ids[4],)]
    assert all("backup-delete" in (finding.hint or "") for finding in without)
    later = datetime.now(UTC) + timedelta(hours=2)  # the store's clock says that the sign is of now
    report = check(catalog.store, catalog.layout, Limits(), now=later)
    (dead,) = [f for f in report.findings if f.subject == "abandoned-backup" and f.objects == (ids[3],)]
    assert "process 7 on db1, which made it, gave its last sign of life" in dead.message
    assert dead.hint == "remove it: barman-cloud cleanup"


def test_unfinished_uploads() -> None:
    catalog, store, ids = a_catalog(0, 1, statuses={1: "STARTED"})
    layout = catalog.layout
    young = PendingUpload(layout.wal(segment(9)), "1", NOW - DAY / 2)
    running = PendingUpload(layout.archive(ids[1], "data"), "2", NOW - 2 * DAY)
    store.uploads = lambda: [young, running]
    (finding,) = findings(catalog, "unfinished-uploads")
    assert finding.level is Level.OK
    old = [PendingUpload(layout.wal(segment(number)), "3", NOW - 2 * DAY) for number in range(7)]
    store.uploads = lambda: [young, running, *old]
    (finding,) = findings(catalog, "unfinished-uploads")
    assert finding.level is Level.WARNING
    assert finding.message.startswith("7 uploads begun more than a day ago and never finished: memory://")
    assert finding.message.endswith(" and 2 more")

    def refuse() -> list[PendingUpload]:
        raise AccessDeniedError("no ListBucketMultipartUploads")

    store.uploads = refuse
    (finding,) = findings(catalog, "unfinished-uploads")
    assert (finding.level, "can't be listed" in finding.message) == (Level.OK, True)


def test_locks_that_contradict_the_policy() -> None:
    catalog, store, ids = a_catalog(9, 8, 1)
    window = "RECOVERY WINDOW OF 7 DAYS"
    assert findings(catalog, "object-locks") == []  # nobody told the policy
    (finding,) = findings(catalog, "object-locks", window)
    assert (finding.level, finding.message) == (Level.OK, "nothing is locked")
    store.locks = {ids[9]: ObjectLock("k", "retained until then", NOW + 9 * DAY)}
    (finding,) = findings(catalog, "object-locks", window)
    assert finding.level is Level.WARNING
    assert finding.message == (
        f"the policy calls 1 backup obsolete that can't be deleted yet: {ids[9]} is retained until then"
    )
    store.locks = {ids[1]: ObjectLock("k", "retained until then", NOW + 3 * DAY)}
    (finding,) = findings(catalog, "object-locks", window)
    assert finding.level is Level.WARNING
    assert f"the policy needs backup {ids[1]} until" in finding.message
    store.locks = {ids[1]: ObjectLock("k", "retained until then", NOW + 30 * DAY)}
    (finding,) = findings(catalog, "object-locks", window)
    assert (finding.level, finding.message) == (Level.OK, "object locks and the retention policy agree")
    (finding,) = findings(catalog, "object-locks", "REDUNDANCY 1")
    assert finding.level is Level.OK
