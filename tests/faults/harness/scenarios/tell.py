"""check and verify of an archive in which something is wrong: whatever disturbs them, they never say all is well."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from barman_cloud.store.base import ObjectStore
from tests.faults.harness.material import SERVER
from tests.faults.harness.process import Outcome
from tests.faults.harness.scenarios.backups import FromMaterial


class Telling(FromMaterial):
    """A command that has to find what was spoiled."""

    codes = frozenset({1, 2, 4})
    right_code: ClassVar[int] = 1
    options: ClassVar[tuple[str, ...]] = ()

    def prepare(self) -> None:
        super().prepare()
        with self.place.store() as store:
            prefix = f"{store.url.path}/".lstrip("/")
            self.named = self.spoil(store, prefix)
        self.objects = self._archive()

    @abstractmethod
    def spoil(self, store: ObjectStore, prefix: str) -> str:
        """Spoil something in the store, and return the word that has to come up in what is told."""

    def _archive(self) -> dict[str, int]:
        """Return the objects but those in which these commands remember what they saw."""
        return {key: size for key, size in self.place.objects().items() if "/base/" in key or "/wals/" in key}

    def command(self) -> list[str]:
        return [self.name.partition("-")[0], "--format", "json", *self.place.options, self.place.url, SERVER]

    def after(self, outcome: Outcome) -> Iterator[str]:
        if outcome.code == 0:
            yield "exit code 0, where something is wrong"
        if self._archive() != self.objects:
            yield "it changed the archive"

    def end(self, outcome: Outcome) -> Iterator[str]:
        if outcome.code != 1 or self.named not in _criticals(outcome.output):
            yield f"afterwards it ended with {outcome.code} and didn't name {self.named}: {outcome.errors[-200:]}"


def _criticals(output: str) -> str:
    servers = json.loads(output)["servers"] if output else []
    found = [finding for server in servers for finding in server["findings"] if finding["level"] == "critical"]
    return json.dumps(found)


class VerifyingDamage(Telling):
    """A byte of an archive is another."""

    name = "verify-damage"

    def spoil(self, store: ObjectStore, prefix: str) -> str:
        backup_id = self.material.ids[1]
        key = next(key for key in self.material.objects if f"/base/{backup_id}/data" in key)
        content = bytearray(self.material.objects[key])
        content[len(content) // 2] ^= 0x10
        store.put(prefix + key, bytes(content))
        return backup_id


class CheckingGap(Telling):
    """A segment is missing that recovery needs."""

    name = "check-gap"

    def spoil(self, store: ObjectStore, prefix: str) -> str:
        name = self.material.wals[-2]
        store.delete([prefix + key for key in self.material.objects if f"/{name}.gz" in key])
        return name
