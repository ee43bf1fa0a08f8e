"""Reading what a report tells: the catalog, one listing of the WAL, one listing for each backup."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from barman_cloud.backup.pack import part_size_for
from barman_cloud.catalog import keep, servers
from barman_cloud.catalog.backup_info import DEFAULT_SEGMENT_SIZE, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.catalog.lineage import kinship_of, type_of
from barman_cloud.catalog.summary import UNREADABLE
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.catalog.wal_range import segments
from barman_cloud.errors import NotFoundError
from barman_cloud.overview.model import BackupEntry, Cost, DrillEntry, Growth, Overview, WalGap, WalRun
from barman_cloud.overview.prices import Price, price_of
from barman_cloud.report import progress
from barman_cloud.store.base import ObjectInfo, ObjectStore
from barman_cloud.verify import drill_record
from barman_cloud.verify import ledger as ledgers
from barman_cloud.verify.check import WalTally, catalog_findings, coverage_findings, read_histories, wal_findings
from barman_cloud.verify.coverage import Coverage, Way, needs_of, recoverable
from barman_cloud.verify.findings import Level
from barman_cloud.verify.ledger import Ledger
from barman_cloud.verify.limits import Limits

_DRILLS = 10
_MONTH = timedelta(days=30)
_GIB = 1 << 30


def gather(
    store: ObjectStore,
    layout: Layout,
    prices: Mapping[str, Mapping[str, Price]],
    storage_class: str | None = None,
    *,
    now: datetime | None = None,
) -> Overview:
    """Return what is known of one server. Errors of the store are raised: what can't be listed can't be told.

    ``storage_class`` is that of all objects for the estimate; None: the provider's default.
    """
    return _Gathering(store, layout, now or datetime.now(UTC)).overview(prices, storage_class)


@dataclass
class _Gathering:
    store: ObjectStore
    layout: Layout
    now: datetime
    backup_days: Counter[date] = field(default_factory=Counter)
    wal_days: Counter[date] = field(default_factory=Counter)
    wal_lately: int = 0
    """WAL files of the last 30 days."""
    tally: WalTally = field(default_factory=WalTally)

    def overview(self, prices: Mapping[str, Mapping[str, Price]], storage_class: str | None) -> Overview:
        catalog = Catalog(self.store, self.layout)
        work = progress.current()
        work.phase("reading the catalog")
        view = catalog.load()
        if not view.backups and not view.unreadable and (problem := servers.describe_unknown(catalog)):
            raise NotFoundError(problem)
        done = [info for info in view.backups.values() if info.is_complete]
        size = done[-1].xlog_segment_size if done else DEFAULT_SEGMENT_SIZE
        ledger = ledgers.load(self.store, self.layout)
        keeps = keep.read_all(catalog)
        work.phase("listing backups")
        ids = sorted({*view.backups, *view.unreadable})
        objects = dict(zip(ids, catalog.map(self._objects_of, ids), strict=True))
        work.phase("listing WAL")
        histories, damaged = read_histories(WalArchive(self.store, self.layout))
        coverage = Coverage(segments(self._listed(), size), histories, size)
        ways = [coverage.way(needs) for info in done if info.snapshots_info is None if (needs := needs_of(info))]
        lost = ledgers.broken(ledger, view)
        entries = tuple(
            self._entry(
                view, backup_id, objects[backup_id], keeps, ledger, _problem(view, coverage, ways, lost, backup_id)
            )
            for backup_id in ids
        )
        findings = [
            *catalog_findings(view, Limits(), self.now),
            *wal_findings(self.tally, Limits(), self.now),
            *damaged,
            *coverage_findings(coverage, ways),
        ]
        return Overview(
            self.store.url.text,
            self.layout.server,
            self.now,
            entries,
            tuple(_runs(coverage)),
            tuple(_gaps(coverage)),
            recoverable(way for way in ways if way.needs.backup_id not in lost),
            tuple(self._growth()),
            self.tally.count,
            self.tally.size,
            size,
            tuple(finding for finding in findings if finding.level is not Level.OK),
            _drills(self.store, self.layout),
            self._cost(prices, storage_class, entries, view),
        )

    def _objects_of(self, backup_id: str) -> tuple[ObjectInfo, ...]:
        return self.store.list_level(self.layout.backup_dir(backup_id)).objects

    def _listed(self) -> Iterator[tuple[WalObject, datetime | None]]:
        work = progress.current()
        for item in self.store.list(self.layout.wals_dir):
            wal = self.layout.parse_wal_key(item.key)
            if wal is None:
                continue
            self.tally.count += 1
            self.tally.size += item.size
            if self.tally.count % 100 == 0:
                work.add(items=100)
            if item.last_modified is not None:
                self.wal_days[item.last_modified.date()] += item.size
                self.wal_lately += self.now - item.last_modified <= _MONTH
                if self.tally.newest is None or item.last_modified >= self.tally.newest:
                    self.tally.newest, self.tally.newest_name = item.last_modified, wal.name
            yield wal, item.last_modified

    def _entry(
        self,
        view: CatalogView,
        backup_id: str,
        objects: tuple[ObjectInfo, ...],
        keeps: keep.Keeps,
        ledger: Ledger,
        problem: str | None,
    ) -> BackupEntry:
        info = view.backups.get(backup_id)
        for item in objects:
            if item.last_modified is not None:
                self.backup_days[item.last_modified.date()] += item.size
        verified = ledger.backups.get(backup_id)
        annotation = keeps.get(backup_id)
        return BackupEntry(
            backup_id,
            info.backup_name if info else None,
            type_of(info) if info else "",
            (info.status or "") if info else UNREADABLE,
            info.parent_backup_id if info else None,
            info.begin_time if info else None,
            info.end_time if info else None,
            _size_of(info),
            sum(item.size for item in objects),
            len(objects),
            max((item.last_modified for item in objects if item.last_modified), default=None),
            None if annotation is None else keep.label(annotation),
            verified.moment if verified else None,
            verified.state if verified else None,
            problem,
        )

    def _growth(self) -> Iterator[Growth]:
        backups = wal = 0
        for day in sorted({*self.backup_days, *self.wal_days}):
            backups += self.backup_days[day]
            wal += self.wal_days[day]
            yield Growth(day, backups, wal)

    def _cost(
        self,
        prices: Mapping[str, Mapping[str, Price]],
        storage_class: str | None,
        entries: tuple[BackupEntry, ...],
        view: CatalogView,
    ) -> Cost | None:
        found = price_of(prices, self.store.url.provider, storage_class)
        if found is None:
            return None
        name, price = found
        lately = [entry for entry in entries if entry.stored_at and self.now - entry.stored_at <= _MONTH]
        writes = self.wal_lately + sum(self._writes_of(entry) for entry in lately)
        stored = self.tally.size + sum(entry.stored for entry in entries)
        return Cost(
            self.store.url.provider,
            name,
            stored / _GIB * price.gib_month,
            writes / 1000 * price.write_1000,
            writes,
            self._restore_cost(price, entries, view),
        )

    def _writes_of(self, entry: BackupEntry) -> int:
        """Return about how many requests storing a backup took: parts of its archives, two for each upload."""
        if not entry.objects:
            return 0
        each = max(entry.stored // entry.objects, 1)
        parts = -(-each // part_size_for(each, self.store.capabilities, None))
        return entry.objects * (parts + 2 if parts > 1 else 1)

    def _restore_cost(self, price: Price, entries: tuple[BackupEntry, ...], view: CatalogView) -> float:
        complete = [entry for entry in entries if entry.status == "DONE"]
        if not complete:
            return 0.0
        newest = complete[-1]
        chain = set(kinship_of(view.backups, newest.backup_id).chain)
        size = sum(entry.stored for entry in entries if entry.backup_id in chain)
        wal = self.wal_days.total() and sum(
            number for day, number in self.wal_days.items() if newest.ended is None or day >= newest.ended.date()
        )
        return (size + wal) / _GIB * price.read_gib


def _size_of(info: BackupInfo | None) -> int | None:
    if info is None:
        return None
    return info.cluster_size if info.cluster_size is not None else info.size


def _problem(view: CatalogView, coverage: Coverage, ways: list[Way], lost: set[str], backup_id: str) -> str | None:
    if backup_id in view.unreadable:
        return "backup.info can't be read"
    info = view.backups[backup_id]
    if not info.is_complete:
        return info.error or f"it is {info.status}"
    if backup_id in lost:
        return "verify found it broken, or one that it builds on"
    if kinship_of(view.backups, backup_id).is_broken:
        return "a backup that it builds on is gone"
    for way in ways:
        if way.needs.backup_id == backup_id and way.own_wal_missing is not None:
            return f"WAL {coverage.name(way.needs.timeline, way.own_wal_missing)}, which it needs, is missing"
    return None


def _runs(coverage: Coverage) -> Iterator[WalRun]:
    for timeline, runs in sorted(coverage.runs.items()):
        for run in runs:
            first, last = coverage.name(timeline, run.first), coverage.name(timeline, run.last)
            yield WalRun(timeline, first, last, run.last - run.first + 1, run.began, run.ended)


def _gaps(coverage: Coverage) -> Iterator[WalGap]:
    for timeline, runs in sorted(coverage.runs.items()):
        for one, two in pairwise(runs):
            first = one.last + 1
            yield WalGap(timeline, coverage.name(timeline, first), two.first - first, one.ended, two.began)


def _drills(store: ObjectStore, layout: Layout) -> tuple[DrillEntry, ...]:
    return tuple(
        DrillEntry(record.moment, record.backup_id, record.succeeded, record.rto_seconds, record.problems)
        for record in drill_record.newest(store, layout, _DRILLS)
    )
