"""What was verified when: bounded, merged with what others stored, and no more than a help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.errors import AccessDeniedError
from barman_cloud.store.base import ObjectStore
from barman_cloud.verify import ledger as ledgers
from barman_cloud.verify.ledger import BROKEN, WHOLE, Ledger, VerifiedBackup, VerifiedWal
from tests.unit.catalog.builders import backup, fill, memory_catalog, segment

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SIZE = 16 << 20


def verified(moment: datetime, state: str = WHOLE) -> VerifiedBackup:
    return VerifiedBackup(moment, state, "f")


def test_only_a_whole_backup_with_the_same_objects_is_fresh() -> None:
    ledger = Ledger({"a": verified(NOW - HOUR), "b": verified(NOW - HOUR, BROKEN), "c": verified(NOW + HOUR)})
    assert ledger.is_fresh("a", "f", HOUR, NOW)
    assert not ledger.is_fresh("a", "other", HOUR, NOW)
    assert not ledger.is_fresh("a", "f", HOUR - timedelta(seconds=1), NOW)
    assert not ledger.is_fresh("a", "f", None, NOW)
    assert not ledger.is_fresh("b", "f", HOUR, NOW)
    assert not ledger.is_fresh("c", "f", HOUR, NOW), "a clock that was wrong doesn't make it fresh for ever"
    assert not ledger.is_fresh("d", "f", HOUR, NOW)


def test_segments_that_follow_each_other_are_one_run() -> None:
    ledger = Ledger()
    for timeline, number in ((1, 5), (1, 6), (1, 8), (2, 9), (2, 9), (2, 10)):
        ledger.add_wal(timeline, number, SIZE, NOW)
    assert [(run.timeline, run.first, run.last) for run in ledger.wal] == [(1, 5, 6), (1, 8, 8), (2, 9, 10)]
    assert ledger.fresh_wal(SIZE, HOUR, NOW) == ledger.wal
    assert ledger.fresh_wal(SIZE * 2, HOUR, NOW) == [], "other segments have these numbers then"
    assert ledger.fresh_wal(SIZE, HOUR, NOW + 2 * HOUR) == []


def test_what_another_run_has_stored_meanwhile_is_kept() -> None:
    catalog = memory_catalog()
    store, layout = catalog.store, catalog.layout
    theirs = Ledger({"a": verified(NOW), "b": verified(NOW - HOUR)}, [VerifiedWal(1, 1, 5, NOW)], SIZE)
    ledgers.save(store, layout, theirs, {"a", "b"})
    mine = Ledger({"a": verified(NOW - HOUR, BROKEN), "b": verified(NOW, BROKEN)}, [VerifiedWal(1, 9, 9, NOW)], SIZE)
    ledgers.save(store, layout, mine, {"a", "b"})
    found = ledgers.load(store, layout)
    assert {backup_id: entry.state for backup_id, entry in found.backups.items()} == {"a": WHOLE, "b": BROKEN}
    assert {(run.first, run.last) for run in found.wal} == {(1, 5), (9, 9)}


def test_it_stays_small() -> None:
    catalog = memory_catalog()
    store, layout = catalog.store, catalog.layout
    wal = [VerifiedWal(1, 10 * n, 10 * n, NOW + timedelta(seconds=n)) for n in range(5000)]
    many = Ledger({"gone": verified(NOW), "there": verified(NOW)}, wal, SIZE)
    ledgers.save(store, layout, many, {"there"})
    found = ledgers.load(store, layout)
    assert set(found.backups) == {"there"}
    assert len(found.wal) == 2000
    assert max(run.first for run in found.wal) == 49_990, "the newest are kept"
    again = Ledger(found.backups, [VerifiedWal(1, 0, 60_000, NOW + timedelta(days=1))], SIZE)
    ledgers.save(store, layout, again, {"there"})
    assert [(run.first, run.last) for run in ledgers.load(store, layout).wal] == [(0, 60_000)]


def test_a_reader_without_the_right_to_write_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = memory_catalog()

    def refuse(*_: object, **__: object) -> None:
        raise AccessDeniedError("not allowed")

    monkeypatch.setattr(type(catalog.store), "put", refuse)
    store: ObjectStore = catalog.store
    ledgers.save(store, catalog.layout, Ledger(), set())


def test_what_builds_on_a_broken_backup_is_lost_too() -> None:
    catalog = memory_catalog()
    ids = [f"202611{day:02d}T030000" for day in (1, 2, 3, 4)]
    parents = (None, ids[0], ids[1], None)
    fill(catalog, [backup(i, segment(2), parent_backup_id=parent) for i, parent in zip(ids, parents, strict=True)])
    assert ledgers.broken(Ledger({ids[0]: verified(NOW, BROKEN)}), catalog.load()) == set(ids[:3])
    assert ledgers.broken(Ledger({ids[1]: verified(NOW, BROKEN)}), catalog.load()) == set(ids[1:3])


def test_an_object_that_was_replaced_has_another_fingerprint() -> None:
    catalog = memory_catalog()
    info = backup("20261101T030000", segment(2))
    fill(catalog, [info])
    before = ledgers.fingerprint(catalog, info.backup_id)
    catalog.save(backup(info.backup_id, segment(3)))
    assert ledgers.fingerprint(catalog, info.backup_id) == before, "backup.info may change"
    catalog.store.put(catalog.layout.archive(info.backup_id, "data"), b"y")
    assert ledgers.fingerprint(catalog, info.backup_id) != before
