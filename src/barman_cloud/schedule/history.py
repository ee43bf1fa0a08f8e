"""What was run and how it ended: one small object for each run, below ``maintenance/runs/<job>/``.

The key holds the start, and once the run has ended its exit code behind a dot (``lost`` where nobody saw the end). So a
listing alone tells when a job ran last, and how that ended; old runs are removed as new ones come.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from barman_cloud import logs
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import AccessDeniedError, ObjectNotFoundError, OperationError
from barman_cloud.store.base import ObjectStore

log = logs.get_logger(__name__)

KEPT = 100
"""Runs of each job that are remembered."""

TIME_FORM = "%Y%m%dT%H%M%S.%fZ"
_LOST = "lost"


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job. ``exit_code`` is None while it runs, or if it died with its host."""

    job: str
    started: datetime
    ended: datetime | None
    exit_code: int | None
    """None while it runs, and for a run whose process went away."""
    message: str = ""
    """The last line of its messages if it failed."""


class ListedRun(NamedTuple):
    """What a listing tells of a run."""

    started: datetime
    ended: bool
    exit_code: int | None
    """None while it runs, and of a run whose process went away."""
    key: str

    @property
    def lost(self) -> bool:
        """Its process went away, and nobody knows how far it got."""
        return self.ended and self.exit_code is None


def record(store: ObjectStore, layout: Layout, run: JobRun) -> None:
    """Store a run: once when it starts, and again, in place of that, when it has ended."""
    document = {
        "ended": run.ended.isoformat() if run.ended else None,
        "exit_code": run.exit_code,
        "message": run.message[:1000],
    }
    started = f"{_folder(layout, run.job)}{run.started.astimezone(UTC).strftime(TIME_FORM)}"
    ending = "" if run.ended is None else f".{_LOST if run.exit_code is None else run.exit_code}"
    store.put(f"{started}{ending}", json.dumps(document).encode())
    if ending:
        remove(store, [started])


def listed_runs(folder: str, keys: Iterable[str]) -> list[ListedRun]:
    """Return the runs that ``keys`` in ``folder`` tell of, oldest first; keys of anything else are left out."""
    runs: dict[datetime, ListedRun] = {}
    for key in keys:
        name = key.removeprefix(folder)
        text, _, ending = name.rpartition(".") if name.count(".") > 1 else (name, "", "")
        try:
            start = datetime.strptime(text, TIME_FORM).replace(tzinfo=UTC)
            code = int(ending) if ending and ending != _LOST else None
        except ValueError:
            continue  # not ours
        if ending or start not in runs:  # the first record of a run may have outlived the second for a moment
            runs[start] = ListedRun(start, bool(ending), code, key)
    return [runs[start] for start in sorted(runs)]


def last_start(store: ObjectStore, layout: Layout, job: str) -> datetime | None:
    """Return when a job was last started, from a listing alone."""
    runs = _listed(store, layout, job)
    return runs[-1].started if runs else None


def last_runs(store: ObjectStore, layout: Layout, job: str, count: int = 1) -> list[JobRun]:
    """Return the newest runs of a job, newest first."""
    return [run for listed in reversed(_listed(store, layout, job)[-count:]) if (run := read(store, job, listed))]


def read(store: ObjectStore, job: str, listed: ListedRun) -> JobRun | None:
    """Return all that is known of a run, None if it was removed meanwhile."""
    try:
        return _parse(job, listed.started, store.get(listed.key))
    except ObjectNotFoundError:
        return None


def forget_old(store: ObjectStore, layout: Layout, job: str) -> None:
    """Remove all but the newest :data:`KEPT` runs of a job."""
    old = _listed(store, layout, job)[:-KEPT]
    remove(store, [run.key for run in old])


def remove(store: ObjectStore, keys: Sequence[str]) -> None:
    """Delete what is no longer needed; a store that keeps it, by a lock or a policy, does no harm."""
    try:
        if keys:
            store.delete(keys)
    except (OperationError, AccessDeniedError) as error:
        log.info("old records stay: %s", error)


def runs_folder(layout: Layout) -> str:
    """Return what the keys of all runs of a server begin with; the job's name follows."""
    return f"{layout.maintenance_dir}runs/"


def _folder(layout: Layout, job: str) -> str:
    return f"{runs_folder(layout)}{job}/"


def _listed(store: ObjectStore, layout: Layout, job: str) -> list[ListedRun]:
    folder = _folder(layout, job)
    return listed_runs(folder, (item.key for item in store.list(folder)))


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
