"""Do my backups work, as far as doing it tells? A backup is restored, recovered, started, questioned, and thrown away.

What a drill shows to be wrong with a backup is a finding; what this machine lacks for a drill is a ``DrillError``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from barman_cloud import logs
from barman_cloud.catalog import selection, servers
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.needed_wal import needed_wal
from barman_cloud.catalog.times import format_time
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.catalog.wal_range import name_of
from barman_cloud.errors import DrillError, IntegrityError, NotFoundError, OperationError, UsageError
from barman_cloud.postgres.programs import Programs, find_server
from barman_cloud.postgres.wal import format_lsn
from barman_cloud.report import progress
from barman_cloud.restore import reach
from barman_cloud.restore.archive_restore import RestoreReport, look_before, restore_backup
from barman_cloud.restore.plan import make_plan
from barman_cloud.restore.recovery_settings import OLDEST_VERSION, RecoverySettings
from barman_cloud.restore.room import mebibytes
from barman_cloud.restore.verify import WrittenFiles
from barman_cloud.verify.check import duration
from barman_cloud.verify.drill_checks import Assertion, check_assertions, check_relations
from barman_cloud.verify.drill_place import Place, scratch
from barman_cloud.verify.drill_record import DrillRecord, save
from barman_cloud.verify.findings import Finding, Level, Report, critical, ok
from barman_cloud.verify.private_server import PrivateServer, Recovered
from barman_cloud.verify.verify import ALL, choose

log = logs.get_logger(__name__)

_OTHER = "drill an older backup, and take a new one"
_WORDS = "the server's words say why: damaged WAL, a target that isn't in the archive, or something this machine lacks"


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """How to hold a drill."""

    directory: Path | None = None
    """Where its directory is made; None: where temporary files go."""
    pg_bin: str | None = None
    """Directories of PostgreSQL's programs, separated by colons; the usual places come after them."""
    user: str = "postgres"
    """A superuser of the restored cluster."""
    dbname: str = "postgres"
    """The database that ``assertions`` are asked of."""
    jobs: int = 4
    amcheck: bool = True
    assertions: tuple[Assertion, ...] = ()
    recovery_timeout: timedelta = timedelta(days=1)
    max_rto: timedelta | None = None
    """The drill fails if restore and recovery take longer together."""
    keep: bool = False
    """Leave the restored cluster where it is."""


@dataclass
class DrillResult:
    """What a drill has shown. Sizes in bytes; None where it didn't come so far."""

    report: Report
    backup: BackupInfo
    target: dict[str, str]
    """PostgreSQL's setting of the recovery target; empty: all WAL of the archive."""
    postgres: str
    """The version that was started."""
    restored: RestoreReport | None = None
    recovery_seconds: float | None = None
    rto_seconds: float | None = None
    """From the begin of the restore until the server was open for writing."""
    recovered: Recovered | None = None
    kept: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as ``check`` and ``verify`` give it, and in ``drill`` what only a drill tells."""
        done, to = self.restored, self.recovered
        drill = {
            "backup_id": self.backup.backup_id,
            "target": self.target,
            "postgres": self.postgres,
            "restored_bytes": done.size if done else None,
            "restored_files": done.files if done else None,
            "stored_bytes": done.stored_size if done else None,
            "verified_files": done.verified if done else None,
            "restore_seconds": round(done.seconds, 3) if done else None,
            "recovery_seconds": _rounded(self.recovery_seconds),
            "rto_seconds": _rounded(self.rto_seconds),
            "recovered_timeline": to.timeline if to else None,
            "recovered_lsn": format_lsn(to.lsn) if to and to.lsn is not None else None,
            "recovered_time": to.time.isoformat() if to and to.time else None,
            "kept": str(self.kept) if self.kept else None,
        }
        return {**self.report.to_json(), "drill": drill}

    def record(self) -> DrillRecord:
        """Return what is remembered of it."""
        done, to = self.restored, self.recovered
        return DrillRecord(
            self.report.moment,
            self.backup.backup_id,
            self.report.level is not Level.CRITICAL,
            tuple(finding.message for finding in self.report.findings if finding.level is Level.CRITICAL),
            restored_bytes=done.size if done else None,
            restore_seconds=round(done.seconds, 3) if done else None,
            recovery_seconds=_rounded(self.recovery_seconds),
            rto_seconds=_rounded(self.rto_seconds),
            recovered_lsn=format_lsn(to.lsn) if to and to.lsn is not None else None,
            recovered_time=to.time if to else None,
        )


def drill(
    catalog: Catalog,
    text: str | None,
    settings: RecoverySettings,
    options: DrillOptions,
    *,
    now: datetime | None = None,
) -> DrillResult:
    """Restore a backup into a new directory, recover it, start PostgreSQL on it where nobody sees it, and question it.

    ``text`` is an id, name or shortcut; None means the newest complete backup from which the target of ``settings`` can
    be reached. Whatever happens, nothing is left running, and unless ``options.keep`` nothing on disk. Must be called
    from a thread that outlives the drill, the main thread as a rule: the server ends with it. ``DrillError`` if this
    machine lacks something, ``NotFoundError``, ``SelectionError`` or ``OperationError`` if there is no such backup, or
    none that can be drilled; errors of the store as they are. What is wrong with the backup or its WAL is in the
    report, and what the drill has shown is stored beside the backups.
    """
    if os.geteuid() == 0:
        raise DrillError(
            "a drill starts PostgreSQL, which refuses to run as root", hint="run it as another user, or --run-as USER"
        )
    now = now or datetime.now(UTC)
    info = _choose(catalog, text, settings)
    programs = _programs(info, settings, options)
    run = _Drill(catalog, info, settings, options, programs)
    run.findings.append(ok("backup", f"{info.backup_id}, {_kind(info)}, ended {_ago(info, now)}", info.backup_id))
    with run.noting("wal", "look for what is missing in pg_wal of the server, and take a new backup"):
        run.look_ahead()
    if not run.has_failed:
        with scratch(options.directory) as place:
            run.restore(place)
            if options.keep and (place.data / "PG_VERSION").exists():
                place.keep()
                run.kept = place.data
    result = run.result(now)
    save(catalog.store, catalog.layout, result.record())
    return result


@dataclass
class _Drill:
    catalog: Catalog
    info: BackupInfo
    settings: RecoverySettings
    options: DrillOptions
    programs: Programs
    findings: list[Finding] = field(default_factory=list)
    end: tuple[int, int] | None = None
    """Timeline and LSN that recovery has to pass."""
    restored: RestoreReport | None = None
    recovery_seconds: float | None = None
    rto_seconds: float | None = None
    recovered: Recovered | None = None
    kept: Path | None = None

    @property
    def has_failed(self) -> bool:
        return any(finding.level is Level.CRITICAL for finding in self.findings)

    @contextmanager
    def noting(self, subject: str, hint: str) -> Iterator[None]:
        """Turn what is wrong with the backup into a finding. What is wrong with the store or this machine goes on."""
        try:
            yield
        except (OperationError, IntegrityError) as error:
            self.findings.append(critical(subject, str(error), error.hint or hint, self.info.backup_id))

    def look_ahead(self) -> None:
        """See from listings whether the WAL is there, before anything is written."""
        archive = WalArchive(self.catalog.store, self.catalog.layout)
        problems = reach.problems_of_backup(archive, self.info)
        if not problems:
            problems, self.end = reach.look_ahead(archive, self.info, self.settings)
        for problem in problems:
            self.findings.append(critical("wal", problem.message, problem.hint, self.info.backup_id))
        if needed_wal(self.info) is None:
            self.findings.append(ok("wal", "which WAL the backup needs isn't told: recovery will show it"))
        elif not problems:
            last = f", up to {self._segment(*self.end)}" if self.end else ""
            self.findings.append(ok("wal", f"no segment that recovery needs is missing{last}"))

    def restore(self, place: Place) -> None:
        """Restore, recover and check, as far as it goes."""
        store, layout = self.catalog.store, self.catalog.layout
        rules = place.rules(self.info)
        began = time.monotonic()
        with self.noting("restore", _OTHER):
            plan, _ = make_plan(store, layout, self.info, place.data, rules, dry_run=True)
            try:
                look_before(store, layout, plan, self.options.jobs, WrittenFiles())
            except OperationError as error:
                hint = "free some, or give another place with --directory"
                raise DrillError(str(error), hint=hint) from error
            log.info("restoring backup %s into %s", self.info.backup_id, place.data)
            done = restore_backup(store, layout, self.info, place.data, rules, self.options.jobs, self.settings)
            self.restored = done
            self.findings.append(ok("restore", _describe(done)))
        if self.restored is not None:
            self._recover(place, began)

    def _recover(self, place: Place, began: float) -> None:
        place.cut_links()
        server = PrivateServer(
            self.programs, place.data, self.settings.parameters(), user=self.options.user, place=place.root
        )
        with self.noting("recovery", _WORDS):
            try:
                with server:
                    log.info("PostgreSQL %s recovers", self.programs.version)
                    progress.current().phase("recovering")
                    self.recovery_seconds = server.wait_for_recovery(self.options.recovery_timeout.total_seconds())
                    self.rto_seconds = time.monotonic() - began
                    try:
                        self.recovered = server.recovered()
                        self._judge(self.recovered)
                        self._question(server)
                    except psycopg.Error as error:
                        words = server.last_words()
                        raise OperationError(f"the recovered server failed: {error}; {words}") from error
            except OperationError:
                # Recovery that fails because the store is away says nothing about the backup.
                self.catalog.load_one(self.info.backup_id)
                raise

    def _judge(self, to: Recovered) -> None:
        """Tell whether recovery went as far as it had to, and was quick enough."""
        size = self.info.xlog_segment_size
        where = f"to {format_lsn(to.lsn)}" if to.lsn is not None else "without applying WAL"
        when = f", last transaction at {format_time(to.time)}" if to.time else ""
        text = f"{where}{when}, in {self.recovery_seconds or 0:.1f} s"
        if self.end is not None and (to.lsn is None or to.lsn <= self.end[1]):
            self.findings.append(
                critical(
                    "recovery",
                    f"{text}: it ended before the newest WAL of the archive, {self._segment(*self.end)}",
                    "WAL after that point is damaged: barman-cloud verify --wal tells where; take a new backup",
                    name_of(self.end[0], max((to.lsn or 1) - 1, 0) // size, size),
                )
            )
        else:
            self.findings.append(ok("recovery", text))
        seconds, most = self.rto_seconds or 0, self.options.max_rto
        text = f"open for writing {seconds:.1f} s after the restore began"
        if most is not None and seconds > most.total_seconds():
            hint = "restore with more --jobs, take backups more often, or from a nearer bucket"
            self.findings.append(critical("rto", f"{text}, more than {duration(most)}", hint))
        else:
            self.findings.append(ok("rto", text))

    def _question(self, server: PrivateServer) -> None:
        if self.options.amcheck:
            log.info("checking tables and indexes")
            progress.current().phase("checking tables and indexes")
            self.findings += check_relations(server, self.options.jobs)
        else:
            self.findings.append(ok("amcheck", "tables and indexes weren't checked, because of --no-amcheck"))
        self.findings += check_assertions(server, self.options.dbname, self.options.assertions)

    def _segment(self, timeline: int, lsn: int) -> str:
        return name_of(timeline, lsn // self.info.xlog_segment_size, self.info.xlog_segment_size)

    def result(self, now: datetime) -> DrillResult:
        store, layout, done = self.catalog.store, self.catalog.layout, self.restored
        metrics = {
            "drill_restored_bytes": done.size if done else None,
            "drill_restore_seconds": done.seconds if done else None,
            "drill_recovery_seconds": self.recovery_seconds,
            "drill_rto_seconds": self.rto_seconds,
        }
        known = {name: round(value, 3) for name, value in metrics.items() if value is not None}
        report = Report("drill", store.url.text, layout.server, now, tuple(self.findings), metrics=known)
        return DrillResult(
            report,
            self.info,
            self.settings.targets(),
            self.programs.version,
            done,
            self.recovery_seconds,
            self.rto_seconds,
            self.recovered,
            self.kept,
        )


def _choose(catalog: Catalog, text: str | None, settings: RecoverySettings) -> BackupInfo:
    view = catalog.load()
    if not view.backups and not view.unreadable and (problem := servers.describe_unknown(catalog)):
        raise NotFoundError(problem)
    if text == ALL:
        raise UsageError("a drill is of one backup", hint="give its id, name or shortcut, or nothing for the newest")
    if text in (None, selection.AUTO) and (settings.name or settings.xid):
        raise UsageError(
            "which backups come before a restore point or a transaction can't be told",
            hint="give the id of a backup that ended before it",
        )
    if text in (None, selection.AUTO) and (settings.time or settings.lsn is not None):
        info = selection.select_auto(view, settings.time, settings.lsn, require_wal=False)
    else:
        chosen = choose(view, None if text == selection.AUTO else text, None, "restored")
        if not chosen:
            raise NotFoundError("there is no complete backup", hint="take one: barman-cloud backup")
        info = chosen[0]
    if info.snapshots_info:
        raise OperationError(
            f"backup {info.backup_id} is a disk snapshot, which a drill can't restore",
            hint="name another backup, or restore it by hand to a machine that has disks made of its snapshots",
        )
    return info


def _programs(info: BackupInfo, settings: RecoverySettings, options: DrillOptions) -> Programs:
    if info.version is None:
        raise DrillError(f"backup {info.backup_id} doesn't tell the version of its server", hint="drill another backup")
    if info.version < OLDEST_VERSION:
        raise DrillError(f"backup {info.backup_id} is of a PostgreSQL older than 12, which can't be drilled")
    settings.check(info)
    try:
        return find_server(info.version // 10000, options.pg_bin)
    except NotFoundError as error:
        raise DrillError(f"backup {info.backup_id} can't be drilled here: {error}", hint=error.hint) from error


def _kind(info: BackupInfo) -> str:
    return f"incremental, on top of {info.parent_backup_id}" if info.parent_backup_id else "full"


def _ago(info: BackupInfo, now: datetime) -> str:
    return f"{duration(now - info.end_time)} ago" if info.end_time else "at an unknown time"


def _describe(done: RestoreReport) -> str:
    speed = f", {done.size / done.seconds / 2**20:.1f} MiB/s" if done.seconds else ""
    verified = f"; all {done.verified} files are as its manifest says" if done.verified is not None else ""
    return f"{done.files} files, {mebibytes(done.size)}, in {done.seconds:.1f} s{speed}{verified}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
