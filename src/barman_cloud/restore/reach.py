"""Can recovery from a backup get to its target? Answered by listings, before the first byte is restored.

A restore takes hours, and PostgreSQL says only at its end that a segment, a timeline or the target isn't there; or it
says nothing, and promotes at the first gap (PostgreSQL docs, 26.3.5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from barman_cloud import logs
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.needed_wal import NeededWal, needed_wal
from barman_cloud.catalog.times import format_time
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.catalog.wal_range import Gap, Leg, Run, follow, legs, name_of
from barman_cloud.errors import OperationError
from barman_cloud.postgres.timeline import history_name
from barman_cloud.postgres.wal import format_lsn, parse_lsn
from barman_cloud.restore.recovery_settings import RecoverySettings

log = logs.get_logger(__name__)

_AFTER_GAP = "look for the missing WAL in pg_wal of the server, or restore a backup that was taken after it"
_RESOLUTION = timedelta(seconds=1)
"""Stores tell times to the second, cut off."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why recovery will not end at its target, and what to do."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Found:
    """How far the archive covers the way: the last run, the gap behind it, and whether the target lies before that."""

    size: int
    run: Run | None
    gap: Gap | None
    reached: bool

    @property
    def end(self) -> str:
        """The last segment before the gap, as a phrase."""
        if self.run is None:
            return "no WAL from the backup's begin on"
        stored = f", which was stored at {format_time(self.run.ended)}" if self.run.ended else ""
        return f"WAL to {name_of(self.run.timeline, self.run.last, self.size)}{stored}"

    @property
    def reason(self) -> str:
        """Why the WAL ends there, as a phrase that follows it."""
        if self.gap is None:
            return ""
        missing = name_of(self.gap.timeline, self.gap.missing, self.size)
        if self.gap.next is None:
            return f"; {missing} is missing, although that timeline went on"
        return f"; {missing} is missing, although there is {name_of(self.gap.timeline, self.gap.next, self.size)}"


def require(problems: list[Problem], *, force: bool) -> None:
    """Raise ``OperationError`` with the first of ``problems``, unless ``force``: then they are warned of."""
    for problem in problems:
        if not force:
            raise OperationError(problem.message, hint=f"{problem.hint}; --force restores nevertheless")
        log.warning("%s; going on because of --force", problem.message)


def missing_wal(archive: WalArchive, info: BackupInfo) -> str | None:
    """Return which of the WAL that the backup itself needs isn't in the archive, as a phrase; None if all is there.

    One request as a rule. A backup that doesn't say where its WAL begins and ends can't be judged: None.
    """
    needs = needed_wal(info)
    if needs is None:
        log.debug("backup %s doesn't tell which WAL it needs", info.backup_id)
        return None
    leg = Leg(needs.timeline, needs.first, needs.last)
    _, gap = follow(leg, archive.segments_from(leg.timeline, leg.first, needs.size))
    if gap is None:
        return None
    first, last, missing = (needs.name(number) for number in (needs.first, needs.last, gap.missing))
    span = f"{first} to {last}, of which {missing}" if first != last else f"{first}, which"
    return f"it needs WAL {span} is not in the archive {archive.url}"


def problems_of_backup(archive: WalArchive, info: BackupInfo) -> list[Problem]:
    """Return the problem of a backup whose own WAL isn't there."""
    missing = missing_wal(archive, info)
    if missing is None:
        return []
    return [
        Problem(
            f"backup {info.backup_id} can't be recovered: {missing}",
            "restore another backup ('auto' passes over such ones), or put that WAL into the archive",
        )
    ]


def problems_of_target(archive: WalArchive, info: BackupInfo, settings: RecoverySettings) -> list[Problem]:
    """Return why recovery from ``info``, whose own WAL is there, can't end at the target of ``settings``."""
    return look_ahead(archive, info, settings)[0]


def look_ahead(
    archive: WalArchive, info: BackupInfo, settings: RecoverySettings
) -> tuple[list[Problem], tuple[int, int] | None]:
    """Return the same, and the timeline and LSN from which on there is WAL that recovery has to apply at its end.

    That is the beginning of the archive's last segment on the way. None if the target is anything but the end of the
    archive, if there are problems, and if the backup doesn't tell which WAL it needs.
    """
    if found := list(_target_before_backup(info, settings)):
        return found, None
    needs = needed_wal(info)
    if needs is None:
        log.info(
            "backup %s doesn't tell which WAL it needs: whether the target can be reached is not known", info.backup_id
        )
        return [], None
    timeline = _target_timeline(archive, info, settings)
    if isinstance(timeline, Problem):
        return [timeline], None
    way = _legs_to(archive, timeline, needs, info)
    if isinstance(way, Problem):
        return [way], None
    if settings.immediate:
        return [], None
    walked = _walk(archive, way, needs.size, settings)
    problems = list(_judge(walked, info, settings))
    run = walked.run
    if problems or settings.targets() or run is None:
        return problems, None
    # A partial segment may hold nothing but the end of a record.
    last = run.last - 1 if run.partial else run.last
    return [], (run.timeline, last * needs.size)


def _target_before_backup(info: BackupInfo, settings: RecoverySettings) -> Iterator[Problem]:
    hint = "choose an older backup, or let 'auto' choose it"
    if settings.time and info.end_time and settings.time < info.end_time:
        yield Problem(
            f"backup {info.backup_id} ended at {format_time(info.end_time)}, after the recovery target "
            f"{format_time(settings.time)}",
            hint,
        )
    if settings.lsn is not None and info.end_xlog and settings.lsn < parse_lsn(info.end_xlog):
        yield Problem(
            f"backup {info.backup_id} ended at {info.end_xlog}, after the recovery target {format_lsn(settings.lsn)}",
            hint,
        )


def _target_timeline(archive: WalArchive, info: BackupInfo, settings: RecoverySettings) -> int | Problem:
    """Return the number of the timeline that PostgreSQL will take."""
    own = info.timeline or 1
    if settings.timeline == "current":
        return own
    if isinstance(settings.timeline, int):
        if settings.timeline < own:
            return Problem(
                f"backup {info.backup_id} is of timeline {own}, which timeline {settings.timeline} can't follow",
                "choose an older backup, or another timeline",
            )
        if settings.timeline != 1 and not archive.has_history(settings.timeline):
            there = ", ".join(map(str, archive.timelines())) or "none"
            return Problem(
                f"timeline {settings.timeline} isn't in the archive {archive.url}, which has no "
                f"{history_name(settings.timeline)} (timelines that it has: {there})",
                "give one of these with --target-tli",
            )
        return settings.timeline
    newest = archive.newest_timeline(own)
    later = [timeline for timeline in archive.timelines() if timeline > newest]
    if later:
        log.warning(
            "PostgreSQL takes timeline %d for the latest, because %s is not in the archive, although there is "
            "timeline %s",
            newest,
            history_name(newest + 1),
            ", ".join(map(str, later)),
        )
    return newest


def _legs_to(archive: WalArchive, timeline: int, needs: NeededWal, info: BackupInfo) -> tuple[Leg, ...] | Problem:
    history = archive.history(timeline)
    way = legs(history, timeline, (needs.timeline, needs.first), needs.size)
    left = next((switch.end for switch in history if switch.timeline == needs.timeline), None)
    if not way:
        return Problem(
            f"timeline {timeline} doesn't come from timeline {needs.timeline}, on which backup {info.backup_id} is",
            "give --target-tli current, or another timeline, or another backup",
        )
    if left is not None and info.end_xlog and left < parse_lsn(info.end_xlog):
        return Problem(
            f"timeline {timeline} left timeline {needs.timeline} at {format_lsn(left)}, before backup "
            f"{info.backup_id} ended at {info.end_xlog}",
            "give --target-tli current, or another timeline, or an older backup",
        )
    return way


def _walk(archive: WalArchive, way: tuple[Leg, ...], size: int, settings: RecoverySettings) -> _Found:
    """Go along the legs until the target is reached or the WAL ends."""

    def has_target(number: int, stored: datetime | None) -> bool:
        if settings.lsn is not None:
            return number >= settings.lsn // size
        return settings.time is not None and _may_hold(stored, settings.time)

    last: Run | None = None
    for leg in way:
        found = archive.segments_from(leg.timeline, leg.first, size)
        run, gap = follow(leg, found, lambda segment: has_target(segment.number, segment.stored))
        last = run or last
        reached = run is not None and has_target(run.last, run.ended)
        if reached or gap is not None:
            return _Found(size, last, gap, reached)
    return _Found(size, last, None, reached=False)


def _may_hold(stored: datetime | None, time: datetime) -> bool:
    """Tell whether a segment that was stored then may have WAL of ``time``."""
    return stored is None or stored + _RESOLUTION > time


def _judge(found: _Found, info: BackupInfo, settings: RecoverySettings) -> Iterator[Problem]:
    if found.reached:
        log.info("the archive has %s: the target can be reached", found.end)
    elif settings.time is not None or settings.lsn is not None:
        target = f"LSN {format_lsn(settings.lsn)}" if settings.lsn is not None else ""
        target = target or (format_time(settings.time) if settings.time else "")
        yield Problem(
            f"recovery from backup {info.backup_id} can't reach {target}: the archive has {found.end}{found.reason}",
            "choose an earlier target, or none to recover all that is there" if found.gap is None else _AFTER_GAP,
        )
    elif found.gap is None:
        log.info("the archive has %s, without a gap", found.end)
    elif settings.standby or settings.targets():
        # A standby may get it from elsewhere; where a name or a transaction is, nobody knows.
        log.warning("recovery from backup %s can't go on after %s%s", info.backup_id, found.end, found.reason)
    else:
        yield Problem(
            f"recovery from backup {info.backup_id} would end early: the archive has {found.end}{found.reason}",
            _AFTER_GAP,
        )
