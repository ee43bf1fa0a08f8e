"""A restore of a chain that is killed at any step, and run again, leaves what it would have left at once."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path

import pytest

from barman_cloud.restore import journal, merge
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.store.open import open_store
from tests.faults.test_restore_kills import killed_at, snapshot
from tests.unit.restore.chains import EXPECTED, HandMadeChain, three


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> HandMadeChain:
    return three(open_store(f"file://{tmp_path_factory.mktemp('store')}"))


@pytest.fixture(autouse=True, params=["put together", "in place"])
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in place":
        monkeypatch.setattr(merge, "LIMIT", 0)


def restore(chain: HandMadeChain, target: Path) -> None:
    restore_backup(chain.store, chain.layout, chain.newest, target, {"fast": str(target / "space")}, 1)


@pytest.mark.long
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_at_every_step(chain: HandMadeChain, tmp_path: Path, before: bool) -> None:
    restore(chain, tmp_path / "whole")
    expected = snapshot(tmp_path / "whole")
    step = 0
    while True:
        step += 1
        target = tmp_path / str(step)
        if not killed_at(step, partial(restore, chain, target), before=before):
            break
        control = target / "global/pg_control"
        unfinished = (target / journal.NAME).exists()
        assert not control.exists() or b"INCREMENTAL" not in (target / "backup_label").read_bytes()
        if unfinished or not control.exists():
            restore(chain, target)
        assert snapshot(target) == expected, f"killed {'before' if before else 'after'} step {step}"
    assert step > 50  # and more for root, who sets owners
    assert expected["base/5/16400"][-1] == EXPECTED["base/5/16400"]


def test_after_a_reboot_everything_is_made_again(
    chain: HandMadeChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(chain, tmp_path / "whole")
    for step in count(10, 5):  # how many there are before the file depends on who restores: root sets owners
        target = tmp_path / str(step)
        assert killed_at(step, partial(restore, chain, target), before=True)
        if (target / "base/5/16400").exists():
            break
    (target / "base/5/16400").write_bytes(b"lost")  # what the kernel had not written yet
    monkeypatch.setattr(journal, "_boot_id", lambda: "another")
    restore(chain, target)
    assert snapshot(target) == snapshot(tmp_path / "whole")
