"""Do my backups work, as far as listings tell? In seconds, without reading an archive or a segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from barman_cloud import logs
from barman_cloud.catalog import servers
from barman_cloud.catalog.backup_info import FAILED, STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.heartbeat import Sign
from barman_cloud.catalog.layout import Layout, WalObject
from barman_cloud.catalog.wal_archive import WalArchive, in_order, unfinished_segments
from barman_cloud.catalog.wal_range import Segment, segments
from barman_cloud.errors import IntegrityError, NotFoundError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.report import progress
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify import drill_record
from barman_cloud.verify import ledger as ledgers
from barman_cloud.verify.coverage import Coverage, Way, needs_of, recoverable
from barman_cloud.verify.drill_record import DrillRecord
from barman_cloud.verify.findings import Finding, Report, critical, ok, warning
from barman_cloud.verify.ledger import Ledger
from barman_cloud.verify.limits import Limits
from barman_cloud.verify.receiver import look_at_receiver
from barman_cloud.verify.receiver import metrics as receiver_metrics
from barman_cloud.verify.storage import lock_findings, signs_of_life, upload_findings
from barman_cloud.verify.times import duration as duration

log = logs.get_logger(__name__)

_GAPS_NAMED = 5


def check(
    store: ObjectStore, layout: Layout, limits: Limits, *, extra: tuple[Finding, ...] = (), now: datetime | None = None
) -> Report:
    """Check backups and WAL of one server by listings alone.

    ``extra`` are findings from elsewhere (of the server itself) that belong into the report. Errors of the store are
    raised: what can't be listed can't be judged.
    """
    now = now or datetime.now(UTC)
    catalog = Catalog(store, layout)
    progress.current().phase("reading the catalog")
    view = catalog.load()
    if not view.backups and not view.unreadable and (problem := servers.describe_unknown(catalog)):
        raise NotFoundError(problem)
    done = [info for info in view.backups.values() if info.is_complete]
    progress.current().phase("listing WAL")
    tally = WalTally()
    archive = WalArchive(store, layout)
    histories, damaged = read_histories(archive)
    size = done[-1].xlog_segment_size if done else 16 << 20
    coverage = Coverage(tally.of(store, layout, size), histories, size)
    ways = [coverage.way(needs) for info in done if info.snapshots_info is None if (needs := needs_of(info))]
    ledger = ledgers.load(store, layout)
    drilled = drill_record.last(store, layout)
    receiver, receiver_findings = look_at_receiver(store, layout, now, tally.newest)
    findings = [
        *catalog_findings(view, limits, now, signs_of_life(catalog, view)),
        *cluster_findings(done),
        *wal_findings(tally, limits, now),
        *damaged,
        *coverage_findings(coverage, ways),
        *verified_findings(view, ledger, limits, now),
        *receiver_findings,
        *upload_findings(catalog, view, now),
        *_lock_findings(catalog, view, limits, now),
        *drill_findings(drilled, limits, now),
        *extra,
    ]
    lost = ledgers.broken(ledger, view)
    spans = recoverable(way for way in ways if way.needs.backup_id not in lost)
    return Report(
        "check",
        store.url.text,
        layout.server,
        now,
        tuple(findings),
        metrics={
            **_metrics(done, tally, ways, now),
            **_drill_metrics(drilled),
            **(receiver_metrics(receiver, now) if receiver else {}),
            **{name: value for finding in extra for name, value in finding.numbers},
        },
        recoverable=spans,
        backup_times=tuple(info.end_time for info in done if info.end_time),
    )


def _lock_findings(catalog: Catalog, view: CatalogView, limits: Limits, now: datetime) -> Iterator[Finding]:
    if limits.retention is not None:
        yield from lock_findings(catalog, view, limits.retention, limits.minimum_redundancy, now)


class WalTally:
    """Counts WAL objects as they are listed."""

    def __init__(self) -> None:
        self.count = 0
        self.size = 0
        self.newest: datetime | None = None
        self.newest_name = ""

    def of(self, store: ObjectStore, layout: Layout, segment_size: int) -> Iterator[Segment]:
        """Yield the archive's segments in order, counting everything that is listed.

        Of one that isn't complete there may be pieces only: it counts as partial, and no file is counted.
        """
        work = progress.current()

        def listed() -> Iterator[tuple[WalObject, datetime | None]]:
            for item in store.list(layout.wals_dir):
                wal = layout.parse_wal_key(item.key)
                if wal is None:
                    continue
                self.count += 1
                self.size += item.size
                if self.count % 100 == 0:
                    work.add(items=100)
                yield wal, item.last_modified

        def seen() -> Iterator[tuple[WalObject, datetime | None]]:
            for wal, stored in in_order(listed(), unfinished_segments(store, layout, segment_size)):
                if stored and (self.newest is None or stored >= self.newest):
                    self.newest, self.newest_name = stored, wal.name
                yield wal, stored

        return segments(seen(), segment_size)


def read_histories(archive: WalArchive) -> tuple[dict[int, tuple[Switch, ...]], list[Finding]]:
    """Return the history of each timeline, and a finding for each history file that is missing or damaged."""
    histories: dict[int, tuple[Switch, ...]] = {}
    findings: list[Finding] = []
    for timeline in archive.timelines():
        if timeline == 1:
            continue
        try:
            if archive.has_history(timeline):
                histories[timeline] = archive.history(timeline)
                continue
            problem = f"{timeline:08X}.history is not in the archive, although there is WAL of timeline {timeline}"
        except IntegrityError as error:
            problem = str(error)
        hint = "archive the file again from pg_wal of a server on that timeline; without it recovery can't go there"
        findings.append(critical("timelines", problem, hint, f"{timeline:08X}.history"))
    return histories, findings


def catalog_findings(
    view: CatalogView, limits: Limits, now: datetime, signs: Mapping[str, Sign] | None = None
) -> Iterator[Finding]:
    """Judge the list of backups; ``signs`` are the last signs of life of those that are STARTED."""
    for backup_id, error in view.unreadable.items():
        yield critical("catalog", f"backup.info of {backup_id} can't be read: {error}", "repair the object", backup_id)
    done = [info for info in view.backups.values() if info.is_complete]
    yield _newest_backup(done, limits, now)
    if limits.min_backup_size is not None and done:
        newest = done[-1]
        size = newest.cluster_size or newest.size
        if size is not None and size < limits.min_backup_size:
            yield critical(
                "backup-size",
                f"backup {newest.backup_id} is of {size} bytes, less than {limits.min_backup_size}",
                "see whether the cluster was emptied, or the wrong one is backed up",
                newest.backup_id,
            )
    full = [info for info in done if info.parent_backup_id is None]
    if len(full) < limits.minimum_redundancy:
        yield critical(
            "redundancy", f"{len(full)} full backups, fewer than {limits.minimum_redundancy}", "take a backup"
        )
    else:
        yield ok("redundancy", f"{len(full)} full and {len(done) - len(full)} incremental backups")
    yield from _unfinished(view, done, limits, now, signs or {})


def _newest_backup(done: list[BackupInfo], limits: Limits, now: datetime) -> Finding:
    if not done:
        return critical("newest-backup", "there is no complete backup", "take one: barman-cloud backup")
    newest = max(done, key=lambda info: info.end_time or datetime.min.replace(tzinfo=UTC))
    if newest.end_time is None:
        return warning("newest-backup", f"backup {newest.backup_id} doesn't tell when it ended", "take another one")
    age = now - newest.end_time
    text = f"{newest.backup_id} ended {duration(age)} ago"
    if limits.max_backup_age is not None and age > limits.max_backup_age:
        return critical(
            "newest-backup",
            f"{text}, more than {duration(limits.max_backup_age)}",
            "take a backup, and see why none was taken since",
            newest.backup_id,
        )
    return ok("newest-backup", text, newest.backup_id)


def _unfinished(
    view: CatalogView, done: list[BackupInfo], limits: Limits, now: datetime, signs: Mapping[str, Sign]
) -> Iterator[Finding]:
    newest = done[-1].backup_id if done else ""
    failed = [info.backup_id for info in view.backups.values() if info.status == FAILED]
    if failed and failed[-1] > newest:
        yield warning(
            "failed-backups",
            f"the last backup, {failed[-1]}, failed: {view.backups[failed[-1]].error}",
            f"barman-cloud backup-show tells more; delete it with barman-cloud backup-delete -b {failed[-1]}",
            *failed,
        )
    for info in view.backups.values():
        if info.deletion:
            yield warning(
                "unfinished-deletion",
                f"the deletion of {info.backup_id} was begun and not finished",
                f"run it again: barman-cloud backup-delete -b {info.backup_id}",
                info.backup_id,
            )
            continue
        if info.status != STARTED:
            continue
        yield _running(info, signs.get(info.backup_id), limits, now)


def _running(info: BackupInfo, sign: Sign | None, limits: Limits, now: datetime) -> Finding:
    """Judge a STARTED backup by its signs of life or, if it gives none, by its age."""
    age = now - info.begin_time if info.begin_time else None
    since = f"{info.backup_id} is STARTED since {duration(age) if age else 'an unknown time'}"
    if sign is not None and not sign.is_alive(now):
        gone = f"{sign.describe()}, which made it, gave its last sign of life {duration(now - sign.renewed)} ago"
        return warning("abandoned-backup", f"{since}; {gone}", "remove it: barman-cloud cleanup", info.backup_id)
    if sign is not None or (age is not None and age <= limits.running_too_long):
        text = f"{info.backup_id} began {duration(age) if age else 'at an unknown time'} ago"
        by = f", by {sign.describe()}" if sign else ""
        return ok("running-backup", f"{text}{by}", info.backup_id)
    return warning(
        "abandoned-backup",
        since,
        f"if it doesn't run any more, delete it: barman-cloud backup-delete -b {info.backup_id}",
        info.backup_id,
    )


def cluster_findings(done: list[BackupInfo]) -> Iterator[Finding]:
    """One archive is for one cluster."""
    identifiers: dict[str, str] = {}
    for info in done:
        if info.systemid:
            identifiers[info.systemid] = info.backup_id
    if len(identifiers) > 1:
        listed = ", ".join(f"{identifier} (last backup {backup_id})" for identifier, backup_id in identifiers.items())
        yield critical(
            "one-cluster",
            f"backups of {len(identifiers)} clusters are under one name: {listed}",
            "give each cluster a server name of its own",
            *identifiers.values(),
        )
    elif identifiers:
        yield ok("one-cluster", f"all backups are of cluster {next(iter(identifiers))}")


def wal_findings(tally: WalTally, limits: Limits, now: datetime) -> Iterator[Finding]:
    """Judge how fresh the WAL is."""
    if tally.newest is None:
        if not tally.count:
            yield critical("newest-wal", "there is no WAL in the archive", "see archive_command and the server's log")
        return
    age = max(now - tally.newest, timedelta(0))
    text = f"{tally.newest_name} was stored {duration(age)} ago"
    if limits.max_wal_age is not None and age > limits.max_wal_age:
        yield critical(
            "newest-wal",
            f"{text}, more than {duration(limits.max_wal_age)}",
            "see pg_stat_archiver and the server's log; set archive_timeout on a server that writes little",
            tally.newest_name,
        )
    else:
        yield ok("newest-wal", f"{text}; {tally.count} files", tally.newest_name)


def coverage_findings(coverage: Coverage, ways: list[Way]) -> Iterator[Finding]:
    """Judge whether the WAL is whole: what each backup needs, and what follows it."""
    lost = [way for way in ways if way.own_wal_missing is not None]
    for way in lost:
        missing = coverage.name(way.needs.timeline, way.own_wal_missing or 0)
        yield critical(
            "backup-wal",
            f"backup {way.needs.backup_id} can't be restored: {missing}, which it needs, is missing",
            "look for it in pg_wal of the server; otherwise this backup is lost",
            way.needs.backup_id,
            missing,
        )
    if ways and not lost:
        yield ok("backup-wal", "the WAL that the backups themselves need is there")
    gaps = {way.gap: None for way in ways if way.gap is not None and way.own_wal_missing is None}
    for gap in list(gaps)[:_GAPS_NAMED]:
        first = coverage.name(gap.timeline, gap.missing)
        until = f" to {coverage.name(gap.timeline, gap.next - 1)}" if gap.next and gap.next - 1 > gap.missing else ""
        yield critical(
            "wal-gap",
            f"WAL {first}{until} is missing: recovery from backups before it ends there",
            "look for it in pg_wal of the server, and take a backup now",
            first,
        )
    if len(gaps) > _GAPS_NAMED:
        yield critical("wal-gap", f"there are {len(gaps) - _GAPS_NAMED} more gaps", "take a backup now")
    if ways and not gaps and not lost:
        yield ok("wal-gap", "no segment is missing since the oldest backup")


def verified_findings(view: CatalogView, ledger: Ledger, limits: Limits, now: datetime) -> Iterator[Finding]:
    """Tell what ``verify`` found the last time that it read these backups."""
    done = [info.backup_id for info in view.backups.values() if info.is_complete]
    again = "once that is repaired, run barman-cloud verify again; otherwise take a new backup"
    lost = ledgers.broken(ledger, view)
    for backup_id in done:
        entry = ledger.backups.get(backup_id)
        if backup_id in lost:
            why = f"was found broken {duration(now - entry.moment)} ago" if entry else "builds on a broken backup"
            yield critical("verified", f"{backup_id} {why}", again, backup_id)
        elif entry and entry.state == ledgers.DAMAGED_PAGES:
            yield critical("verified", f"{backup_id} has pages that fail their checksums", again, backup_id)
    whole = [entry for backup_id, entry in ledger.backups.items() if backup_id in done and entry.state == ledgers.WHOLE]
    last = max((entry.moment for entry in whole), default=None)
    count = f"{len(whole)} of {len(done)} backups were verified"
    text = f"{count}, the last time {duration(now - last)} ago" if last else "no backup was verified yet"
    limit = limits.max_verified_age
    if limit is not None and done and (last is None or now - last > limit):
        yield critical("verified", f"{text}; the limit is {duration(limit)}", "run barman-cloud verify")
    elif done:
        yield ok("verified", text)


def drill_findings(last: DrillRecord | None, limits: Limits, now: datetime) -> Iterator[Finding]:
    """Tell what the last drill has shown."""
    limit = limits.max_drill_age
    if last is None:
        if limit is not None:
            yield critical("drill", "no drill was held yet", "run barman-cloud drill")
        return
    text = f"the last drill, {duration(now - last.moment)} ago, of {last.backup_id},"
    if not last.succeeded:
        why = last.problems[0] if last.problems else "it doesn't say why"
        again = "once that is repaired, run barman-cloud drill again"
        yield critical("drill", f"{text} failed: {why}", again, last.backup_id)
    elif limit is not None and now - last.moment > limit:
        yield critical("drill", f"{text} is too long ago: the limit is {duration(limit)}", "run barman-cloud drill")
    else:
        took = f": it took {duration(timedelta(seconds=last.rto_seconds))}" if last.rto_seconds is not None else ""
        yield ok("drill", f"{text} succeeded{took}", last.backup_id)


def _drill_metrics(last: DrillRecord | None) -> dict[str, float]:
    if last is None:
        return {}
    metrics = {"last_drill_time_seconds": last.moment.timestamp(), "last_drill_succeeded": float(last.succeeded)}
    if last.rto_seconds is not None:
        metrics["last_drill_rto_seconds"] = last.rto_seconds
    return metrics


def _metrics(done: list[BackupInfo], tally: WalTally, ways: list[Way], now: datetime) -> dict[str, float]:
    metrics: dict[str, float] = {
        "backups": len(done),
        "wal_files": tally.count,
        "wal_bytes": tally.size,
        "wal_gaps": len({way.gap for way in ways if way.gap is not None}),
        "check_time_seconds": now.timestamp(),
    }
    ended = [info.end_time for info in done if info.end_time]
    if ended:
        metrics["newest_backup_time_seconds"] = max(ended).timestamp()
        metrics["oldest_backup_time_seconds"] = min(ended).timestamp()
    if tally.newest:
        metrics["newest_wal_time_seconds"] = tally.newest.timestamp()
    return metrics
