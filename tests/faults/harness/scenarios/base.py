"""What a scenario is: a command with what it works on, and what has to hold however it was disturbed."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from barman_cloud.catalog import backup_info
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from tests.faults.harness.material import Material
from tests.faults.harness.process import Disturbance, Outcome, Runner


@dataclass(frozen=True)
class Place:
    """Where one case happens: a directory of its own, and a store."""

    root: Path
    url: str
    """The store as the undisturbed see it."""
    options: tuple[str, ...] = ()
    """Options with which the commands reach it, through a proxy perhaps."""
    environ: Mapping[str, str] = field(default_factory=dict)

    def store(self) -> ObjectStore:
        """Open the store past any proxy."""
        return open_store(self.url, environ=dict(self.environ))

    def objects(self) -> dict[str, int]:
        """Return the size of every object, by its key below the path of the URL."""
        with self.store() as store:
            prefix = f"{store.url.path}/".lstrip("/")
            return {info.key.removeprefix(prefix): info.size for info in store.list(prefix)}

    def statuses(self) -> dict[str, str | None]:
        """Return the status of every backup, by its id; of what can't be read, why."""
        found: dict[str, str | None] = {}
        with self.store() as store:
            prefix = f"{store.url.path}/".lstrip("/")
            for key in self.objects():
                if key.endswith("/backup.info"):
                    backup_id = key.split("/")[2]
                    try:
                        found[backup_id] = backup_info.parse(store.get(prefix + key).decode(), backup_id).status
                    except BarmanCloudError as error:
                        found[backup_id] = f"unreadable: {error}"
        return found


class Scenario(ABC):
    """One command that is disturbed. A new object for every case; ``prepare`` comes first.

    ``after`` and ``end`` yield one line for each thing that doesn't hold.
    """

    name: ClassVar[str]
    processes: ClassVar[tuple[str, ...]] = ("main",)
    """Whose file operations can be disturbed."""
    on_wire: ClassVar[bool] = True
    codes: ClassVar[frozenset[int]] = frozenset({2, 4})
    """With which the command may end when something went wrong."""
    deadline: ClassVar[float] = 240.0
    """Seconds after which it gives up on a store that stays away, as documented."""

    def __init__(self, material: Material, place: Place, runner: Runner) -> None:
        self.material = material
        self.place = place
        self.runner = runner

    @abstractmethod
    def prepare(self) -> None:
        """Put in place what the command works on."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command, by its short name, with its arguments."""

    def disturbed(self, disturbance: Disturbance | None, **arguments: object) -> Outcome:
        """Run the command while it is disturbed."""
        return self.runner.run(self.command(), disturbance, **arguments)  # type: ignore[arg-type]

    def events(self, process: str) -> list[str]:
        """Run the command undisturbed and return the file operations of one of its processes, one line each."""
        return self.runner.events(self.command(), process, settle=self.settle)

    def settle(self) -> None:  # noqa: B027 - most commands leave no process
        """Wait until a background process has nothing more to do."""

    @abstractmethod
    def after(self, outcome: Outcome) -> Iterator[str]:
        """Look at what the disturbed command left."""

    def again(self) -> Outcome:
        """Run the same command undisturbed."""
        return self.runner.run(self.command())

    @abstractmethod
    def end(self, outcome: Outcome) -> Iterator[str]:
        """Look at what that led to."""

    def close(self) -> None:  # noqa: B027 - the same
        """End what is left running."""

    def __enter__(self) -> Scenario:
        self.prepare()
        return self

    def __exit__(self, *_exc: object) -> None:
        with contextlib.suppress(OSError):
            self.close()


def succeeded(outcome: Outcome) -> Iterator[str]:
    """Yield a line if an undisturbed command didn't end with 0."""
    if outcome.code != 0:
        yield f"the same command ended with {outcome.code}: {outcome.errors.strip()[-300:]}"
