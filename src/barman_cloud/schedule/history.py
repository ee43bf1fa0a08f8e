"""What was run and how it ended: one small object for each run, below ``maintenance/runs/<job>/``.

The key holds the start, so that the newest runs are found by a listing alone; old ones are removed as new ones come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ObjectNotFoundError
from barman_cloud.store.base import ObjectStore

KEPT = 100
"""Runs of each job that are remembered."""

_FORM = "%Y%m%dT%H%M%S.%fZ"


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job. ``exit_code`` is None while it runs, or if it died with its host."""

    job: str
    started: datetime
    ended: datetime | None
    exit_code: int | None
    message: str = ""
    """The last line of its messages if it failed."""


def record(store: ObjectStore, layout: Layout, run: JobRun) -> None:
    """Store a run: once when it starts, and again over it when it has ended."""
    document = {
        "ended": run.ended.isoformat() if run.ended else None,
        "exit_code": run.exit_code,
        "message": run.message[:1000],
    }
    store.put(_key(layout, run.job, run.started), json.dumps(document).encode())


def last_start(store: ObjectStore, layout: Layout, job: str) -> datetime | None:
    """Return when a job was last started, from a listing alone."""
    starts = _starts(store, layout, job)
    return starts[-1] if starts else None


def last_runs(store: ObjectStore, layout: Layout, job: str, count: int = 1) -> list[JobRun]:
    """Return the newest runs of a job, newest first."""
    runs = []
    for start in reversed(_starts(store, layout, job)[-count:]):
        try:
            runs.append(_parse(job, start, store.get(_key(layout, job, start))))
        except ObjectNotFoundError:
            continue  # removed meanwhile
    return runs


def forget_old(store: ObjectStore, layout: Layout, job: str) -> None:
    """Remove all but the newest :data:`KEPT` runs of a job."""
    old = _starts(store, layout, job)[:-KEPT]
    if old:
        store.delete(_key(layout, job, start) for start in old)


def _folder(layout: Layout, job: str) -> str:
    return f"{layout.maintenance_dir}runs/{job}/"


def _key(layout: Layout, job: str, start: datetime) -> str:
    return f"{_folder(layout, job)}{start.astimezone(UTC).strftime(_FORM)}"


def _starts(store: ObjectStore, layout: Layout, job: str) -> list[datetime]:
    folder = _folder(layout, job)
    starts = []
    for item in store.list(folder):
        try:
            starts.append(datetime.strptime(item.key.removeprefix(folder), _FORM).replace(tzinfo=UTC))
        except ValueError:
            continue  # not ours
    return sorted(starts)


def _parse(job: str, start: datetime, data: bytes) -> JobRun:
    try:
        document = json.loads(data)
        ended = document["ended"]
        return JobRun(
            job,
            start,
            datetime.fromisoformat(ended) if ended else None,
            document["exit_code"],
            str(document.get("message", "")),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return JobRun(job, start, None, None, "its record can't be read")
