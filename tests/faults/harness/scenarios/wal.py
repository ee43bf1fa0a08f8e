"""wal-archive and wal-restore, with and without working ahead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from barman_cloud.archive.compression import compress_bytes, compression_of, decompress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError
from barman_cloud.wal import archive_spool
from barman_cloud.wal.spool import Directory
from tests.faults.harness.material import COMPARED, SERVER
from tests.faults.harness.process import Disturbance, Outcome
from tests.faults.harness.scenarios.base import Scenario, succeeded
from tests.support.background_processes import background_processes, ended_background_processes
from tests.support.ports import wait_for
from tests.support.segments import Cluster, segment, segment_name

FILES = 4


class Archiving(Scenario):
    """A segment is archived. Acknowledged means stored, and nothing is stored that isn't whole."""

    name = "wal-archive"
    codes = frozenset({1, 2, 4})
    deadline = 60.0
    ahead: tuple[str, ...] = ()

    def prepare(self) -> None:
        self.cluster = Cluster(self.place.root / "data")
        self.waiting = [self.cluster.add(number) for number in range(1, FILES + 1)]
        self.content = {path: path.read_bytes() for path in self.waiting}
        self.acknowledged: list[Path] = []
        (self.place.root / "spool").mkdir(mode=0o700)

    @property
    def spool(self) -> Path:
        return self.place.root / "spool"

    def command(self) -> list[str]:
        options = ["--gzip", "--spool-dir", str(self.spool), *self.ahead, *self.place.options]
        return ["wal-archive", *options, self.place.url, SERVER, str(self.waiting[0])]

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        outcome = super().disturbed(disturbance, **arguments)
        self._acknowledge(outcome)
        return outcome

    def _acknowledge(self, outcome: Outcome) -> None:
        if outcome.code == 0:
            path = self.waiting.pop(0)
            self.cluster.archived(path)
            self.acknowledged.append(path)

    def after(self, outcome: Outcome) -> Iterator[str]:
        yield from self._look()

    def _look(self) -> Iterator[str]:
        stored = self._stored()
        for name, content in stored.items():
            COMPARED["bytes"] += len(content or b"")
            path = next((path for path in self.content if path.name == name), None)
            if path is None or content != self.content[path]:
                yield f"the archive holds a wrong {name}"
        for path in self.acknowledged:
            if path.name not in stored:
                yield f"{path.name} was acknowledged and isn't in the archive"
        for path, content in self.content.items():
            if not path.exists() or path.read_bytes() != content:
                yield f"{path.name} in pg_wal is no longer what it was"
        for directory in self.spool.glob("archive-*"):
            for path in self.waiting:
                if _holds(directory, path) and path.name not in self._stored():
                    yield f"the spool says that {path.name} is archived, and it isn't"

    def _stored(self) -> dict[str, bytes | None]:
        """Content of every WAL object, by the name of its file; None where it can't be read."""
        found: dict[str, bytes | None] = {}
        with self.place.store() as store:
            layout = Layout.of(store.url, SERVER)
            for info in store.list(layout.wals_dir):
                wal = layout.parse_wal_key(info.key)
                if wal is None or wal.name not in {path.name for path in self.content}:
                    continue
                try:
                    found[wal.name] = decompress_bytes(store.get(info.key), compression_of(info.key))
                except BarmanCloudError:
                    found[wal.name] = None
        return found

    def again(self) -> Outcome:
        """Archive all that is left, as PostgreSQL would."""
        outcome = Outcome((), 0, "", "", 0.0)
        while self.waiting and outcome.code == 0:
            outcome = self.runner.run(self.command())
            self._acknowledge(outcome)
        return outcome

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        yield from self._look()
        if left := {path.name for path in self.cluster.wal.iterdir() if path.is_file()} - {
            p.name for p in self.content
        }:
            yield f"files were left in pg_wal: {sorted(left)}"

    def close(self) -> None:
        with ended_background_processes(self.spool):
            pass


class ArchivingAhead(Archiving):
    """The same while a background process archives what comes next."""

    name = "wal-archive-ahead"
    processes = ("main", "background")
    ahead = ("--parallel", "3")

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        outcome = super().disturbed(disturbance, **arguments)
        self.settle()
        return outcome

    def settle(self) -> None:
        _settle(self.spool)


class Restoring(Scenario):
    """A segment is fetched. It is delivered whole or not at all, and only a missing one is said to be missing."""

    name = "wal-restore"
    deadline = 25.0
    ahead: tuple[str, ...] = ()

    def prepare(self) -> None:
        self.cluster = Cluster(self.place.root / "data")
        self.destination = self.cluster.wal / "RECOVERYXLOG"
        self.number = 1
        (self.place.root / "spool").mkdir(mode=0o700)
        with self.place.store() as store:
            layout = Layout.of(store.url, SERVER)
            for number in range(1, FILES + 1):
                store.put(layout.wal(segment_name(number), ".gz"), compress_bytes(segment(number), "gzip"))

    @property
    def spool(self) -> Path:
        return self.place.root / "spool"

    def command(self) -> list[str]:
        options = ["--spool-dir", str(self.spool), *self.ahead, *self.place.options]
        return ["wal-restore", *options, self.place.url, SERVER, segment_name(self.number), str(self.destination)]

    def after(self, outcome: Outcome) -> Iterator[str]:
        yield from self._look(outcome)

    def _look(self, outcome: Outcome) -> Iterator[str]:
        there = self.destination.exists()
        COMPARED["bytes"] += self.destination.stat().st_size if there else 0
        if there and self.destination.read_bytes() != segment(self.number):
            yield f"a wrong segment was delivered (exit code {outcome.code})"
        if outcome.code == 0 and not there:
            yield "exit code 0, and nothing was delivered"
        for path in self.spool.glob("restore-*/*"):
            if len(path.name) == 24 and path.read_bytes() != segment(int(path.name[16:], 16)):
                yield f"the spool offers a wrong {path.name}"

    def again(self) -> Outcome:
        """Fetch all that is left, as PostgreSQL would."""
        outcome = Outcome((), 0, "", "", 0.0)
        self.problems: list[str] = []
        while self.number <= FILES and outcome.code == 0:
            self.destination.unlink(missing_ok=True)
            outcome = self.runner.run(self.command())
            self.problems += self._look(outcome)
            self.number += outcome.code == 0
        return outcome

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        yield from self.problems
        if left := {path.name for path in self.cluster.wal.iterdir() if path.is_file()} - {self.destination.name}:
            yield f"files were left in pg_wal: {sorted(left)}"

    def close(self) -> None:
        with ended_background_processes(self.spool):
            pass


class RestoringAhead(Restoring):
    """The same while a background process fetches what comes next."""

    name = "wal-restore-ahead"
    processes = ("main", "background")
    ahead = ("--parallel", "3")

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        outcome = super().disturbed(disturbance, **arguments)
        self.settle()
        return outcome

    def settle(self) -> None:
        _settle(self.spool)


def _holds(spool: Path, path: Path) -> bool:
    """Tell whether the spool says that a file is archived."""
    directory = Directory(str(spool), os.open(spool, os.O_RDONLY | os.O_DIRECTORY))
    try:
        return archive_spool.holds(directory, str(path), Deadline())
    finally:
        os.close(directory.descriptor)


def _settle(spool: Path) -> None:
    """Wait until the background process is gone or has nothing more to do."""
    count = -1

    def quiet() -> bool:
        nonlocal count
        before, count = count, sum(1 for path in spool.rglob("*") if path.is_file() and len(path.name) == 24)
        unfinished = any(path.suffix == ".part" for path in spool.rglob("*"))
        return not background_processes(spool) or (not unfinished and before == count)

    try:
        wait_for(quiet, timeout=15, what="the background process")
    except TimeoutError:
        return
