"""Marks of deletion, annotations and what stands behind another check: each looked at by itself."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import ANNOUNCED, BEGUN, DONE, FAILED, STARTED, BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id, delete_by_policy
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.catalog.retention import RecoveryWindow, Redundancy, Status, judge
from barman_cloud.catalog.wal_archive import WalArchive
from barman_cloud.errors import ConnectivityError, IntegrityError, OperationError
from barman_cloud.postgres.timeline import LARGEST_HISTORY
from tests.support.faulty_store import FaultyStore
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, segment

OLD, NEW = "20260101T000000", "20260102T000000"
NOW = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(two_backups().store)


@pytest.fixture
def catalog(store: FaultyStore) -> Catalog:
    return Catalog(store, two_backups().layout)


def two_backups() -> Catalog:
    return fill(memory_catalog(), [backup(OLD, segment(3)), backup(NEW, segment(9))], map(segment, range(1, 12)))


def delete(catalog: Catalog, backup_id: str = OLD, *, with_children: bool = False, dry_run: bool = False) -> None:
    options = DeletionOptions(dry_run=dry_run)
    delete_by_id(catalog, catalog.load(), backup_id, 0, options, io.StringIO(), with_children=with_children)


def begun(catalog: Catalog, backup_id: str = OLD) -> None:
    mark = DeletionMark(catalog, backup_id)
    mark.announce()
    mark.begin()


def test_children_go_before_what_they_build_on(store: FaultyStore) -> None:
    catalog = Catalog(store, two_backups().layout)
    ids = [OLD, NEW, "20260103T000000"]
    parents = [None, OLD, NEW]
    fill(
        catalog, [backup(i, segment(n), parent_backup_id=p) for n, (i, p) in enumerate(zip(ids, parents, strict=True))]
    )
    store.objects.clear()
    delete(catalog, with_children=True)
    gone = [key.split("/")[-2] for method, key in store.objects if method == "delete" and key.endswith("/data.tar")]
    assert gone == list(reversed(ids))
    assert catalog.load().backups == {}


def test_an_annotation_that_comes_too_late_does_not_stop_a_deletion_that_has_begun(catalog: Catalog) -> None:
    begun(catalog)
    catalog.store.put(catalog.layout.keep(OLD), b"full")
    delete(catalog)
    assert OLD not in catalog.load().backups


def test_a_deletion_that_has_begun_stays_so_whoever_comes_by(catalog: Catalog) -> None:
    begun(catalog)
    mark = DeletionMark(catalog, OLD)
    assert mark.announce() == BEGUN
    mark.take_back()
    assert catalog.load_one(OLD).deletion == BEGUN


def test_the_policy_too_goes_on_with_what_has_begun(catalog: Catalog) -> None:
    begun(catalog)
    catalog.store.put(catalog.layout.keep(OLD), b"full")
    delete_by_policy(catalog, catalog.load(), Redundancy(1), 0, NOW, DeletionOptions(), io.StringIO())
    assert list(catalog.load().backups) == [NEW]


def test_a_mark_that_was_only_announced_is_taken_back_by_another_run_word_for_word(catalog: Catalog) -> None:
    before = catalog.read_info(OLD)
    DeletionMark(catalog, OLD).announce()
    assert catalog.load_one(OLD).deletion == ANNOUNCED
    assert catalog.load_one(OLD).status == FAILED
    other = DeletionMark(catalog, OLD)
    assert other.announce() == ANNOUNCED
    other.take_back()
    assert catalog.read_info(OLD) == before


@pytest.mark.parametrize("dry_run", [True, False])
def test_an_annotation_takes_an_announced_deletion_back_but_not_in_a_dry_run(
    catalog: Catalog, store: FaultyStore, dry_run: bool
) -> None:
    DeletionMark(catalog, OLD).announce()
    catalog.store.put(catalog.layout.keep(OLD), b"full")
    store.objects.clear()
    with pytest.raises(OperationError, match="has a keep annotation"):
        delete(catalog, dry_run=dry_run)
    assert (store.objects == []) is dry_run
    assert (catalog.load_one(OLD).status == DONE) is not dry_run


def test_a_backup_that_is_kept_between_the_mark_and_the_second_look_is_as_before(
    catalog: Catalog, store: FaultyStore
) -> None:
    before = catalog.read_info(OLD)
    annotate = catalog.layout.keep(OLD)
    store.fail("put", key="*/backup.info", after=True, error=lambda: store.inner.put(annotate, b"full"))
    with pytest.raises(OperationError, match="has a keep annotation"):
        delete(catalog)
    assert catalog.read_info(OLD) == before


def test_a_policy_does_not_even_mark_what_was_kept_since_it_judged(catalog: Catalog, store: FaultyStore) -> None:
    view = catalog.load()
    store.fail("list", key=catalog.layout.base_dir, after=True,
               error=lambda: store.inner.put(catalog.layout.keep(OLD), b"full"))  # fmt: skip
    with pytest.raises(OperationError, match="has a keep annotation"):
        delete_by_policy(catalog, view, Redundancy(1), 0, NOW, DeletionOptions(), io.StringIO())
    assert [call for call in store.objects if call[0] == "put"] == []


def test_a_lost_answer_leaves_the_mark_because_nobody_knows_what_was_done(catalog: Catalog, store: FaultyStore) -> None:
    store.fail("delete", key="*/data.tar")
    with pytest.raises(ConnectivityError):
        delete(catalog)
    assert catalog.load_one(OLD).deletion == BEGUN


class TestABackupThatIsBeingMade:
    """It writes over any mark, so there is an object beside it."""

    @pytest.fixture
    def running(self, catalog: Catalog) -> str:
        fill(catalog, [backup(OLD, segment(3), STARTED)])
        return catalog.layout.being_deleted(OLD)

    def test_it_is_told_first_and_that_goes_last(self, catalog: Catalog, store: FaultyStore, running: str) -> None:
        store.objects.clear()
        delete(catalog)
        info = catalog.layout.backup_info(OLD)
        changes = [call for call in store.objects if call[1] in (running, info)]
        assert changes[0] == ("put", running)
        assert changes[1] == ("put", info)
        assert changes[-2:] == [("delete", info), ("delete", running)]

    def test_a_mark_that_is_taken_back_takes_it_along(self, catalog: Catalog, running: str) -> None:
        mark = DeletionMark(catalog, OLD)
        mark.announce()
        assert running in keys(catalog)
        mark.take_back()
        assert running not in keys(catalog)
        assert catalog.load_one(OLD).status == STARTED


class TestKeep:
    def test_what_is_being_deleted_says_so(self, catalog: Catalog) -> None:
        begun(catalog)
        with pytest.raises(OperationError, match="it is being deleted"):
            keep.keep(catalog, OLD, keep.FULL)
        assert catalog.layout.keep(OLD) not in keys(catalog)

    @pytest.mark.parametrize("status", [STARTED, FAILED])
    def test_what_is_not_done_is_refused_before_anything_is_written(self, catalog: Catalog, status: str) -> None:
        catalog.save(replace(catalog.load_one(OLD), status=status))
        with pytest.raises(OperationError, match=f"it is {status}, not DONE"):
            keep.keep(catalog, OLD, keep.FULL)
        assert catalog.layout.keep(OLD) not in keys(catalog)


class TestWal:
    def test_what_a_backup_needs_stays_while_its_deletion_may_be_taken_back(self, catalog: Catalog) -> None:
        fill(catalog, [backup("20260103T000000", segment(11))])
        DeletionMark(catalog, OLD).announce()
        view = catalog.load()
        # Neither DONE nor older by rule, so nothing but its need keeps the WAL.
        delete_by_id(catalog, view, NEW, 0, DeletionOptions(), io.StringIO())
        assert catalog.layout.wal(segment(3)) in keys(catalog)
        assert catalog.layout.wal(segment(2)) not in keys(catalog)

    def test_a_file_in_another_folder_than_its_own_stays(self, catalog: Catalog) -> None:
        lost = f"{catalog.layout.wals_dir}0000000100000000/{segment(2)}.gz"
        stray = f"{catalog.layout.wals_dir}0000000000000000/{segment(2)}.gz"
        for key in (lost, stray):
            catalog.store.put(key, b"x")
        delete(catalog)
        assert stray in keys(catalog)
        assert lost not in keys(catalog)

    def test_a_history_that_is_too_large_is_not_fetched(self, catalog: Catalog, store: FaultyStore) -> None:
        key = catalog.layout.wal("00000002.history")
        catalog.store.put(key, b"1\t0/3000000\tx\n" + b"#" * LARGEST_HISTORY)
        with pytest.raises(IntegrityError, match="too large"):
            WalArchive(catalog.store, catalog.layout).history(2)
        assert ("get", key) not in store.calls


def test_a_policy_wants_the_whole_catalog(catalog: Catalog) -> None:
    catalog.store.put(catalog.layout.backup_info(OLD), b"status\n")
    view = catalog.load()
    assert list(view.unreadable) == [OLD]
    with pytest.raises(OperationError, match=f"needs the whole catalog.*{OLD}"):
        view.require_readable("a deletion")


def test_a_backup_that_ended_with_the_first_moment_of_the_window_is_in_it() -> None:
    backups: dict[str, BackupInfo] = {}
    for number, end in enumerate([NOW - timedelta(days=9), NOW - timedelta(days=8), NOW - timedelta(days=7)], 1):
        info = backup(f"2026010{number}T000000", segment(number), end_time=end)
        backups[info.backup_id] = info
    verdicts = judge(backups, {}, RecoveryWindow(7), 0, NOW)
    assert [verdict.status for verdict in verdicts.values()] == [Status.OBSOLETE, Status.VALID, Status.VALID]
