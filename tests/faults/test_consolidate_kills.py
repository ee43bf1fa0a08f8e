"""A consolidation that is killed at any step: the chain is as it was, and nothing that isn't whole counts."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.cleanup import CleanupOptions, clean_up
from barman_cloud.catalog.layout import Layout
from barman_cloud.consolidation.consolidate import ConsolidationOptions, consolidate
from barman_cloud.store.open import open_store
from barman_cloud.verify.stored_backup import verify_backup
from tests.faults.test_restore_kills import killed_at
from tests.unit.restore.chains import three

NEW = "20261122T121104"


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("store")
    three(open_store(f"file://{place}"))
    return place


def objects(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("before", [pytest.param(True, marks=pytest.mark.long), False], ids=["before", "after"])
def test_killed_at_every_step(chain: Path, tmp_path: Path, before: bool) -> None:
    original = objects(chain)
    step, states = 0, set()
    while True:
        step += 1
        place = tmp_path / str(step)
        shutil.copytree(chain, place)
        store = open_store(f"file://{place}")
        catalog = Catalog(store, Layout.of(store.url, "main"))
        newest = catalog.load_one("20261122T121103")
        killed = killed_at(step, lambda: consolidate_all(catalog), before=before)  # noqa: B023
        found = objects(place)
        assert {name: data for name, data in found.items() if NEW not in name} == original
        info = catalog.load().backups.get(NEW)
        status = info.status if info else None
        states.add(status)
        assert status in (None, "STARTED", "DONE")
        if info and status == "DONE":
            assert not verify_backup(catalog, info, 1, quick=False).broken
        if not killed:
            assert status == "DONE"
            break
        if status != "DONE":
            report = clean_up(catalog, CleanupOptions(), datetime.now(UTC) + timedelta(days=8))
            assert not report.has_failed
            assert objects(place) == original, f"step {step}"
            assert consolidate(catalog, newest, ConsolidationOptions()).status == "DONE"
        shutil.rmtree(place)
    assert states == {None, "STARTED", "DONE"}
    assert step > 20


def consolidate_all(catalog: Catalog) -> None:
    consolidate(catalog, catalog.load_one("20261122T121103"), ConsolidationOptions())
