"""WAL cleanup against a model that is too simple to be wrong: which segments may some backup that stays still need?"""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import DeletionOptions, delete_by_id, delete_by_policy
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.retention import RecoveryWindow, Redundancy
from barman_cloud.catalog.wal_cleanup import NoCleanup, Share, WalCleanup, plan_wal_cleanup
from barman_cloud.errors import BarmanCloudError
from barman_cloud.store.base import Capabilities, ObjectInfo, StoreURL
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, segment

NOW = datetime(2026, 2, 1, tzinfo=UTC)
EVERY_SEGMENT = [segment(n, log, timeline) for timeline in (1, 2, 3) for log in (0, 1) for n in range(4)]
FOLDERS = sorted({name[:16] for name in EVERY_SEGMENT})


def may_need(info: BackupInfo, annotation: str | None, name: str) -> bool:
    """The model. A kept standalone backup needs its own range; any other from its begin on, on all later timelines."""
    if info.status not in ("DONE", "WAITING_FOR_WALS", "STARTED"):
        return False
    if info.begin_wal is None:
        return True
    if annotation == "standalone" and info.end_wal:
        return info.begin_wal <= name <= info.end_wal
    return name[:8] >= info.begin_wal[:8] and name[8:] >= info.begin_wal[8:]


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[list[BackupInfo], dict[str, str]]:
    """Any catalog at all: ids and WAL need not agree in their order, timelines jump, metadata is missing."""
    backups, keeps = [], {}
    for day in range(1, draw(st.integers(1, 6)) + 1):
        status = draw(st.sampled_from(["DONE", "DONE", "DONE", "FAILED", "STARTED", "WAITING_FOR_WALS", "EMPTY"]))
        begin = draw(
            st.sampled_from(EVERY_SEGMENT) | st.none() if draw(st.booleans()) else st.sampled_from(EVERY_SEGMENT)
        )
        end = draw(st.sampled_from([name for name in EVERY_SEGMENT if begin and name >= begin] or [None]))
        info = backup(f"202601{day:02d}T000000", begin, status, end_wal=end)
        backups.append(info)
        if status == "DONE" and draw(st.integers(0, 3)) == 0:
            keeps[info.backup_id] = draw(st.sampled_from(["full", "standalone", "standalone\n"]))
    return backups, keeps


def stored(backups: list[BackupInfo], keeps: dict[str, str]) -> Catalog:
    names = [f"{name}{form}" for name in EVERY_SEGMENT for form in ("", ".gz", ".partial", ".00000028.backup.zst")]
    return fill(memory_catalog("p"), backups, [*names, "00000002.history"], keeps=keeps)


policies = st.builds(Redundancy, st.integers(0, 3)) | st.builds(RecoveryWindow, st.integers(0, 40))


def wal_of(catalog: Catalog) -> set[str]:
    found = (catalog.layout.parse_wal_key(key) for key in keys(catalog))
    return {wal.name for wal in found if wal}


@settings(deadline=None)
@given(catalogs(), policies | st.none(), st.integers(0, 2), st.data())
def test_no_segment_goes_that_a_backup_which_stays_may_need(
    drawn: tuple[list[BackupInfo], dict[str, str]],
    policy: Redundancy | RecoveryWindow | None,
    minimum: int,
    data: st.DataObject,
) -> None:
    backups, keeps = drawn
    catalog = stored(backups, keeps)
    before = wal_of(catalog)
    view = catalog.load()
    options, out = DeletionOptions(), io.StringIO()
    try:
        if policy:
            delete_by_policy(catalog, view, policy, minimum, NOW, options, out)
        else:
            chosen = data.draw(st.sampled_from(sorted(view.backups)))
            delete_by_id(catalog, view, chosen, minimum, options, out)
    except BarmanCloudError:
        assert not policy, "a policy finds nothing to refuse"
        assert wal_of(catalog) == before
        return
    stay = catalog.load().backups
    assert set(keeps) <= set(stay)
    for name in before - wal_of(catalog):
        assert not name.endswith(".history")
        users = [key for key, info in stay.items() if may_need(info, keeps.get(key), name[:24])]
        assert not users, f"{name} went, but {users} may need it"


@settings(deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6, unique=True), st.integers(1, 4))
def test_on_one_timeline_exactly_the_wal_before_the_oldest_backup_goes(positions: list[int], copies: int) -> None:
    begins = [segment(number % 4, number // 4) for number in sorted(positions)]
    backups = [backup(f"202601{day:02d}T000000", begin) for day, begin in enumerate(begins, 1)]
    catalog = stored(backups, {})
    before = {name for name in wal_of(catalog) if name.startswith("00000001")}
    delete_by_policy(catalog, catalog.load(), Redundancy(copies), 0, NOW, DeletionOptions(), io.StringIO())
    oldest = begins[max(0, len(begins) - copies)]
    expected = {name for name in before if name[:24] >= oldest} if len(begins) > copies else before
    assert {name for name in wal_of(catalog) if name.startswith("00000001")} == expected


@settings(deadline=None)
@given(catalogs(), st.booleans(), st.booleans(), st.data())
def test_what_is_said_of_a_folder_is_true_of_its_segments(
    drawn: tuple[list[BackupInfo], dict[str, str]], by_policy: bool, by_folder: bool, data: st.DataObject
) -> None:
    backups, keeps = drawn
    deleted = data.draw(st.sampled_from(backups)).backup_id
    by_id = {info.backup_id: info for info in backups}
    plan = plan_wal_cleanup(by_id, keeps, deleted, by_policy=by_policy, by_folder=by_folder)
    if isinstance(plan, NoCleanup):
        assert plan.reason
        return
    for folder in FOLDERS:
        taken = {plan.takes(f"{folder}{n:08X}") for n in (0, 1, 2, 3, 0xFF, 0xFFF)}
        share = plan.share_of(folder)
        if share is Share.NOTHING:
            assert taken == {False}
        elif share is not Share.SOME_FILES:
            assert taken == {True}
        assert by_folder or share is not Share.EVERYTHING


def plan(*backups: BackupInfo, deleted: int = 0, keeps: dict[str, str] | None = None, by_policy: bool = True) -> object:
    by_id = {info.backup_id: info for info in backups}
    chosen = sorted(by_id)[deleted]
    return plan_wal_cleanup(by_id, keeps or {}, chosen, by_policy=by_policy, by_folder=True)


A, B, C = "20260101T000000", "20260102T000000", "20260103T000000"


def test_the_next_newer_backup_sets_the_limit() -> None:
    found = plan(backup(A, segment(1)), backup(B, segment(5)), backup(C, segment(9)))
    assert isinstance(found, WalCleanup)
    assert found.limit == segment(5)
    assert found.describe() == f"WAL before {segment(5)}, where backup {B} begins, is no longer needed"


def test_the_newest_backup_is_its_own_limit() -> None:
    found = plan(backup(A, segment(1)))
    assert isinstance(found, WalCleanup)
    assert found.limit == segment(1)


def test_an_older_backup_that_stays_needs_all_wal_since() -> None:
    for annotation in ({}, {A: "full"}, {A: "garbage"}):
        assert isinstance(plan(backup(A, segment(1)), backup(B, segment(5)), deleted=1, keeps=annotation), NoCleanup)


def test_a_standalone_backup_is_looked_past_by_a_policy_only() -> None:
    backups = (backup(A, segment(1), end_wal=segment(2)), backup(B, segment(5)), backup(C, segment(9)))
    found = plan(*backups, deleted=1, keeps={A: "standalone"})
    assert isinstance(found, WalCleanup)
    assert found.needs.ranges == ((segment(1), segment(2)),)
    assert [found.takes(segment(n)) for n in range(4)] == [True, False, False, True]
    assert isinstance(plan(*backups, deleted=1, keeps={A: "standalone"}, by_policy=False), NoCleanup)


def test_timelines_of_other_backups_are_protected_that_of_the_deleted_one_included() -> None:
    found = plan(backup(A, segment(1)), backup(B, segment(5, timeline=2)), backup(C, segment(9, timeline=2)))
    assert isinstance(found, WalCleanup)
    assert found.protected_timelines == {1}
    later = plan(backup(B, segment(5, timeline=2)), backup(C, segment(9, timeline=2)))
    assert isinstance(later, WalCleanup)
    assert later.takes(segment(1, timeline=1)), "a lower timeline without backups goes"
    assert not later.takes(segment(1, timeline=3)), "a higher one stays"


def test_a_backup_of_a_repeated_hour_does_not_lose_its_wal() -> None:
    """At the end of summer time a later backup can have the smaller id."""
    later, earlier = backup(B, segment(9)), backup(C, segment(5))
    found = plan(backup(A, segment(1)), later, earlier)
    assert isinstance(found, WalCleanup)
    assert found.limit == segment(9)
    assert not found.takes(segment(5))
    assert not found.takes(segment(8))
    assert found.takes(segment(4))


def test_nothing_goes_while_a_running_backup_does_not_say_where_it_begins() -> None:
    found = plan(backup(A, segment(1)), backup(B, None, "STARTED"), backup(C, segment(9)))
    assert isinstance(found, NoCleanup)


def test_nothing_goes_when_the_limit_is_unknown() -> None:
    assert isinstance(plan(backup(A, None, "FAILED")), NoCleanup)
    assert isinstance(plan(backup(A, begin_wal=None, timeline=1)), NoCleanup)


def test_the_limit_segments_own_files_stay() -> None:
    catalog = stored([backup(A, segment(1)), backup(B, segment(2))], {})
    delete_by_policy(catalog, catalog.load(), Redundancy(1), 0, NOW, DeletionOptions(), io.StringIO())
    assert {f"{segment(2)}.partial", f"{segment(2)}.00000028.backup"} <= wal_of(catalog)
    assert not {f"{segment(1)}.partial", f"{segment(1)}.00000028.backup"} & wal_of(catalog)


def test_names_in_odd_folders_are_left_alone() -> None:
    catalog = stored([backup(A, segment(1)), backup(B, segment(2))], {})
    odd = [
        f"{catalog.layout.wals_dir}junk/{segment(0)}",
        f"{catalog.layout.wals_dir}0000000100000000/{segment(0, 1)}",
        f"{catalog.layout.wals_dir}{segment(0)}",
        f"{catalog.layout.wals_dir}000000010000000/{segment(0)}",
    ]
    for key in odd:
        catalog.store.put(key, b"")
    delete_by_policy(catalog, catalog.load(), Redundancy(1), 0, NOW, DeletionOptions(), io.StringIO())
    assert set(odd) <= set(keys(catalog))


class _HugeArchive(MemoryStore):
    """Lists more WAL than it has, one object at a time, and deletes without looking."""

    size = 30_000
    deleted = 0
    """Keys of the largest request."""

    def list(self, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        if not prefix.endswith("/wals/"):
            yield from super().list(prefix, start_after=start_after)
            return
        for number in range(self.size):
            name = segment(number % 256, number // 256)
            yield ObjectInfo(f"{prefix}{name[:16]}/{name}.gz", 1)

    def delete(self, keys: Iterable[str], *, batch_size: int | None = None) -> None:
        self.deleted = max(self.deleted, sum(1 for _ in keys))


@pytest.mark.parametrize("by_folder", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
def test_memory_does_not_grow_with_the_archive(
    by_folder: bool, dry_run: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_HugeArchive, "capabilities", Capabilities(prefix_delete=by_folder))
    store = _HugeArchive(StoreURL("memory", "b", "p", "memory://b/p"))
    catalog = Catalog(store, Layout("p", "a"))
    last = store.size - 1
    for info in (backup(A, segment(1)), backup(B, segment(last % 256, last // 256))):
        catalog.save(info)
    view = catalog.load()
    with (tmp_path / "out").open("w") as out:
        tracemalloc.start()
        delete_by_policy(catalog, view, Redundancy(1), 0, NOW, DeletionOptions(dry_run=dry_run), out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 << 20, "all keys together would take more than 4 MiB"
    if not dry_run:
        assert store.deleted == last
