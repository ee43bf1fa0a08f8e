"""All that the bucket knows of a server's maintenance, from one listing of ``maintenance/``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule import history
from barman_cloud.schedule.history import ListedRun
from barman_cloud.store.base import ObjectStore

KEPT_ANCHORS = 8
"""Schedules of each job that are remembered: two hosts may have different configurations for a while."""


@dataclass(frozen=True, slots=True)
class State:
    """Runs, oldest first, and since when each schedule is known, by the names of jobs."""

    runs: Mapping[str, list[ListedRun]]
    anchors: Mapping[str, list[tuple[datetime, str]]]
    """When a schedule was first seen, and its fingerprint; oldest first."""

    def last(self, job: str) -> ListedRun | None:
        runs = self.runs.get(job)
        return runs[-1] if runs else None

    def known_since(self, job: str, fingerprint: str) -> datetime | None:
        """Return when a job's schedule was first seen, None if it is new."""
        return next((since for since, found in self.anchors.get(job, ()) if found == fingerprint), None)


def look(store: ObjectStore, layout: Layout) -> State:
    """Return what there is, by one listing."""
    run_keys: dict[str, list[str]] = defaultdict(list)
    anchors: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
    runs_folder, anchors_folder = history.runs_folder(layout), _anchors_folder(layout)
    for item in store.list(layout.maintenance_dir):
        if item.key.startswith(runs_folder):
            job = item.key.removeprefix(runs_folder).partition("/")[0]
            run_keys[job].append(item.key)
        elif item.key.startswith(anchors_folder):
            job, _, name = item.key.removeprefix(anchors_folder).partition("/")
            text, _, fingerprint = name.partition("-")
            try:
                anchors[job].append((datetime.strptime(text, history.TIME_FORM).replace(tzinfo=UTC), fingerprint))
            except ValueError:
                continue  # not ours
    runs = {job: history.listed_runs(f"{runs_folder}{job}/", keys) for job, keys in run_keys.items()}
    return State(runs, {job: sorted(found) for job, found in anchors.items()})


def remember_schedule(
    store: ObjectStore, layout: Layout, state: State, job: str, fingerprint: str, since: datetime
) -> None:
    """Store since when a schedule is known, and forget the oldest of many."""
    folder = f"{_anchors_folder(layout)}{job}/"
    store.put(f"{folder}{_anchor(since, fingerprint)}", b"")
    old = list(state.anchors.get(job, ()))[: -(KEPT_ANCHORS - 1)]
    history.remove(store, [f"{folder}{_anchor(*found)}" for found in old])


def _anchors_folder(layout: Layout) -> str:
    return f"{layout.maintenance_dir}schedules/"


def _anchor(since: datetime, fingerprint: str) -> str:
    return f"{since.astimezone(UTC).strftime(history.TIME_FORM)}-{fingerprint}"
