"""cleanup, consolidate and drill: what works on an archive without the server that it is of."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil

from barman_cloud.catalog import backup_info
from barman_cloud.catalog.layout import Layout
from barman_cloud.store.open import open_store
from tests.faults.harness.material import SERVER, difference, tree
from tests.faults.harness.process import Disturbance, Outcome
from tests.faults.harness.scenarios.backups import FromMaterial
from tests.faults.harness.scenarios.base import Place, Scenario, succeeded
from tests.support.commands import run_command
from tests.support.ports import wait_for
from tests.support.privileges import server_account
from tests.unit.restore.chains import three

OLD = "20200101T000000"
NO_BACKUP = "20200102T000000"
YOUNG = ("--older-than", "1s", "--uploads-older-than", "1s")


class CleaningUp(FromMaterial):
    """Leftovers go. Nothing that a backup or a recovery needs is touched, and another go finishes."""

    name = "cleanup"
    codes = frozenset({1, 2, 4})

    def prepare(self) -> None:
        super().prepare()
        self._leave(self.place)
        self.expected = self._what_stays()
        time.sleep(1.1)  # what is younger than a second stays

    def _leave(self, place: Place) -> None:
        """Put there what killed runs leave: a STARTED backup, and objects whose backup.info is gone."""
        with place.store() as store:
            layout = Layout.of(store.url, SERVER)
            model = self.material.ids[0]
            info = backup_info.parse(self.material.objects[f"{SERVER}/base/{model}/backup.info"].decode(), model)
            started = replace(info, backup_id=OLD, status="STARTED", begin_time=datetime(2020, 1, 1, tzinfo=UTC))
            store.put(layout.backup_info(OLD), backup_info.dump(replace(started, end_time=None)).encode())
            for backup_id in (OLD, NO_BACKUP):
                for number in range(3):
                    store.put(layout.archive(backup_id, "data", number, ".gz"), b"half")

    def _what_stays(self) -> Mapping[str, int]:
        """Return the objects that an undisturbed run leaves, with their sizes; it runs once for all cases."""
        if self.material.cleaned:
            return self.material.cleaned
        with tempfile.TemporaryDirectory(prefix="bc-") as name:
            place = Place(Path(name), f"file://{name}")
            self.material.fill(place.url, {})
            self._leave(place)
            time.sleep(1.1)
            done = run_command("cleanup", *YOUNG, place.url, SERVER)
            assert done.returncode == 0, done.stderr
            left = place.objects()
        assert all(left[key] == len(content) for key, content in self.material.objects.items() if "/base/" in key)
        assert not [key for key in left if OLD in key or NO_BACKUP in key], done.stdout
        self.material.cleaned.update(left)
        return left

    def command(self) -> list[str]:
        return ["cleanup", *YOUNG, *self.place.options, self.place.url, SERVER]

    def after(self, outcome: Outcome) -> Iterator[str]:
        objects = self.place.objects()
        for key, size in self.expected.items():
            if objects.get(key) != size:
                yield f"{key} was to stay and is {'another' if key in objects else 'gone'}"
        if outcome.code == 0 and (left := sorted(objects.keys() - self.expected.keys())):
            yield f"exit code 0, and these are left: {left[:5]}"

    def again(self) -> Outcome:
        """Run it when what the disturbed one wrote is old enough, too."""
        time.sleep(1.1)
        return super().again()

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        yield from self.after(outcome)


class Consolidating(Scenario):
    """A full backup is made of a chain. The chain stays as it was, and what says DONE gives what the chain gives."""

    name = "consolidate"
    codes = frozenset({1, 2, 4})
    NEWEST = "20261122T121103"

    def prepare(self) -> None:
        with self.place.store() as store:
            prefix = f"{store.url.path}/".lstrip("/")
            for key, content in _chain().items():
                store.put(prefix + key, content)

    def command(self) -> list[str]:
        return ["consolidate", "--gzip", "--jobs", "2", *self.place.options, self.place.url, SERVER, self.NEWEST]

    def after(self, outcome: Outcome) -> Iterator[str]:
        objects = self.place.objects()
        for key, content in _chain().items():
            if objects.get(key) != len(content):
                yield f"{key} of the chain is {'another' if key in objects else 'gone'}"
        done = self._done()
        if outcome.code == 0 and len(done) != 1:
            yield f"exit code 0, and {len(done)} new backups are DONE"
        for backup_id in done:
            yield from self._restore(backup_id)

    def _done(self) -> list[str]:
        made = {key.split("/")[2] for key in _chain() if "/base/" in key}
        statuses = self.place.statuses()
        return [backup_id for backup_id, status in statuses.items() if backup_id not in made and status == "DONE"]

    def _restore(self, backup_id: str) -> Iterator[str]:
        expected = restored(self.place.url, self.NEWEST, self.place.root / "expected", self.place.environ)
        got = restored(self.place.url, backup_id, self.place.root / f"restored-{backup_id}", self.place.environ)
        if isinstance(got, str) or isinstance(expected, str):
            yield f"{backup_id} is DONE and can't be restored: {got if isinstance(got, str) else expected}"
        elif wrong := difference(got, expected):
            yield f"{backup_id} is DONE, and restored it {wrong}"

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        if not self._done():
            yield f"there is no new backup: {self.place.statuses()}"


@cache
def _chain() -> Mapping[str, bytes]:
    """The objects of a full backup and two increments of it, by key."""
    with tempfile.TemporaryDirectory(prefix="bc-") as name:
        three(open_store(f"file://{name}"))
        return {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}


def restored(url: str, backup_id: str, target: Path, environ: Mapping[str, str]) -> dict[str, str] | str:
    """Return what a restore of a backup with tablespace ``fast`` looks like, or why there is none; it is removed."""
    space = target.with_name(f"{target.name}-fast")
    done = run_command(
        "restore", "--tablespace", f"fast:{space}", url, SERVER, backup_id, target, environ=dict(environ)
    )
    try:
        if done.returncode != 0:
            return done.stderr.strip()[-300:]
        # The manifest and the label say which backup it is of, the link where it lies.
        own = ("backup_manifest", "backup_label")
        found = {
            path: content for path, content in tree(target).items() if path not in own and "pg_tblspc/" not in path
        }
        return found | {f"fast/{path}": content for path, content in tree(space).items()}
    finally:
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(space, ignore_errors=True)


class Drilling(FromMaterial):
    """A drill is held. Nothing stays behind, and it succeeds only if all that was in the cluster is there."""

    name = "drill"
    codes = frozenset({1, 2, 4})
    deadline = 400.0
    """That of the restore, and of what recovery fetches."""

    def prepare(self) -> None:
        super().prepare()
        self.drills.mkdir()
        server_account().own(self.place.root)
        self.runner.account = server_account()
        self.before = self.place.objects()

    @property
    def drills(self) -> Path:
        return self.place.root / "drills"

    def command(self) -> list[str]:
        tables = [f"SELECT count(*) = 2000 FROM t{number}" for number in range(len(self.material.ids))]
        asserted = [word for text in tables for word in ("--assert", text)]
        programs = ["--pg-bin", str(self.material.server.installation.bin), "--no-amcheck"]
        options = [*programs, *asserted, "--directory", str(self.drills), *self.place.options]
        return ["drill", *options, self.place.url, SERVER]

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        outcome = super().disturbed(disturbance, **arguments)
        self.left = self._running()
        return outcome

    def _running(self) -> list[str]:
        """Return the processes of a drill that don't end by themselves soon."""

        def running() -> list[str]:
            found = psutil.process_iter(["cmdline"])
            return [
                " ".join(one.info["cmdline"])
                for one in found
                if str(self.drills) in " ".join(one.info["cmdline"] or ())
            ]

        try:
            wait_for(lambda: not running(), timeout=20, what="the drill to end")
        except TimeoutError:
            return running()
        return []

    def after(self, outcome: Outcome) -> Iterator[str]:
        if self.left:
            yield f"left running: {self.left}"
        # Whoever may not remove it says so.
        left = [path.name for path in self.drills.iterdir() if f"{path} can't be removed" not in outcome.errors]
        if outcome.code not in (None, -9) and left:
            yield f"exit code {outcome.code}, and it left {left}"
        objects = self.place.objects()
        for key, size in self.before.items():
            if objects.get(key) != size:
                yield f"{key} is no longer what it was"

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        if running := self._running():
            yield f"left running: {running}"
        if names := [path.name for path in self.drills.iterdir()]:
            yield f"still there: {names}"
