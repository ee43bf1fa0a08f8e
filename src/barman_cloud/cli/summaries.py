"""What each command says at its end (``args.summary``, told by ``showing``)."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from barman_cloud.catalog.cleanup import FAILED, REMOVED, STAYS, WOULD_BE_REMOVED
from barman_cloud.catalog.lineage import type_of
from barman_cloud.catalog.needed_wal import needed_wal
from barman_cloud.errors import IntegrityError
from barman_cloud.report import progress
from barman_cloud.report.summary import Summary
from barman_cloud.report.text import counted, size
from barman_cloud.verify.findings import Level

if TYPE_CHECKING:
    from barman_cloud.catalog.backup_info import BackupInfo
    from barman_cloud.catalog.cleanup import CleanupReport
    from barman_cloud.restore.archive_restore import RestoreReport
    from barman_cloud.verify.drill import DrillResult
    from barman_cloud.verify.findings import Report

_SIGNAL_FILES = 120000
"""The PostgreSQL whose recovery settings are in ``postgresql.auto.conf``; before it they were in ``recovery.conf``."""

_WAL_STATES = {
    "archived": "archived",
    "missing": "not archived yet",
    "included": "included",
    "unknown": "not known whether it is archived",
}


def of_backup(info: BackupInfo) -> Summary:
    """Return what is to say of a backup that is DONE."""
    state = progress.current().notes.get("wal", "unknown")
    first, last = _needed(info)
    kind = type_of(info)
    return Summary(
        head=f"{kind} backup {info.backup_id}",
        tail=f"needs WAL {_wal_range(first, last)} ({_WAL_STATES[state]})" if first else "",
        kind="backup",
        facts={
            "backup_id": info.backup_id,
            "name": info.backup_name,
            "type": kind,
            "parent_backup_id": info.parent_backup_id,
            "timeline": info.timeline,
            "first_wal": first,
            "last_wal": last,
            "wal": state,
        },
        moved=info.snapshots_info is None,
    )


def of_consolidation(info: BackupInfo) -> Summary:
    """Return what is to say of a full backup that was made out of a chain."""
    sources = progress.current().notes.get("made_of", [])
    made = of_backup(info)
    return replace(
        made,
        head=f"{made.head} made out of {sources[-1]} and {counted(len(sources) - 1, 'older backup')}",
        facts={**made.facts, "made_of": sources},
    )


def of_restore(
    info: BackupInfo, report: RestoreReport | None, target: Path, restore_command: str | None, *, has_settings: bool
) -> Summary:
    """Return what is to say of a restore; ``restore_command`` is what PostgreSQL needs, None if it needs none."""
    target = target.absolute()
    tail = ""
    facts = {"backup_id": info.backup_id, "directory": str(target), "has_recovery_settings": has_settings}
    if report is not None:
        verified = f", {report.verified:,} verified" if report.verified is not None else ""
        tail = f"{report.files:,} files written{verified}"
        kept = report.comparison
        facts |= {
            "files": report.files,
            "verified_files": report.verified,
            "kept_files": kept.kept_files if kept else None,
            "removed_files": kept.removed if kept else None,
        }
    return Summary(
        head=f"backup {info.backup_id} restored into {target}",
        tail=tail,
        kind="restore",
        facts=facts,
        following=_next_of_restore(info, target, restore_command, has_settings=has_settings),
        inflates=True,
        moved=report is not None,
    )


def of_deletion(*, dry_run: bool) -> Summary | None:
    """Return what is to say of a deletion: what went, and how much was freed."""
    work = progress.current()
    backups: list[str] = work.notes.get("backups", [])
    archives, wal_files = work.notes.get("archives", 0), work.notes.get("wal_files", 0)
    freed = work.state().stored
    facts = {
        "dry_run": dry_run,
        "backup_ids": backups,
        "archives": archives,
        "wal_files": wal_files,
        "freed_bytes": freed,
    }
    if dry_run:
        head = "nothing was deleted (--dry-run)"
    elif not backups:
        head = "nothing was deleted"
    else:
        shown = ", ".join(backups[:3]) + (f" and {len(backups) - 3} more" if len(backups) > 3 else "")
        parts = f"{counted(archives, 'archive')} and {counted(wal_files, 'WAL file')}"
        head = f"deleted {counted(len(backups), 'backup')} ({shown}): {parts}, {size(freed)} freed"
    return Summary(head=head, kind="deletion", facts=facts, moved=False)


def of_cleanup(report: CleanupReport) -> Summary:
    """Return what is to say of a clean-up."""
    results = {REMOVED: 0, WOULD_BE_REMOVED: 0, STAYS: 0, FAILED: 0}
    for outcome in report.outcomes:
        results[outcome.result] += 1
    told = [f"{number} {result}" for result, number in results.items() if number]
    freed = f", {size(report.freed)} {'would be ' if report.dry_run else ''}freed" if told else ""
    return Summary(
        head=f"clean-up: {', '.join(told) or 'nothing is left over'}{freed}",
        kind="cleanup",
        facts={
            "dry_run": report.dry_run,
            "removed": results[REMOVED] + results[WOULD_BE_REMOVED],
            "stays": results[STAYS],
            "failed": results[FAILED],
            "freed_bytes": report.freed,
        },
        moved=False,
    )


def of_drill(result: DrillResult) -> Summary:
    """Return what is to say of a drill."""
    report, done = result.report, result.restored
    problems = len(report.problems)
    parts = [f"open for writing after {result.rto_seconds:.1f} s"] if result.rto_seconds is not None else []
    parts.append(f"{counted(problems, 'problem')}, see above" if problems else "nothing is wrong")
    return Summary(
        head=f"drill of backup {result.backup.backup_id}",
        tail=", ".join(parts),
        kind="drill",
        facts={
            **result.to_json()["drill"],
            "level": report.level.name.lower(),
            "problems": [finding.to_json() for finding in report.problems],
            "can_restore": report.level is not Level.CRITICAL,
        },
        inflates=True,
        moved=done is not None,
    )


def of_verify(report: Report) -> Summary:
    """Return what is to say of a verification."""
    metrics = report.metrics
    backups, wal = int(metrics.get("verified_backups", 0)), int(metrics.get("verified_wal_files", 0))
    problems = len(report.problems)
    verdict = f"{counted(problems, 'problem')}, see above" if problems else "nothing is wrong"
    return Summary(
        head=f"verified {counted(backups, 'backup')} and {counted(wal, 'WAL file')}",
        tail=verdict,
        kind="verification",
        facts={
            "level": report.level.name.lower(),
            "backups": backups,
            "wal_files": wal,
            "problems": [finding.to_json() for finding in report.problems],
            "broken_backups": int(metrics.get("broken_backups", 0)),
            "can_restore": report.level is not Level.CRITICAL,
        },
        noun="object",
    )


def _needed(info: BackupInfo) -> tuple[str | None, str | None]:
    try:
        needed = needed_wal(info)
    except IntegrityError:
        return None, None
    return (needed.name(needed.first), needed.name(needed.last)) if needed else (None, None)


def _wal_range(first: str | None, last: str | None) -> str:
    return f"{first}" if first == last else f"{first}…{last}"


def _next_of_restore(info: BackupInfo, target: Path, restore_command: str | None, *, has_settings: bool) -> list[str]:
    """Return what to type: PostgreSQL must not be started without a way to its WAL."""
    directory = shlex.quote(str(target))
    start = f"next: pg_ctl -D {directory} start    (as the user that PostgreSQL runs as)"
    if has_settings or restore_command is None:
        return [start]
    setting = shlex.quote("restore_command = '{}'".format(restore_command.replace("'", "''")))
    if (info.version or _SIGNAL_FILES) < _SIGNAL_FILES:
        return [f"next: echo {setting} >> {directory}/recovery.conf", f"      {start.removeprefix('next: ')}"]
    return [
        f"next: echo {setting} >> {directory}/postgresql.auto.conf",
        f"      touch {directory}/recovery.signal    (without it, and its WAL, the copy isn't consistent)",
        f"      pg_ctl -D {directory} start    (as the user that PostgreSQL runs as)",
    ]
