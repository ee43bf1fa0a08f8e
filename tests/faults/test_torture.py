"""A few minutes' worth of ``make torture`` in a minute: every command, disturbed a few times in ways that never change.

And the harness itself: it strikes where it is told to, and what it is there to notice, it notices.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from tests.faults.harness.cases import Case, Harness
from tests.faults.harness.material import SERVER, Material, material
from tests.faults.harness.process import Disturbance, Outcome, Runner
from tests.faults.harness.scenarios import SCENARIOS, backups, receive, tell, upkeep, wal
from tests.faults.harness.scenarios.base import Place, Scenario
from tests.faults.harness.wire import FAULTS
from tests.support.ports import wait_for
from tests.support.postgres import server_directory
from tests.support.servers import StoreServer

pytestmark = pytest.mark.xdist_group("torture")

BORNE = tuple(name for name, fault in FAULTS.items() if fault.borne and name not in ("late", "slow-drip"))
DONE = Outcome((), 0, "", "", 0.0)
KILLED = Outcome((), -9, "", "", 0.0)


@pytest.fixture(scope="module")
def made() -> Iterator[Material]:
    with tempfile.TemporaryDirectory(prefix="bc-") as name:
        directory = server_directory(Path(name))
        directory.chmod(0o755)
        with material(directory / "material") as made:
            yield made


@pytest.fixture
def harness(made: Material, rclone_s3: StoreServer, tmp_path: Path) -> Harness:
    return Harness(made, rclone_s3, Path(tempfile.mkdtemp(prefix="case-", dir=made.directory.parent)))


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_sample_of_disturbances(harness: Harness, scenario: str) -> None:
    chance = random.Random(scenario)
    cases = [harness.draw_wire(chance, scenario, BORNE, storms=False)]
    cases += filter(None, (harness.draw_file(chance, scenario, kill=kill) for kill in (True, False)))
    for case in cases:
        finding = harness.run(case)
        assert finding.problems == [], finding


class TestStrikes:
    """On ``wal-archive``, whose file operations are few and always the same."""

    @pytest.fixture
    def scenario(self, made: Material, tmp_path: Path) -> Iterator[Scenario]:
        yield from _scenario(wal.Archiving, made, tmp_path)

    def test_a_kill_before_and_after_an_operation(self, made: Material, tmp_path: Path) -> None:
        numbers = itertools.count()

        def new() -> Scenario:
            directory = tmp_path / str(next(numbers))
            directory.mkdir()
            return next(_scenario(wal.Archiving, made, directory))

        scenario = new()
        events = scenario.runner.events(scenario.command(), "main", settle=scenario.settle)
        link = next(number for number, line in enumerate(events, 1) if " link " in line and "/wals/" in line)
        for after in (False, True):
            scenario = new()
            outcome = scenario.disturbed(Disturbance("KILL", link, after))
            assert outcome.code == -9
            assert any(key.endswith(".gz") for key in scenario.place.objects()) == after

    def test_an_operation_that_fails(self, scenario: Scenario) -> None:
        outcome = scenario.disturbed(Disturbance("ENOSPC", 3, lasting=True))
        assert outcome.code == 4
        assert "No space left on device" in outcome.errors

    def test_the_process_in_the_background(self, made: Material, tmp_path: Path) -> None:
        for scenario in _scenario(wal.ArchivingAhead, made, tmp_path):
            assert isinstance(scenario, wal.ArchivingAhead)
            runner, events = scenario.runner.traced("background")
            assert runner.run(scenario.command()).code == 0
            wait_for(events, what="a file operation of the process in the background")

    def test_a_case_is_what_its_name_says(self) -> None:
        for text in ("backup/main/KILL-after/7", "restore/wire/status-503-lasting/1", "restore/limit/descriptors/16"):
            assert str(Case.parse(text)) == text
        with pytest.raises(ValueError, match="no scenario nonsense"):
            Case.parse("nonsense/main/KILL/1")


class TestJudgement:
    """What must not be, made by hand: the scenario says so."""

    def test_a_segment_that_was_acknowledged_and_is_not_there(self, made: Material, tmp_path: Path) -> None:
        def lose(scenario: Scenario) -> None:
            scenario.disturbed(None)
            with scenario.place.store() as store:
                store.delete([info.key for info in store.list(f"{SERVER}/wals/")])

        assert "acknowledged and isn't in the archive" in _judged(wal.Archiving, made, tmp_path, lose, DONE)

    def test_a_wrong_segment_in_the_archive(self, made: Material, tmp_path: Path) -> None:
        def spoil(scenario: Scenario) -> None:
            with scenario.place.store() as store:
                store.put(Layout("", SERVER).wal("000000010000000000000001"), b"half")

        assert "holds a wrong 0000" in _judged(wal.Archiving, made, tmp_path, spoil, KILLED)

    def test_half_a_segment_that_is_delivered(self, made: Material, tmp_path: Path) -> None:
        def deliver(scenario: Scenario) -> None:
            scenario.destination.write_bytes(b"half")  # type: ignore[attr-defined]

        assert "wrong segment was delivered" in _judged(wal.Restoring, made, tmp_path, deliver, KILLED)

    def test_success_without_a_segment(self, made: Material, tmp_path: Path) -> None:
        assert "nothing was delivered" in _judged(wal.Restoring, made, tmp_path, lambda _: None, DONE)

    def test_a_backup_that_is_done_and_lacks_an_archive(self, made: Material, tmp_path: Path) -> None:
        def lose(scenario: Scenario) -> None:
            made.fill(scenario.place.url, {})
            with scenario.place.store() as store:
                store.delete([info.key for info in store.list(f"{SERVER}/base/{made.ids[0]}/data")])

        assert f"{made.ids[0]} is DONE and can't be" in _judged(backups.BackingUp, made, tmp_path, lose, KILLED)

    def test_a_gutted_backup_that_counts(self, made: Material, tmp_path: Path) -> None:
        def gut(scenario: Scenario) -> None:
            with scenario.place.store() as store:
                store.delete([info.key for info in store.list(f"{SERVER}/base/{made.ids[0]}/data")])

        assert f"{made.ids[0]} is listed as DONE and lost" in _judged(backups.Deleting, made, tmp_path, gut, KILLED)

    def test_wal_that_is_still_needed(self, made: Material, tmp_path: Path) -> None:
        def lose(scenario: Scenario) -> None:
            with scenario.place.store() as store:
                store.delete([info.key for info in store.list(f"{SERVER}/wals/")])

        assert "was needed by" in _judged(backups.DeletingByPolicy, made, tmp_path, lose, KILLED)

    def test_a_restored_cluster_that_differs(self, made: Material, tmp_path: Path) -> None:
        def spoil(scenario: Scenario) -> None:
            scenario.disturbed(None)
            (tmp_path / "restored" / "PG_VERSION").write_text("7\n")

        assert "differs in ['PG_VERSION']" in _judged(backups.RestoringBackup, made, tmp_path, spoil, DONE)

    def test_what_was_to_stay_and_is_cleaned_up(self, made: Material, tmp_path: Path) -> None:
        def lose(scenario: Scenario) -> None:
            with scenario.place.store() as store:
                store.delete([info.key for info in store.list(f"{SERVER}/base/{made.ids[0]}/data")])

        assert "was to stay and is gone" in _judged(upkeep.CleaningUp, made, tmp_path, lose, KILLED)

    def test_leftovers_after_a_cleanup(self, made: Material, tmp_path: Path) -> None:
        assert "exit code 0, and these are left" in _judged(upkeep.CleaningUp, made, tmp_path, lambda _: None, DONE)

    def test_a_consolidated_backup_that_is_another(self, made: Material, tmp_path: Path) -> None:
        def exchange(scenario: Scenario) -> None:
            """Say of the chain's first backup, under a new id, that it is the consolidated one."""
            first = scenario.place.root / "store" / SERVER / "base" / "20261122T121101"
            shutil.copytree(first, first.with_name("20261122T121104"))

        assert "is DONE, and restored it" in _judged(upkeep.Consolidating, made, tmp_path, exchange, KILLED)

    @pytest.mark.parametrize("kind", [tell.VerifyingDamage, tell.CheckingGap])
    def test_all_is_well_where_something_is_wrong(self, made: Material, tmp_path: Path, kind: type[Scenario]) -> None:
        assert "exit code 0, where something is wrong" in _judged(kind, made, tmp_path, lambda _: None, DONE)

    def test_what_a_drill_leaves(self, made: Material, tmp_path: Path) -> None:
        def leave(scenario: Scenario) -> None:
            assert isinstance(scenario, upkeep.Drilling)
            (scenario.drills / "barman-cloud-drill-x").mkdir()
            scenario.left = ["postgres -D data"]

        said = _judged(upkeep.Drilling, made, tmp_path, leave, DONE)
        assert "left running: ['postgres -D data']" in said
        assert "it left ['barman-cloud-drill-x']" in said

    @pytest.mark.parametrize("kind", [receive.Receiving, receive.ReceivingDirectly])
    def test_received_wal_that_was_acknowledged_and_is_nowhere(
        self, made: Material, tmp_path: Path, kind: type[Scenario], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(receive.Receiving, "PATIENCE", 90.0)

        def lose(scenario: Scenario) -> None:
            assert scenario.disturbed(None).code == 0
            for place in ("store", "spool"):
                shutil.rmtree(tmp_path / place, ignore_errors=True)
            (tmp_path / "store").mkdir()

        assert "were acknowledged and are nowhere" in _judged(kind, made, tmp_path, lose, KILLED)

    def test_an_empty_list_where_there_are_backups(self, made: Material, tmp_path: Path) -> None:
        outcome = Outcome((), 0, '{"backups_list": []}', "", 0.0)
        assert "another answer" in _judged(backups.Listing, made, tmp_path, lambda _: None, outcome)


def _scenario(kind: type[Scenario], made: Material, directory: Path) -> Iterator[Scenario]:
    (directory / "store").mkdir()
    with kind(made, Place(directory, f"file://{directory}/store"), Runner(directory)) as scenario:
        yield scenario


def _judged(
    kind: type[Scenario], made: Material, directory: Path, wrong: Callable[[Scenario], None], outcome: Outcome
) -> str:
    """Return what a scenario says when ``wrong`` was done behind its back."""
    for scenario in _scenario(kind, made, directory):
        wrong(scenario)
        return "\n".join(scenario.after(outcome))
    raise AssertionError
