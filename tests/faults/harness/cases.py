"""One disturbance of one command: how it is named, run and judged.

A case is written ``SCENARIO/WHERE/WHAT/NUMBER``, which is all that is needed to run it again::

    wal-archive/main/KILL/7               before the 7th file operation of the command
    wal-archive/main/KILL-after/7         after it
    restore/main/ENOSPC-lasting/120       from the 120th on
    wal-restore-ahead/background/KILL/3   in the process that works ahead
    backup/wire/reset/2                   the 2nd request through the network
    backup-list/wire/status-503-lasting/1 from the first on
    backup/wire/KILL-after/3              killed when the store has done the 3rd request, before its answer
    restore/disk/full/500                 with so many kilobytes left on the disk (``readonly/0``: none can be written)
    restore/limit/descriptors/32          with so many descriptors (``megabytes`` of memory, ``filesize`` bytes a file)
"""

from __future__ import annotations

import contextlib
import itertools
import random
import resource
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals

from tests.faults.harness.disk import Disk, can_mount, mounted
from tests.faults.harness.material import Material
from tests.faults.harness.process import Disturbance, Outcome, Runner
from tests.faults.harness.scenarios import SCENARIOS
from tests.faults.harness.scenarios.base import Place, Scenario
from tests.faults.harness.wire import FAULTS, STORMS, WireFault
from tests.support.fault_proxy import Answer, Fault, FaultProxy, fault_proxy
from tests.support.servers import StoreServer

SIGNALS = ("KILL", "TERM", "INT")
ERRORS = ("ENOSPC", "EIO", "EROFS", "EMFILE", "ENOMEM", "EACCES")
LIMITS: dict[str, tuple[int, tuple[int, ...]]] = {
    "descriptors": (resource.RLIMIT_NOFILE, (8, 12, 16, 24, 32, 48, 64)),
    "megabytes": (resource.RLIMIT_AS, (100, 150, 200, 300, 400, 600)),
    "filesize": (resource.RLIMIT_FSIZE, (0, 1000, 100_000, 500_000, 1_000_000)),
}
PATIENCE = 60.0
"""Seconds that a command may take beyond its deadline, or altogether with one transient fault; machines are slow."""


@dataclass(frozen=True)
class Case:
    """One disturbance of one command."""

    scenario: str
    where: str
    """``main``, ``background``, ``wire``, ``disk`` or ``limit``."""
    what: str
    number: int

    def __str__(self) -> str:
        return f"{self.scenario}/{self.where}/{self.what}/{self.number}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read the form that a case is written in; ValueError if it isn't one."""
        scenario, where, what, number = text.split("/")
        if scenario not in SCENARIOS:
            raise ValueError(f"no scenario {scenario}; there are {', '.join(SCENARIOS)}")
        return cls(scenario, where, what, int(number))

    @property
    def kind(self) -> str:
        """What to count this case under."""
        if self.where in ("limit", "disk"):
            return "scarce resources"
        if self.is_kill:
            return "kills"
        return "wire faults" if self.where == "wire" else "failing file operations"

    @property
    def is_kill(self) -> bool:
        """Whether a signal comes."""
        return self.what.partition("-")[0] in SIGNALS


@dataclass
class Finding:
    """A case, how it ended, and what didn't hold."""

    case: Case
    outcome: Outcome
    problems: list[str]

    def as_json(self) -> dict[str, object]:
        """Return the finding for a report."""
        return {
            "case": str(self.case),
            "code": self.outcome.code,
            "seconds": round(self.outcome.seconds, 1),
            "problems": self.problems,
            "errors": self.outcome.errors[-1000:],
        }


@dataclass
class Harness:
    """Runs cases below ``directory``, on a store of files, or on ``server`` behind a proxy for faults of the wire."""

    material: Material
    server: StoreServer
    directory: Path
    _sizes: dict[tuple[str, str], int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # Choosing -----------------------------------------------------------------------------------------------------

    def draw(self, chance: random.Random, scenarios: Sequence[str] = tuple(SCENARIOS)) -> Case:
        """Draw a case of any kind."""
        name = chance.choice(sorted(scenarios))
        kind = chance.choice(("kill", "kill", "error", "wire", "wire", "limit"))
        if kind == "limit":
            on_disk = can_mount() and chance.random() < 0.5
            return self.draw_disk(chance, name) if on_disk else self.draw_limit(chance, name)
        if kind == "wire":
            return self.draw_wire(chance, name)
        return self.draw_file(chance, name, kill=kind == "kill") or self.draw_wire(chance, name)

    def draw_limit(self, chance: random.Random, name: str) -> Case:
        """Draw a case of scarce resources."""
        what = chance.choice(sorted(LIMITS))
        return Case(name, "limit", what, chance.choice(LIMITS[what][1]))

    def draw_disk(self, chance: random.Random, name: str) -> Case:
        """Draw a case of a full disk, or one that can't be written."""
        kilobytes = chance.choice((0, 4, 100, 1000, 5000, 20_000))
        return chance.choice((Case(name, "disk", "full", kilobytes), Case(name, "disk", "readonly", 0)))

    def draw_wire(
        self, chance: random.Random, name: str, faults: Sequence[str] = tuple(FAULTS), *, storms: bool = True
    ) -> Case:
        """Draw a fault of a request, or with ``storms`` of all requests from one on, or a kill at one."""
        what = chance.choice(sorted(faults))
        if storms and chance.random() < 0.3:
            what = chance.choice(("KILL", "KILL", "TERM", "INT")) + chance.choice(("", "-after"))
        if what in STORMS and storms and chance.random() < 0.1:
            what += "-lasting"
        return Case(name, "wire", what, chance.randint(1, max(1, self.size(name, "wire"))))

    def draw_file(self, chance: random.Random, name: str, *, kill: bool) -> Case | None:
        """Draw a kill at a file operation, or the failure of one; None if the command changes no files."""
        where = chance.choice(SCENARIOS[name].processes)
        size = self.size(name, where)
        if not size:
            return None
        if kill:
            what = chance.choice(("KILL", "KILL", "TERM", "INT")) + chance.choice(("", "-after"))
        else:
            what = chance.choice(ERRORS) + chance.choice(("", "-lasting"))
        return Case(name, where, what, chance.randint(1, size))

    def size(self, name: str, where: str) -> int:
        """Return how many file operations, or requests, a scenario makes undisturbed."""
        if (name, where) not in self._sizes:
            with self._place(where) as (place, proxy, _), self._scenario(name, place) as scenario:
                if proxy is not None:
                    proxy.clear()
                    scenario.disturbed(None)
                    self._sizes[name, where] = len(proxy.seen)
                else:
                    self._sizes[name, where] = len(scenario.events(where))
        return self._sizes[name, where]

    # Running ------------------------------------------------------------------------------------------------------

    def run(self, case: Case) -> Finding:
        """Run a case and judge it; no ``problems`` means that everything held."""
        with self._place(case.where) as (place, proxy, disk), self._scenario(case.scenario, place) as scenario:
            limit = scenario.deadline + PATIENCE if case.what.endswith("-lasting") else PATIENCE * 2
            if proxy is not None:
                proxy.clear()
                proxy.add(self._fault(case, scenario))
                outcome = scenario.disturbed(None, limit=limit)
                proxy.clear()
            elif disk is not None:
                disk.make_read_only() if case.what == "readonly" else disk.leave(case.number)
                outcome = scenario.disturbed(None, limit=limit)
                disk.reset()
            elif case.where == "limit":
                outcome = scenario.disturbed(None, limits={LIMITS[case.what][0]: _value(case)}, limit=limit)
            else:
                action, _, how = case.what.partition("-")
                disturbance = Disturbance(action, case.number, how == "after", how == "lasting", case.where)
                outcome = scenario.disturbed(disturbance, limit=limit)
            problems = [*self._of_outcome(case, scenario, outcome), *scenario.after(outcome)]
            problems += [f"afterwards: {problem}" for problem in scenario.end(scenario.again())]
            return Finding(case, outcome, problems)

    @staticmethod
    def _fault(case: Case, scenario: Scenario) -> Fault:
        if not case.is_kill:
            fault = FAULTS[case.what.removesuffix("-lasting")]
            return fault.at(case.number, lasting=case.what.endswith("-lasting"))
        name, _, after = case.what.partition("-")

        def strike() -> None:
            scenario.runner.send(Signals[f"SIG{name}"])

        def strike_after(answer: Answer) -> Answer:
            strike()
            return answer

        fault = Fault(change=strike_after) if after else Fault(before=strike, drop=name == "KILL")
        return WireFault(name, fault, borne=False).at(case.number)

    def _of_outcome(self, case: Case, scenario: Scenario, outcome: Outcome) -> Iterator[str]:
        """What must hold of the exit code, the time and the messages."""
        right = getattr(scenario, "right_code", 0)
        if outcome.code is None:
            yield f"didn't end within {outcome.seconds:.0f} s"
        if "Traceback" in outcome.errors:
            yield "a traceback"
        if outcome.code not in (None, 0, right) and outcome.code > 0 and not (outcome.errors + outcome.output).strip():
            yield f"ended with {outcome.code} without a word"
        if case.where == "wire" and not case.is_kill:
            fault = FAULTS[case.what.removesuffix("-lasting")]
            lasting = case.what.endswith("-lasting")
            if fault.borne and not lasting and outcome.code != right:
                yield f"ended with {outcome.code}, where the next try was answered: {outcome.errors.strip()[-300:]}"
        if not case.is_kill:
            allowed = scenario.codes | {right}
            if outcome.code is not None and outcome.code not in allowed and not self._misled(case):
                yield f"ended with {outcome.code}, not with one of {sorted(allowed)}: {outcome.errors.strip()[-300:]}"

    @staticmethod
    def _misled(case: Case) -> bool:
        """A listing of the past is well formed, and what it lacks does look missing."""
        return case.what == "no-listing"

    # Places -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _place(self, where: str) -> Iterator[tuple[Place, FaultProxy | None, Disk | None]]:
        root = self.directory / f"case-{next(self._numbers)}"
        root.mkdir()
        root.chmod(0o755)
        try:
            if where == "wire":
                with fault_proxy(self.server.endpoint) as proxy:
                    options = ("--endpoint-url", proxy.endpoint)
                    yield Place(root, self.server.new_bucket(), options, self.server.environ), proxy, None
                return
            with mounted(root) if where == "disk" else contextlib.nullcontext() as disk:
                (root / "store").mkdir()
                yield Place(root, f"file://{root}/store"), None, disk
        finally:
            shutil.rmtree(root, ignore_errors=True)

    @contextlib.contextmanager
    def _scenario(self, name: str, place: Place) -> Iterator[Scenario]:
        runner = Runner(place.root, dict(place.environ))
        with SCENARIOS[name](self.material, place, runner) as scenario:
            yield scenario


def _value(case: Case) -> int:
    return case.number << 20 if case.what == "megabytes" else case.number
