"""Do my backups work, as far as reading every byte of them tells? What is broken, and what can still be restored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from barman_cloud import logs
from barman_cloud.catalog import selection, servers
from barman_cloud.catalog.backup_info import DEFAULT_SEGMENT_SIZE, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import WalObject
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.catalog.wal_range import name_of, number_of
from barman_cloud.errors import NotFoundError, OperationError
from barman_cloud.postgres.wal import parse_lsn
from barman_cloud.report import progress
from barman_cloud.report.text import counted
from barman_cloud.verify import ledger as ledgers
from barman_cloud.verify.check import WalTally, cluster_findings, coverage_findings, duration, read_histories
from barman_cloud.verify.coverage import Coverage, Needs, needs_of, recoverable
from barman_cloud.verify.findings import Finding, Report, TimeRange, critical, ok
from barman_cloud.verify.ledger import BROKEN, DAMAGED_PAGES, WHOLE, Ledger, VerifiedBackup, VerifiedWal
from barman_cloud.verify.stored_backup import BackupVerdict, verify_backup
from barman_cloud.verify.stored_wal import SegmentVerdict, verify_wal

log = logs.get_logger(__name__)

ALL = "all"
_NAMED = 20
"""Damaged segments that have a finding each."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to verify, and how."""

    jobs: int = 2
    quick: bool = False
    """Compare names and sizes only."""
    wal: bool = False
    """All WAL of the archive, not only what the chosen backups need to be consistent."""
    max_age: timedelta | None = None
    """What was verified within this time isn't read again."""


def choose(view: CatalogView, text: str | None, newest: int | None, purpose: str = "verified") -> list[BackupInfo]:
    """Return the complete backups that are meant, the newest first: one, the ``newest`` so many, or ``all``.

    ``OperationError`` for a backup that isn't complete, ``SelectionError`` or ``NotFoundError`` if there is none.
    """
    done = [info for info in reversed(view.backups.values()) if info.is_complete]
    if text == ALL:
        return done
    if text is None or text in selection.NEWEST:
        return done[: newest or 1]
    backup_id = selection.resolve(text, lambda: view)
    if backup_id in view.unreadable:
        raise view.unreadable[backup_id]
    info = view.backups.get(backup_id)
    if info is None:
        raise NotFoundError(f"backup {backup_id} doesn't exist", hint="barman-cloud backup-list shows what there is")
    if not info.is_complete:
        raise OperationError(
            f"backup {backup_id} is {info.status}, not DONE: there is nothing yet that could be {purpose}",
            hint="wait for its end" if info.status == "STARTED" else "choose another one: barman-cloud backup-list",
        )
    return [info]


def verify(
    catalog: Catalog, text: str | None, newest: int | None, options: VerifyOptions, *, now: datetime | None = None
) -> Report:
    """Verify backups of one server and WAL. Errors of the store are raised: what can't be read can't be judged."""
    now = now or datetime.now(UTC)
    progress.current().phase("reading the catalog")
    view = catalog.load()
    if not view.backups and not view.unreadable and (problem := servers.describe_unknown(catalog)):
        raise NotFoundError(problem)
    return _Run(catalog, view, options, now).report(choose(view, text, newest))


@dataclass
class _Run:
    catalog: Catalog
    view: CatalogView
    options: VerifyOptions
    now: datetime
    findings: list[Finding] = field(default_factory=list)
    damaged_wal: dict[tuple[int, int], str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def report(self, chosen: list[BackupInfo]) -> Report:
        began = time.monotonic()
        store, layout = self.catalog.store, self.catalog.layout
        self.ledger = ledgers.load(store, layout)
        if not chosen:
            self.findings.append(critical("backups", "there is no complete backup", "take one: barman-cloud backup"))
        for backup_id, error in self.view.unreadable.items():
            message = f"backup.info of {backup_id} can't be read: {error}"
            self.findings.append(critical("catalog", message, "repair the object", backup_id))
        for info in chosen:
            self._verify_backup(info)
        if self.options.wal and not self.options.quick:
            self._verify_all_wal()
        done = [info for info in self.view.backups.values() if info.is_complete]
        self.findings += cluster_findings(done)
        spans = self._conclude(done)
        self.metrics["verify_seconds"] = round(time.monotonic() - began, 3)
        ended = tuple(info.end_time for info in done if info.end_time)
        return Report(
            "verify",
            store.url.text,
            layout.server,
            self.now,
            tuple(self.findings),
            metrics=self.metrics,
            recoverable=spans,
            backup_times=ended,
        )

    def _verify_backup(self, info: BackupInfo) -> None:
        print_of = ledgers.fingerprint(self.catalog, info.backup_id)
        if not self.options.quick and self.ledger.is_fresh(info.backup_id, print_of, self.options.max_age, self.now):
            age = duration(self.now - self.ledger.backups[info.backup_id].moment)
            self.findings.append(ok("backups", f"{info.backup_id} was found whole {age} ago", info.backup_id))
            self._count("skipped_backups")
            return
        log.info("verifying backup %s", info.backup_id)
        verdict = verify_backup(self.catalog, info, self.options.jobs, quick=self.options.quick)
        self._verify_own_wal(info, verdict)
        if verdict.broken and self._is_gone(info.backup_id):
            del self.view.backups[info.backup_id]
            self.findings.append(ok("backups", f"{info.backup_id} was deleted meanwhile", info.backup_id))
            return
        self.findings += verdict.findings
        self._count("verified_backups")
        self._count("verified_bytes", verdict.size)
        self._count("verified_pages", verdict.pages)
        state = BROKEN if verdict.broken else DAMAGED_PAGES if verdict.pages_are_damaged else WHOLE
        # What only sizes tell of a backup isn't enough to call it whole, but enough to call it broken.
        if not self.options.quick or verdict.broken:
            self.ledger.backups[info.backup_id] = VerifiedBackup(self.now, state, print_of)
            self._save()

    def _is_gone(self, backup_id: str) -> bool:
        """Tell whether a backup was deleted, or its deletion begun, since the catalog was read."""
        try:
            return not self.catalog.load_one(backup_id).is_complete
        except NotFoundError:
            return True

    def _verify_own_wal(self, info: BackupInfo, verdict: BackupVerdict) -> None:
        """Read the WAL without which a backup isn't consistent. What is missing of it, the coverage tells."""
        needs = needs_of(info)
        if needs is None:
            message = f"backup.info of {info.backup_id} doesn't tell which WAL the backup needs"
            verdict.findings.append(ok("backup-wal-content", message, info.backup_id))
            return
        wals = self._wal_of(needs, info.xlog_segment_size)
        if self.options.quick:
            for wal, stored in wals:
                if not stored or (wal.compression is None and stored != info.xlog_segment_size):
                    url = self.catalog.store.object_url(wal.key)
                    verdict.fail("backup-wal-content", f"{url}, which {info.backup_id} needs, has {stored} bytes", url)
            return
        count = 0
        for segment in self._read_wal((wal for wal, _ in wals), info, until=parse_lsn(info.end_xlog or "")):
            count += 1
            if segment.problem:
                verdict.fail("backup-wal-content", f"WAL that {info.backup_id} needs is damaged: {segment.problem}")
        if not verdict.broken:
            message = f"the {counted(count, 'segment')} that {info.backup_id} needs are right, record by record"
            verdict.findings.append(ok("backup-wal-content", message, info.backup_id))

    def _verify_all_wal(self) -> None:
        """Read what wasn't read lately; a damaged segment stops recovery as a missing one does."""
        done = [info for info in self.view.backups.values() if info.is_complete]
        if not done:
            return
        newest = done[-1]
        size = newest.xlog_segment_size
        fresh = self.ledger.fresh_wal(size, self.options.max_age, self.now)
        wals = (wal for wal, _ in self._all_wal() if not _is_in(wal, size, fresh))
        count = 0
        for segment in self._read_wal(wals, newest):
            count += 1
            if not segment.problem:
                self.ledger.add_wal(segment.timeline, segment.number, size, self.now)
        self._save()
        for (timeline, number), problem in list(self.damaged_wal.items())[:_NAMED]:
            self.findings.append(
                critical(
                    "wal-content",
                    f"damaged WAL: {problem}",
                    "look for the segment in pg_wal of the server, and take a backup now",
                    name_of(timeline, number, size),
                )
            )
        if len(self.damaged_wal) > _NAMED:
            more = f"there are {len(self.damaged_wal) - _NAMED} more damaged segments"
            self.findings.append(critical("wal-content", more, "take a backup now"))
        if not self.damaged_wal:
            lately = f"; {sum(run.last - run.first + 1 for run in fresh)} were read lately" if fresh else ""
            self.findings.append(ok("wal-content", f"{counted(count, 'segment')} are right, record by record{lately}"))

    def _conclude(self, done: list[BackupInfo]) -> tuple[TimeRange, ...]:
        """Tell which backups can be restored, and return the moments that can."""
        progress.current().phase("listing WAL")
        store, layout = self.catalog.store, self.catalog.layout
        size = done[-1].xlog_segment_size if done else DEFAULT_SEGMENT_SIZE
        histories, damaged = read_histories(WalArchive(store, layout))
        self.findings += damaged
        there = (
            segment
            for segment in WalTally().of(store, layout, size)
            if (segment.timeline, segment.number) not in self.damaged_wal
        )
        coverage = Coverage(there, histories, size)
        lost = ledgers.broken(self.ledger, self.view)
        ways = [coverage.way(needs) for info in done if info.snapshots_info is None if (needs := needs_of(info))]
        self.findings += coverage_findings(coverage, ways)
        lost |= {way.needs.backup_id for way in ways if way.own_wal_missing is not None}
        good = [info.backup_id for info in done if info.backup_id not in lost]
        self.metrics["broken_backups"] = len(lost)
        if lost:
            left = f"; what can be restored: {', '.join(good)}" if good else ""
            self.findings.append(
                critical(
                    "restorable",
                    f"can't be restored: {', '.join(sorted(lost))}{left}",
                    "take a backup now" if not good or max(lost) > max(good) else "delete them once they aren't needed",
                    *sorted(lost),
                )
            )
        elif good:
            self.findings.append(ok("restorable", f"nothing speaks against restoring {', '.join(good)}", *good))
        return recoverable(way for way in ways if way.needs.backup_id not in lost)

    def _read_wal(
        self, wals: Iterator[WalObject], info: BackupInfo, *, until: int | None = None
    ) -> Iterator[SegmentVerdict]:
        for segment in verify_wal(
            self.catalog.store,
            wals,
            segment_size=info.xlog_segment_size,
            jobs=self.options.jobs,
            until=until,
            system_identifier=int(info.systemid) if info.systemid and info.systemid.isdecimal() else None,
        ):
            self._count("verified_wal_files")
            self._count("verified_wal_bytes", segment.size)
            if segment.problem:
                self.damaged_wal[segment.timeline, segment.number] = segment.problem
            yield segment

    def _wal_of(self, needs: Needs, size: int) -> Iterator[tuple[WalObject, int]]:
        first, last = (name_of(needs.timeline, number, size) for number in (needs.first, needs.last))
        # All but the last digit: the greatest key that is surely before every form of the name.
        after = f"{self.catalog.layout.wal_folder(first)}{first[:-1]}"
        for wal, stored in self._all_wal(after):
            if (wal.segment or "") > last:
                return
            if (wal.segment or "") >= first:
                yield wal, stored

    def _all_wal(self, after: str | None = None) -> Iterator[tuple[WalObject, int]]:
        """Yield segments with their stored sizes."""
        layout = self.catalog.layout
        for item in self.catalog.store.list(layout.wals_dir, start_after=after):
            wal = layout.parse_wal_key(item.key)
            if wal is not None and wal.segment is not None and not wal.name.endswith(".backup"):
                yield wal, item.size

    def _save(self) -> None:
        ledgers.save(self.catalog.store, self.catalog.layout, self.ledger, self.view.backups.keys())

    def _count(self, name: str, number: float = 1) -> None:
        self.metrics[name] = self.metrics.get(name, 0) + number


def _is_in(wal: WalObject, size: int, runs: list[VerifiedWal]) -> bool:
    number = number_of(wal.segment or "", size)
    return number is not None and any(run.timeline == wal.timeline and run.first <= number <= run.last for run in runs)
