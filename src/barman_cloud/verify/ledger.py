"""What was verified when: ``<server>/maintenance/verified.json``, so that the next run needn't do it again.

The object is a help and no proof: one that is lost or damaged costs the time of verifying again. What is remembered of
a backup holds only for the objects that were read, by name, size and ETag.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from barman_cloud import logs
from barman_cloud.catalog.catalog import Catalog, CatalogView
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConnectivityError,
    IntegrityError,
    ObjectNotFoundError,
)
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

_VERSION = 1
_RUNS = 2000
"""Runs of segments that are remembered; the ones verified longest ago are forgotten first."""
_BACKUPS = 5000
_LARGEST = 4 << 20


WHOLE = "whole"
DAMAGED_PAGES = "damaged pages"
"""It can be restored, with the damage that the cluster had."""
BROKEN = "broken"
_STATES = frozenset({WHOLE, DAMAGED_PAGES, BROKEN})


@dataclass(frozen=True, slots=True)
class VerifiedBackup:
    """When a backup was read, and how it was."""

    moment: datetime
    state: str
    fingerprint: str
    """Of the names, sizes and ETags of the backup's objects."""


@dataclass(frozen=True, slots=True)
class VerifiedWal:
    """Segments that follow each other, all of which were right."""

    timeline: int
    first: int
    last: int
    moment: datetime


@dataclass
class Ledger:
    """The content of the object."""

    backups: dict[str, VerifiedBackup] = field(default_factory=dict)
    wal: list[VerifiedWal] = field(default_factory=list)
    segment_size: int = 0
    """Bytes; numbers of segments depend on it."""

    def is_fresh(self, backup_id: str, fingerprint: str, max_age: timedelta | None, now: datetime) -> bool:
        """Tell whether a backup was found whole within ``max_age`` (None: nothing is fresh)."""
        entry = self.backups.get(backup_id)
        if entry is None or max_age is None:
            return False
        return entry.state == WHOLE and entry.fingerprint == fingerprint and _within(entry.moment, max_age, now)

    def fresh_wal(self, segment_size: int, max_age: timedelta | None, now: datetime) -> list[VerifiedWal]:
        """Return the segments that were verified within ``max_age``."""
        if max_age is None or segment_size != self.segment_size:
            return []
        return [run for run in self.wal if _within(run.moment, max_age, now)]

    def add_wal(self, timeline: int, number: int, segment_size: int, moment: datetime) -> None:
        """Note a segment that was right; they come in order."""
        if self.segment_size != segment_size:
            self.wal, self.segment_size = [], segment_size
        last = self.wal[-1] if self.wal else None
        if (
            last is not None
            and (last.timeline, last.moment) == (timeline, moment)
            and number
            in (
                last.last,
                last.last + 1,
            )
        ):
            self.wal[-1] = VerifiedWal(timeline, last.first, number, moment)
        else:
            self.wal.append(VerifiedWal(timeline, number, number, moment))

    def to_json(self) -> str:
        newest = sorted(self.backups.items(), key=lambda entry: entry[1].moment)[-_BACKUPS:]
        document = {
            "version": _VERSION,
            "backups": {
                backup_id: {
                    "time": entry.moment.isoformat(),
                    "state": entry.state,
                    "fingerprint": entry.fingerprint,
                }
                for backup_id, entry in sorted(newest)
            },
            "segment_size": self.segment_size,
            "wal": [
                [run.timeline, run.first, run.last, run.moment.isoformat()]
                for run in sorted(self.wal, key=lambda run: run.moment)[-_RUNS:]
            ],
        }
        return json.dumps(document, indent=1) + "\n"


def ledger_key(layout: Layout) -> str:
    return f"{layout.maintenance_dir}verified.json"


def load(store: ObjectStore, layout: Layout) -> Ledger:
    """Return the ledger; an empty one, with a WARNING, if it can't be read."""
    key = ledger_key(layout)
    try:
        return _parse(json.loads(store.get(key, limit=_LARGEST)))
    except ObjectNotFoundError:
        return Ledger()
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, IntegrityError) as error:
        log.warning("%s can't be read, so nothing counts as verified: %s", store.object_url(key), error)
        return Ledger()


def save(store: ObjectStore, layout: Layout, ledger: Ledger, existing: Collection[str]) -> None:
    """Store what this run has verified, together with what another run has stored meanwhile.

    Only backups that are among ``existing`` are kept. Who may only read gets a WARNING: verifying needs no more.
    """
    stored = load(store, layout)
    for backup_id, entry in stored.backups.items():
        mine = ledger.backups.get(backup_id)
        if mine is None or mine.moment < entry.moment:
            ledger.backups[backup_id] = entry
    ledger.backups = {backup_id: entry for backup_id, entry in ledger.backups.items() if backup_id in existing}
    if stored.segment_size == ledger.segment_size:
        ledger.wal = list(dict.fromkeys((*stored.wal, *ledger.wal)))
    ledger.wal = _without_covered(ledger.wal)
    try:
        store.put(ledger_key(layout), ledger.to_json().encode())
    except ConnectivityError:
        raise
    except BarmanCloudError as error:
        level = log.info if isinstance(error, AccessDeniedError) else log.warning
        level("what was verified can't be remembered: %s", error)


def broken(ledger: Ledger, view: CatalogView) -> set[str]:
    """Return the complete backups that were found broken, and those that build on one of them."""
    found = {backup_id for backup_id, entry in ledger.backups.items() if entry.state == BROKEN}
    lost: set[str] = set()
    for backup_id, info in view.backups.items():  # ascending: a parent comes before its children
        if info.is_complete and (backup_id in found or info.parent_backup_id in lost):
            lost.add(backup_id)
    return lost


def fingerprint(catalog: Catalog, backup_id: str) -> str:
    """Return a digest of what a listing tells of a backup's objects, except for ``backup.info``, which may change."""
    layout = catalog.layout
    digest = hashlib.sha256()
    for item in sorted(catalog.store.list_level(layout.backup_dir(backup_id)).objects):
        if item.key != layout.backup_info(backup_id):
            digest.update(f"{item.key}\0{item.size}\0{item.etag}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _without_covered(runs: Iterable[VerifiedWal]) -> list[VerifiedWal]:
    """Leave out runs all of which was verified again later, in one run."""
    kept: list[VerifiedWal] = []
    for run in sorted(runs, key=lambda run: run.moment, reverse=True)[: 2 * _RUNS]:
        if not any(
            new.timeline == run.timeline and new.first <= run.first and run.last <= new.last for new in kept[:100]
        ):
            kept.append(run)
    return kept[:_RUNS]


def _within(moment: datetime, max_age: timedelta, now: datetime) -> bool:
    return now - max_age <= moment <= now


def _parse(document: Any) -> Ledger:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r} is unknown here")
    backups = {
        str(backup_id): VerifiedBackup(_time(entry["time"]), _state(entry["state"]), str(entry["fingerprint"]))
        for backup_id, entry in document["backups"].items()
    }
    wal = [
        VerifiedWal(int(timeline), int(first), int(last), _time(moment))
        for timeline, first, last, moment in document["wal"]
    ]
    return Ledger(backups, wal, int(document["segment_size"]))


def _state(text: str) -> str:
    if text not in _STATES:
        raise ValueError(f"{text!r} is not a state")
    return text


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
