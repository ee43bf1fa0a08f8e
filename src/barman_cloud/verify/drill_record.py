"""What drills have shown: one small object for each, ``<server>/maintenance/drills/<time>-<4 hex digits>.json``.

The objects are a help and no proof, as the ledger of ``verify`` is. They may be deleted at any time.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from barman_cloud import logs
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
_LARGEST = 1 << 20
_PROBLEMS = 20
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class DrillRecord:
    """What is remembered of a drill. Times in seconds, sizes in bytes; None where the drill didn't come so far."""

    moment: datetime
    """When the drill began."""
    backup_id: str
    succeeded: bool
    problems: tuple[str, ...] = ()
    """What it has shown to be wrong, a line each."""
    restored_bytes: int | None = None
    restore_seconds: float | None = None
    recovery_seconds: float | None = None
    rto_seconds: float | None = None
    """From the begin of the restore until the server was open for writing."""
    recovered_lsn: str | None = None
    recovered_time: datetime | None = None
    """When the last transaction was committed that was recovered."""

    def to_json(self) -> str:
        document = {
            "version": _VERSION,
            "time": self.moment.isoformat(),
            "backup_id": self.backup_id,
            "succeeded": self.succeeded,
            "problems": [problem[:_LONGEST] for problem in self.problems[:_PROBLEMS]],
            "restored_bytes": self.restored_bytes,
            "restore_seconds": self.restore_seconds,
            "recovery_seconds": self.recovery_seconds,
            "rto_seconds": self.rto_seconds,
            "recovered_lsn": self.recovered_lsn,
            "recovered_time": self.recovered_time.isoformat() if self.recovered_time else None,
        }
        return json.dumps(document, indent=1) + "\n"


def drills_dir(layout: Layout) -> str:
    return f"{layout.maintenance_dir}drills/"


def save(store: ObjectStore, layout: Layout, record: DrillRecord) -> None:
    """Store a record. Who may only read gets a line at ``-v``: a drill needs no more."""
    name = f"{record.moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}.json"
    try:
        store.put(f"{drills_dir(layout)}{name}", record.to_json().encode())
    except BarmanCloudError as error:
        level = log.info if isinstance(error, AccessDeniedError) else log.warning
        level("what the drill has shown can't be remembered: %s", error)


def last(store: ObjectStore, layout: Layout) -> DrillRecord | None:
    """Return the record of the last drill, None if there is none that can be read."""
    return next(iter(newest(store, layout, 1)), None)


def newest(store: ObjectStore, layout: Layout, count: int) -> list[DrillRecord]:
    """Return the records of the last ``count`` drills, the newest first. Those that can't be read get a WARNING.

    Costs one listing and a request for each record.
    """
    keys = sorted((item.key for item in store.list_level(drills_dir(layout)).objects), reverse=True)
    found: list[DrillRecord] = []
    for key in keys:
        if len(found) == count:
            break
        try:
            found.append(_parse(json.loads(store.get(key, limit=_LARGEST))))
        except ObjectNotFoundError:
            continue
        except ConnectivityError:
            raise
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
            IntegrityError,
        ) as error:
            log.warning("%s can't be read: %s", store.object_url(key), error)
    return found


def _parse(document: Any) -> DrillRecord:
    if document["version"] != _VERSION:
        raise ValueError(f"version {document['version']!r} is unknown here")
    if not isinstance(document["succeeded"], bool):
        raise TypeError("succeeded is neither true nor false")
    recovered = document["recovered_time"]
    return DrillRecord(
        _time(document["time"]),
        str(document["backup_id"]),
        document["succeeded"],
        tuple(str(problem) for problem in document["problems"]),
        restored_bytes=None if document["restored_bytes"] is None else int(document["restored_bytes"]),
        restore_seconds=_seconds(document["restore_seconds"]),
        recovery_seconds=_seconds(document["recovery_seconds"]),
        rto_seconds=_seconds(document["rto_seconds"]),
        recovered_lsn=None if document["recovered_lsn"] is None else str(document["recovered_lsn"]),
        recovered_time=None if recovered is None else _time(recovered),
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
