"""What ``--dry-run`` prints: Barman's lines, which scripts parse, backup by backup."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Protocol

from barman_cloud.catalog.backup_objects import BackupObjects
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.wal_cleanup import NoCleanup, WalCleanup
from barman_cloud.catalog.wal_sweep import WalSweep
from barman_cloud.store.base import ObjectStore

_SPILL = 1 << 20


class Writer(Protocol):
    """What lines are written to, such as an open file."""

    def write(self, text: str, /) -> int: ...


def report(
    store: ObjectStore,
    layout: Layout,
    backups: Sequence[BackupObjects],
    plans: Sequence[WalCleanup | NoCleanup],
    out: Writer,
) -> None:
    """Print what deleting ``backups`` and following ``plans``, one for each of them, would delete.

    The line of each plan's WAL comes after all of its folders, so the keys wait in a temporary file for the end of the
    listing: memory doesn't grow with the archive.
    """
    cleanups = {index: plan for index, plan in enumerate(plans) if isinstance(plan, WalCleanup)}
    places = {backup: place for place, backup in enumerate(cleanups)}
    sweep = WalSweep(store, layout, list(cleanups.values()))
    with ExitStack() as files:
        singles = [
            files.enter_context(tempfile.SpooledTemporaryFile(_SPILL, "w+", encoding="utf-8", newline=""))
            for _ in cleanups
        ]
        for taken in sweep:
            if not taken.whole:
                file = singles[taken.plan]
                file.write(f"{', ' if file.tell() else ''}{taken.key!r}")
        for index, objects in enumerate(backups):
            for what in _objects_of(objects):
                out.write(_line(what))
            if index in places:
                for folder in sweep.whole_folders[places[index]]:
                    out.write(_line(f"all objects under prefix {folder}"))
                _copy_line(singles[places[index]], out)


def _objects_of(objects: BackupObjects) -> Iterable[str]:
    if objects.label:
        yield "snapshots"
        yield objects.label
    yield f"objects {[*objects.archives, *objects.sidecars, objects.info]}"


def _copy_line(file: tempfile.SpooledTemporaryFile[str], out: Writer) -> None:
    if file.tell():
        before, after = _line("objects [|]").split("|")
        out.write(before)
        file.seek(0)
        shutil.copyfileobj(file, out)
        out.write(after)


def _line(what: str) -> str:
    return f"Skipping deletion of {what} due to --dry-run option\n"
