"""Retention policies: which backups are obsolete. Pure: catalog in, verdicts out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from barman_cloud import logs
from barman_cloud.catalog.backup_info import ANNOUNCED, BEGUN, DONE, STARTED, BackupInfo
from barman_cloud.catalog.keep import STANDALONE, Keeps
from barman_cloud.catalog.times import format_time
from barman_cloud.errors import OperationError, UnexpectedError, UsageError
from barman_cloud.report.text import counted

log = logs.get_logger(__name__)

_POLICY = re.compile(
    r"\s*(?:REDUNDANCY\s+(?P<copies>[0-9]+)|RECOVERY\s+WINDOW\s+OF\s+(?P<count>[0-9]+)\s+(?P<unit>DAY|WEEK|MONTH)S?)\s*",
    re.IGNORECASE,
)
_DAYS = {"DAY": 1, "WEEK": 7, "MONTH": 31}


@dataclass(frozen=True, slots=True)
class Redundancy:
    """Keep the newest ``copies`` backups."""

    copies: int


@dataclass(frozen=True, slots=True)
class RecoveryWindow:
    """Keep what recovery to any moment of the last ``days`` days needs."""

    days: int


Policy: TypeAlias = Redundancy | RecoveryWindow


class Status(StrEnum):
    """What a policy says of a backup. NONE: it isn't DONE, so no policy ever deletes it."""

    VALID = "VALID"
    OBSOLETE = "OBSOLETE"
    KEEP_FULL = "KEEP:FULL"
    KEEP_STANDALONE = "KEEP:STANDALONE"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The status of one backup, and why."""

    status: Status
    reason: str


def parse_policy(text: str) -> Policy:
    """Return the policy that ``text`` says; ``UsageError`` (3) if it says none. A month has 31 days."""
    match = _POLICY.fullmatch(text)
    if match is None:
        raise UsageError(
            f"not a retention policy: '{text}'",
            hint="write REDUNDANCY <n> or RECOVERY WINDOW OF <n> DAYS (or WEEKS, MONTHS)",
        )
    if match["copies"]:
        return Redundancy(int(match["copies"]))
    return RecoveryWindow(int(match["count"]) * _DAYS[match["unit"].upper()])


def judge(
    backups: Mapping[str, BackupInfo], keeps: Keeps, policy: Policy, minimum_redundancy: int, now: datetime
) -> dict[str, Verdict]:
    """Return a verdict for every backup, ids ascending.

    Only DONE backups count, kept ones too, and those of each cluster (system identifier) by themselves. A backup and
    the incremental backups that build on it are judged as one: by the backup at their root, and none of them is
    obsolete while one of them is kept, or is being taken.
    ``UnexpectedError`` if the window begins before the year 1.
    """
    roots = find_roots(backups)
    done = [info for backup_id, info in backups.items() if info.status == DONE and roots[backup_id] == backup_id]
    done.sort(key=lambda info: info.backup_id, reverse=True)
    by_root: dict[str, Verdict] = {}
    for of_cluster in by_cluster(done).values():
        if isinstance(policy, Redundancy):
            by_root |= _judge_redundancy(of_cluster, policy, minimum_redundancy)
        else:
            by_root |= _judge_window(of_cluster, policy, minimum_redundancy, now)
    held = _held_families(backups, keeps, roots)
    return {
        backup_id: _final_verdict(backups[backup_id], keeps.get(backup_id), roots[backup_id], by_root, held)
        for backup_id in sorted(backups)
    }


def by_cluster(backups: Iterable[BackupInfo]) -> dict[str, list[BackupInfo]]:
    """Return the backups of each cluster, by its system identifier, in their order.

    Backups that don't tell theirs are taken for those of the only cluster, or, if there are several, of one more.
    """
    backups = list(backups)
    known = {info.systemid for info in backups if info.systemid}
    only = known.pop() if len(known) == 1 else ""
    result: dict[str, list[BackupInfo]] = {}
    for info in backups:
        result.setdefault(info.systemid or only, []).append(info)
    return result


def find_roots(backups: Mapping[str, BackupInfo]) -> dict[str, str]:
    """Return of each backup the one at the root of its chain of incremental backups: itself, unless it is incremental.

    Only links between backups that exist count; either end may have recorded a link.
    """
    parents = {
        child: info.backup_id
        for info in backups.values()
        for child in info.children_backup_ids or ()
        if child in backups
    }
    parents.update(
        (info.backup_id, parent) for info in backups.values() if (parent := info.parent_backup_id) and parent in backups
    )
    roots = {}
    for backup_id in backups:
        seen = [backup_id]
        while (parent := parents.get(seen[-1])) and parent not in seen:
            seen.append(parent)
        roots[backup_id] = seen[-1]
    return roots


def children_of(backups: Mapping[str, BackupInfo], backup_id: str) -> list[str]:
    """Return the existing incremental backups that build directly on ``backup_id``."""
    named = set(backups[backup_id].children_backup_ids or ())
    return [other for other, info in backups.items() if other in named or info.parent_backup_id == backup_id]


def deletion_order(verdicts: Mapping[str, Verdict], backups: Mapping[str, BackupInfo]) -> list[str]:
    """Return the obsolete ids: oldest first, but an incremental backup before what it builds on."""
    roots = find_roots(backups)
    obsolete = [backup_id for backup_id, verdict in verdicts.items() if verdict.status is Status.OBSOLETE]
    newest_first = sorted(obsolete, reverse=True)
    return sorted(newest_first, key=lambda backup_id: roots[backup_id])


def check_redundancy(backups: Mapping[str, BackupInfo], backup_id: str, minimum_redundancy: int) -> None:
    """Refuse (``OperationError``) to delete a DONE backup by id if fewer than the minimum of DONE ones would remain.

    Incremental backups don't count: they go with the full one that they build on.
    """
    if backups[backup_id].parent_backup_id:
        return
    done = [info for info in backups.values() if info.status == DONE and not info.parent_backup_id]
    cluster = next((group for group in by_cluster(done).values() if backups[backup_id] in group), [])
    remaining = len(cluster) - 1
    if backups[backup_id].status == DONE and remaining < minimum_redundancy:
        raise OperationError(
            f"backup {backup_id} is not deleted: {counted(remaining, 'DONE backup')} would remain, "
            f"and the minimum redundancy is {minimum_redundancy}",
            hint="take another backup first, or lower --minimum-redundancy",
        )


def _judge_redundancy(done: list[BackupInfo], policy: Redundancy, minimum: int) -> dict[str, Verdict]:
    copies = max(policy.copies, minimum)
    if copies > policy.copies:
        log.warning("REDUNDANCY %d is raised to %d, the minimum redundancy", policy.copies, copies)
    return {
        info.backup_id: Verdict(Status.VALID, f"number {number} of {copies} to have")
        if number <= copies
        else Verdict(Status.OBSOLETE, f"{copies} newer backups are enough")
        for number, info in enumerate(done, 1)
    }


def _judge_window(done: list[BackupInfo], policy: RecoveryWindow, minimum: int, now: datetime) -> dict[str, Verdict]:
    try:
        start = now - timedelta(days=policy.days)
    except OverflowError as error:
        raise UnexpectedError(f"a recovery window of {policy.days} days begins before the year 1") from error
    verdicts: dict[str, Verdict] = {}
    covering: str | None = None
    for number, info in enumerate(done, 1):
        if info.end_time is None:
            verdicts[info.backup_id] = Verdict(Status.VALID, "its end time isn't known")
            log.warning("backup %s is DONE without an end time: no policy can judge it", info.backup_id)
        elif covering is None and info.end_time >= start:
            verdicts[info.backup_id] = Verdict(Status.VALID, f"it ended within the window since {format_time(start)}")
        elif covering is None:
            covering = info.backup_id
            verdicts[covering] = Verdict(
                Status.VALID, f"recovery to the window's start, {format_time(start)}, needs it"
            )
        elif number <= minimum:
            log.warning("backup %s would be obsolete, but the minimum redundancy is %d", info.backup_id, minimum)
            verdicts[info.backup_id] = Verdict(Status.VALID, f"number {number} of the minimum of {minimum}")
        else:
            reason = f"it ended before the window since {format_time(start)}, and {covering} covers its start"
            verdicts[info.backup_id] = Verdict(Status.OBSOLETE, reason)
    return verdicts


def _held_families(backups: Mapping[str, BackupInfo], keeps: Keeps, roots: Mapping[str, str]) -> dict[str, str]:
    held = {}
    for backup_id, info in backups.items():
        if backup_id in keeps:
            held[roots[backup_id]] = f"{backup_id}, of the same chain of incremental backups, is kept"
        elif info.status == STARTED and roots[backup_id] != backup_id:
            held[roots[backup_id]] = f"{backup_id}, which builds on this chain, is being taken"
    return held


def _final_verdict(
    info: BackupInfo, keep: str | None, root: str, by_root: Mapping[str, Verdict], held: Mapping[str, str]
) -> Verdict:
    if info.deletion == BEGUN or (info.deletion == ANNOUNCED and keep is None):
        return Verdict(Status.OBSOLETE, "its deletion was begun and not finished")
    if info.status != DONE:
        return Verdict(Status.NONE, f"it is {info.status}, not DONE")
    if keep is not None:
        return Verdict(Status.KEEP_STANDALONE if keep == STANDALONE else Status.KEEP_FULL, "it has a keep annotation")
    verdict = by_root.get(root)
    if verdict is None:
        return Verdict(Status.VALID, f"{root}, which it builds on, isn't DONE")
    if verdict.status is Status.OBSOLETE and root in held:
        return Verdict(Status.VALID, held[root])
    return verdict
