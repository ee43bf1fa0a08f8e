"""Where each file of a chain comes from, compared with applying the backups one after another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.errors import IntegrityError
from barman_cloud.incremental.chains import Action, plan_chain

FULL = ["base/5/1", "base/5/2", "base/5/3", "PG_VERSION"]


def test_each_file_has_one_base_and_the_increments_after_it() -> None:
    plan = plan_chain(
        [FULL, ["base/5/INCREMENTAL.1", "base/5/2", "PG_VERSION"], ["base/5/INCREMENTAL.1", "base/5/INCREMENTAL.2"]],
        ["a", "b", "c"],
    )
    assert plan.action(0, "base/5/1") is Action.WRITE
    assert plan.action(1, "base/5/INCREMENTAL.1") is plan.action(2, "base/5/INCREMENTAL.1") is Action.OVERLAY
    assert plan.action(0, "base/5/2") is Action.SKIP  # the second backup has it whole
    assert plan.action(1, "base/5/2") is Action.WRITE
    assert plan.action(0, "base/5/3") is Action.SKIP  # it is gone
    assert plan.action(0, "PG_VERSION") is plan.action(1, "PG_VERSION") is Action.SKIP
    assert plan.overlaid == [frozenset(), {"base/5/1"}, {"base/5/1", "base/5/2"}]


def test_a_full_backup_is_a_chain_of_one() -> None:
    plan = plan_chain([FULL], ["a"])
    assert {plan.action(0, path) for path in FULL} == {Action.WRITE}
    assert plan.overlaid == [frozenset()]


@pytest.mark.parametrize(
    ("manifests", "message"),
    [
        ([["base/5/INCREMENTAL.1"]], r"a is the first of its chain and holds base/5/INCREMENTAL\.1"),
        ([["x"], ["base/5/INCREMENTAL.1"]], r"a has no base/5/1, on which base/5/INCREMENTAL\.1 of b lies"),
        ([["base/5/1", "base/5/INCREMENTAL.1"]], "a holds base/5/1 both whole and as changed blocks"),
    ],
)
def test_a_broken_chain_is_told(manifests: list[list[str]], message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        plan_chain(manifests, ["a", "b"])


@given(st.data())
def test_the_plan_gives_what_backup_after_backup_would(data: st.DataObject) -> None:
    """Each backup holds some files whole and, of those the one before has, some as changed blocks."""
    names = ["1", "2", "3", "4"]
    backups: list[dict[str, bool]] = []
    for number in range(data.draw(st.integers(1, 5))):
        files = {}
        for name in data.draw(st.sets(st.sampled_from(names))):
            files[name] = number > 0 and name in backups[-1] and data.draw(st.booleans())
        backups.append(files)
    contents: list[dict[str, tuple[int, ...]]] = []
    for number, files in enumerate(backups):
        contents.append({name: (*contents[-1][name], number) if part else (number,) for name, part in files.items()})
    manifests = [
        [f"base/5/{'INCREMENTAL.' if part else ''}{name}" for name, part in files.items()] for files in backups
    ]
    plan = plan_chain(manifests, [str(number) for number in range(len(backups))])
    restored: dict[str, tuple[int, ...]] = {}
    for number, manifest in enumerate(manifests):
        for member in manifest:
            name = member.rpartition("/")[2].removeprefix("INCREMENTAL.")
            match plan.action(number, member):
                case Action.WRITE:
                    assert name not in restored
                    restored[name] = (number,)
                case Action.OVERLAY:
                    restored[name] = (*restored[name], number)
    assert restored == contents[-1]
