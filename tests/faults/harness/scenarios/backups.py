"""backup, restore, backup-delete, backup-keep, and the commands that only look."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from barman_cloud.catalog import backup_info
from tests.faults.harness.material import SERVER, difference, tree
from tests.faults.harness.process import Outcome
from tests.faults.harness.scenarios.base import Scenario, succeeded
from tests.support.commands import run_command
from tests.support.postgres import run_as_server
from tests.support.privileges import server_account


class BackingUp(Scenario):
    """A backup is made. Whatever says DONE can be restored, and verified against its manifest."""

    name = "backup"
    codes = frozenset({1})

    def prepare(self) -> None:
        self.runner.environ = {**self.runner.environ, **self.material.server.client_environ}

    def command(self) -> list[str]:
        options = ["--immediate-checkpoint", "--gzip", "--jobs", "2", *self.place.options]
        return ["backup", *options, self.place.url, SERVER]

    def after(self, outcome: Outcome) -> Iterator[str]:
        done = [backup_id for backup_id, status in self.place.statuses().items() if status == "DONE"]
        if outcome.code == 0 and len(done) != 1:
            yield f"exit code 0, and {len(done)} backups are DONE"
        for backup_id in done:
            yield from self._restore(backup_id)

    def _restore(self, backup_id: str) -> Iterator[str]:
        target = self.place.root / f"restored-{backup_id}"
        environ = dict(self.place.environ)
        done = run_command("restore", self.place.url, SERVER, backup_id, target, environ=environ)
        if done.returncode != 0:
            yield f"{backup_id} is DONE and can't be restored: {done.stderr.strip()[-300:]}"
            return
        server_account().own(target)
        verify = [self.material.server.installation.tool("pg_verifybackup"), "-n", target]
        verified = run_as_server(verify, check=False)
        if verified.returncode != 0:
            yield f"{backup_id} is DONE and pg_verifybackup says {verified.stderr.strip()[-300:]}"
        shutil.rmtree(target)

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        statuses = self.place.statuses()
        if statuses.get(max(statuses, default="")) != "DONE":
            yield f"the newest backup isn't DONE: {statuses}"


class FromMaterial(Scenario):
    """Something is done to a store with three backups."""

    def prepare(self) -> None:
        self.material.fill(self.place.url, self.place.environ)


class RestoringBackup(FromMaterial):
    """A backup is restored. What is there after exit code 0, or after another go, is what a quiet restore gives."""

    name = "restore"
    codes = frozenset({1, 2, 4})

    @property
    def backup_id(self) -> str:
        return self.material.ids[-1]

    @property
    def target(self) -> Path:
        return self.place.root / "restored"

    def options(self) -> list[str]:
        return ["--jobs", "2"]

    def command(self) -> list[str]:
        options = [*self.options(), *self.place.options]
        return ["restore", *options, self.place.url, SERVER, self.backup_id, str(self.target)]

    def after(self, outcome: Outcome) -> Iterator[str]:
        if outcome.code == 0:
            yield from self._compare("exit code 0")
        elif (self.target / "global" / "pg_control").exists() and (wrong := self._difference()):
            yield f"what was left after exit code {outcome.code} can be started, and {wrong}"

    def _difference(self) -> str:
        return difference(tree(self.target), self.expected())

    def expected(self) -> dict[str, str]:
        return self.material.restored(self.backup_id)

    def _compare(self, when: str) -> Iterator[str]:
        if wrong := self._difference():
            yield f"{when}, and the restored cluster {wrong}"

    def again(self) -> Outcome:
        """Go on, unless everything is there already: no restore writes into a finished one."""
        if self.target.exists() and not self._difference():
            return Outcome((), 0, "", "", 0.0)
        return super().again()

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        if outcome.code == 0:
            yield from self._compare("restored by the same command")


class RestoringWithSettings(RestoringBackup):
    """The same with recovery settings, which are written last."""

    name = "restore-recovery"
    SETTINGS: ClassVar[frozenset[str]] = frozenset({"postgresql.auto.conf", "recovery.signal"})

    def options(self) -> list[str]:
        return ["--write-recovery-settings"]

    def _difference(self) -> str:
        got, expected = tree(self.target), self.expected()
        settings = self.target / "postgresql.auto.conf"
        if "recovery.signal" not in got:
            return "lacks recovery.signal"
        if not settings.exists() or settings.read_text().count("\nrestore_command") != 1:
            return "hasn't one restore_command"
        for name in self.SETTINGS:
            got.pop(name, None)
            expected = {path: content for path, content in expected.items() if path != name}
        return difference(got, expected)


class Deleting(FromMaterial):
    """A backup is deleted. Nothing that counts is gutted, nothing that stays is touched, and another go finishes."""

    name = "backup-delete"
    codes = frozenset({1, 2, 4})

    def what(self) -> list[str]:
        return ["--backup-id", self.material.ids[0]]

    @property
    def doomed(self) -> tuple[str, ...]:
        return self.material.ids[:1]

    def command(self) -> list[str]:
        return ["backup-delete", *self.what(), *self.place.options, self.place.url, SERVER]

    def after(self, outcome: Outcome) -> Iterator[str]:
        objects = self.place.objects()
        for backup_id in self.material.ids:
            lost = [key for key in self._of(backup_id) if objects.get(key) != self._of(backup_id)[key]]
            if lost and backup_id not in self.doomed:
                yield f"{backup_id} was to stay and lost {lost}"
            elif lost and self._listed().get(backup_id) == "DONE":
                yield f"{backup_id} is listed as DONE and lost {lost}"
        if outcome.code == 0 and any(key in objects for backup_id in self.doomed for key in self._of(backup_id)):
            yield "exit code 0, and not all is deleted"
        yield from self._missing_wal(objects)

    def _of(self, backup_id: str) -> dict[str, int]:
        return {key: len(content) for key, content in self.material.objects.items() if f"/base/{backup_id}/" in key}

    def _listed(self) -> dict[str, str]:
        """Backups and their status, as a client sees them."""
        environ = dict(self.place.environ)
        done = run_command("backup-list", "--format", "json", self.place.url, SERVER, environ=environ)
        if done.returncode != 0:
            return {"": done.stderr}
        return {item["backup_id"]: item["status"] for item in json.loads(done.stdout)["backups_list"]}

    def _missing_wal(self, objects: dict[str, int]) -> Iterator[str]:
        oldest = next(backup_id for backup_id in self.material.ids if backup_id not in self.doomed)
        info = self.material.objects[f"{SERVER}/base/{oldest}/backup.info"].decode()
        begin = backup_info.parse(info, oldest).begin_wal or ""
        for key in self.material.objects:
            name = key.rpartition("/")[2].removesuffix(".gz")
            if "/wals/" in key and name[:24] >= begin and key not in objects:
                yield f"{name} was needed by {oldest} and is gone"

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        left = [key for backup_id in self.doomed for key in self._of(backup_id) if key in self.place.objects()]
        if left:
            yield f"still there: {left}"
        yield from self.after(outcome)

    def again(self) -> Outcome:
        """Run it again; a backup that is gone already is what was wanted."""
        outcome = super().again()
        gone = not any(key in self.place.objects() for backup_id in self.doomed for key in self._of(backup_id))
        return Outcome(outcome.command, 0, "", "", outcome.seconds) if gone and outcome.code in (1, 4) else outcome


class DeletingByPolicy(Deleting):
    """The same by a retention policy, which deletes WAL that nobody needs as well."""

    name = "backup-delete-policy"

    def what(self) -> list[str]:
        return ["--retention-policy", "REDUNDANCY 1"]

    @property
    def doomed(self) -> tuple[str, ...]:
        return self.material.ids[:-1]


class Keeping(FromMaterial):
    """A backup is kept."""

    name = "backup-keep"

    def command(self) -> list[str]:
        options = ["--target", "full", *self.place.options]
        return ["backup-keep", *options, self.place.url, SERVER, self.material.ids[0]]

    def after(self, outcome: Outcome) -> Iterator[str]:
        objects = self.place.objects()
        for key, content in self.material.objects.items():
            if objects.get(key) != len(content):
                yield f"{key} is no longer what it was"
        if outcome.code == 0:
            yield from self._status()

    def _status(self) -> Iterator[str]:
        environ = dict(self.place.environ)
        done = run_command("backup-keep", "--status", self.place.url, SERVER, self.material.ids[0], environ=environ)
        if (done.returncode, done.stdout.strip()) != (0, "Keep: full"):
            yield f"the backup isn't kept: {done.returncode} {done.stdout.strip()} {done.stderr.strip()[-200:]}"

    def end(self, outcome: Outcome) -> Iterator[str]:
        yield from succeeded(outcome)
        yield from self._status()


class Looking(FromMaterial):
    """A command that only looks: with exit code 0 it says what it says undisturbed."""

    arguments: ClassVar[list[str]] = []
    codes = frozenset({1, 2, 4})

    def prepare(self) -> None:
        super().prepare()
        command = [*self.arguments[:1], *self._rest(self.place.url)]
        self.expected = self.runner.__class__(self.runner.root, dict(self.place.environ)).run(command)
        assert self.expected.code == self.right_code, self.expected

    right_code: ClassVar[int] = 0

    def _rest(self, url: str) -> list[str]:
        named = [self.material.ids[-1]] if self.name == "backup-show" else []
        return [*self.arguments[1:], url, SERVER, *named]

    def command(self) -> list[str]:
        return [*self.arguments[:1], *self.place.options, *self._rest(self.place.url)]

    def after(self, outcome: Outcome) -> Iterator[str]:
        if outcome.code == self.right_code and outcome.output != self.expected.output:
            yield f"exit code {outcome.code}, and another answer: {outcome.output[:200]!r}"
        elif outcome.code == 0 != self.right_code:
            yield "exit code 0, where something is wrong"

    def end(self, outcome: Outcome) -> Iterator[str]:
        if (outcome.code, outcome.output) != (self.right_code, self.expected.output):
            yield f"another answer afterwards: {outcome.code} {outcome.errors[-200:]}"


class Listing(Looking):
    name = "backup-list"
    arguments = ["backup-list", "--format", "json"]


class Showing(Looking):
    name = "backup-show"
    arguments = ["backup-show", "--format", "json"]


class CheckingArchive(Looking):
    """The archive isn't empty, which is an error where a new server is to use it."""

    name = "check-wal-archive"
    arguments = ["check-wal-archive"]
    right_code = 1
