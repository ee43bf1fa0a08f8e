"""What a restore would do, told without doing it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.layout import Layout
from barman_cloud.report.text import counted
from barman_cloud.restore.archive_restore import look_before
from barman_cloud.restore.chain import open_chain
from barman_cloud.restore.journal import NAME
from barman_cloud.restore.plan import RestorePlan, make_plan
from barman_cloud.restore.room import estimate, look, mebibytes
from barman_cloud.restore.source import ArchiveSource
from barman_cloud.restore.verify import WrittenFiles
from barman_cloud.store.base import ObjectStore


def describe_restore(
    store: ObjectStore,
    layout: Layout,
    info: BackupInfo,
    target: Path,
    tablespaces: Mapping[str, str],
    jobs: int,
    *,
    delta: bool = False,
    force: bool = False,
) -> list[str]:
    """Return, line by line, what ``restore_backup`` with these arguments would do; it raises what that would raise."""
    plan, _ = make_plan(store, layout, info, target, tablespaces, delta=delta, dry_run=True)
    unfinished = (plan.target / NAME).exists()
    with ExitStack() as stack:
        chain = open_chain(store, layout, plan.sources, stack) if plan.older else None
        comparison = look_before(
            store, layout, plan, jobs, WrittenFiles(), force=force, interrupted=unfinished, chain=chain
        )
    lines = [f"Would restore backup {info.backup_id} into {plan.target}:"]
    if unfinished:
        lines.append("  goes on           with the unfinished restore that is there, if it is the same")
    lines += _places(plan)
    if comparison is None:
        lines += [f"  room              {room}" for room in look(plan, estimate(plan))]
    else:
        lines += [
            f"  kept              {comparison.kept_files} files, {mebibytes(comparison.kept_size)}",
            f"  written           {comparison.written_files} files, {mebibytes(comparison.written_size)}",
            f"  removed           {comparison.removed} files that are not in the backup",
        ]
    if plan.older:
        lines += [_read_of(source, number) for number, source in enumerate(plan.sources)]
    count = sum(len(source.archives) for source in plan.sources)
    lines.append(f"  fetched           {count} archives, {mebibytes(plan.stored_size)}")
    return lines


def _read_of(source: ArchiveSource, number: int) -> str:
    kind = "increment" if number else "full backup"
    archives = counted(len(source.archives), "archive")
    return f"  {kind:<17} {source.info.backup_id}: {archives}, {mebibytes(source.stored_size)}"


def _places(plan: RestorePlan) -> list[str]:
    return [f"  tablespace        {entry.tablespace.name} into {entry.target}" for entry in plan.tablespaces]
