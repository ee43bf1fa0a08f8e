"""In which order a deletion looks, marks and deletes: what comes before what is what makes it safe."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from barman_cloud.catalog import keep
from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id, delete_by_policy
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.catalog.retention import Redundancy
from barman_cloud.errors import ConnectivityError, LockedError, ObjectNotFoundError, OperationError
from barman_cloud.store.base import Capabilities
from tests.faults.test_deletion_kills import ARCHIVES, IDS, all_snapshots, four_backups, with_snapshots
from tests.support.faulty_store import FaultyStore
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, segment

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def by_policy(catalog: Catalog, options: DeletionOptions | None = None) -> None:
    delete_by_policy(catalog, catalog.load(), Redundancy(2), 0, NOW, options or DeletionOptions(), io.StringIO())


def by_id(catalog: Catalog, options: DeletionOptions | None = None) -> None:
    delete_by_id(catalog, catalog.load(), IDS[0], 0, options or DeletionOptions(), io.StringIO())


def recorded(catalog: Catalog) -> tuple[Catalog, FaultyStore]:
    store = FaultyStore(catalog.store)
    return Catalog(store, catalog.layout), store


def place(events: list[tuple[str, str]], method: str, ending: str, *, last: bool = False) -> int:
    found = [number for number, (what, key) in enumerate(events) if what == method and key.endswith(ending)]
    assert found, f"no {method} of {ending} in {events}"
    return found[-1 if last else 0]


@pytest.mark.parametrize("way", [by_policy, by_id])
def test_the_annotation_is_read_before_the_mark_and_again_between_mark_and_deletion(
    way: Callable[[Catalog], None],
) -> None:
    catalog, store = recorded(four_backups())
    way(catalog)
    for backup_id in IDS[:2] if way is by_policy else IDS[:1]:
        info, annotation = f"{backup_id}/backup.info", f"{backup_id}/annotations/keep"
        mark = ("put", catalog.layout.backup_info(backup_id))
        marks = [number for number, call in enumerate(store.calls) if call == mark]
        looks = [number for number, call in enumerate(store.calls) if call[0] == "get" and call[1].endswith(annotation)]
        assert len(marks) == 2
        announced, begun = marks
        assert looks[0] < announced
        assert any(announced < look < begun for look in looks)
        assert begun < place(store.calls, "delete", f"{backup_id}/data.tar")
        assert place(store.objects, "delete", info) == max(
            number for number, (method, key) in enumerate(store.objects) if method == "delete" and backup_id in key
        )


def test_backup_info_outlives_the_wal_that_only_its_backup_needed() -> None:
    catalog, store = recorded(four_backups())
    by_policy(catalog)
    deleted = [key for method, key in store.objects if method == "delete"]
    last_wal = max(number for number, key in enumerate(deleted) if "/wals/" in key)
    infos = [number for number, key in enumerate(deleted) if key.endswith("backup.info")]
    assert len(infos) == 2
    assert min(infos) > last_wal


def test_snapshots_go_before_the_label_that_a_restore_of_them_needs() -> None:
    catalog, store = recorded(with_snapshots())
    by_id(catalog, all_snapshots().options(store))
    assert place(store.objects, "snapshots", IDS[0]) < place(store.objects, "delete", f"{IDS[0]}/backup_label")
    assert place(store.objects, "put", f"{IDS[0]}/backup.info", last=True) < place(store.objects, "snapshots", IDS[0])


def test_a_snapshot_that_can_not_be_deleted_keeps_its_label() -> None:
    catalog, store = recorded(with_snapshots())

    def refuse(_info: BackupInfo) -> None:
        raise LockedError("locked after all")

    with pytest.raises(LockedError):
        by_id(catalog, DeletionOptions(delete_snapshots=refuse))
    assert catalog.layout.backup_label(IDS[0]) in keys(catalog)
    assert not any(method == "delete" for method, _ in store.objects)


def test_a_policy_looks_at_each_annotation_again_just_before_it_deletes() -> None:
    catalog, store = recorded(four_backups())

    def keep_the_second() -> None:
        keep.keep(Catalog(store.inner, catalog.layout), IDS[1], "full")

    store.fail("delete", key=f"*{IDS[0]}/data.tar", error=keep_the_second)
    with pytest.raises(OperationError, match=f"{IDS[1]} is not deleted: it has a keep annotation"):
        by_policy(catalog)
    assert catalog.load_one(IDS[1]).status == "DONE"
    assert IDS[0] not in catalog.load().backups, "what did go is finished"


def test_an_annotation_that_is_listed_and_not_found_keeps_its_backup() -> None:
    """It was removed in between, or a proxy answers for the store: another run will know."""
    catalog, store = recorded(four_backups())
    catalog.store.put(catalog.layout.keep(IDS[0]), b"full")
    store.fail("get", key=f"*{IDS[0]}/annotations/keep", times=99, error=lambda: ObjectNotFoundError("cached"))
    by_policy(catalog)
    with pytest.raises(OperationError, match=f"{IDS[0]} is not deleted: it has a keep annotation"):
        by_id(catalog)
    assert keep.read(Catalog(store.inner, catalog.layout), IDS[0]) == "full"
    assert sorted(catalog.load().backups) == [IDS[0], *IDS[2:]]
    assert {ARCHIVES[0], "backup.info"} <= {key.rpartition("/")[2] for key in keys(catalog) if f"{IDS[0]}/" in key}


@pytest.mark.parametrize("number", [0, 1])
def test_no_wal_is_touched_after_the_connection_is_lost(number: int) -> None:
    catalog, store = recorded(four_backups())
    store.fail("delete", key=f"*{IDS[number]}/data.tar", times=99)
    before = [key for key in keys(catalog) if "/wals/" in key]
    with pytest.raises(ConnectivityError):
        by_policy(catalog)
    assert [key for key in keys(catalog) if "/wals/" in key] == before
    assert ("list", catalog.layout.wals_dir) not in store.calls


def test_wal_is_still_cleaned_for_those_that_did_go_when_another_was_refused() -> None:
    catalog, store = recorded(four_backups())
    store.fail("delete", key=f"*{IDS[1]}/data.tar", error=lambda: LockedError("no"))
    with pytest.raises(LockedError):
        by_policy(catalog)
    assert catalog.layout.wal(segment(3), ".gz") not in keys(catalog)
    assert catalog.layout.wal(segment(0x10), ".gz") in keys(catalog)
    assert catalog.load_one(IDS[1]).status == "DONE", "nothing of it was deleted, so its mark is taken back"


@pytest.mark.parametrize("by_folder", [False, True])
def test_wal_of_later_timelines_stays_from_where_a_backup_that_stays_begins(
    by_folder: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup being made on timeline 1 may be recovered along timeline 2, of which there is no backup."""
    catalog = memory_catalog()
    monkeypatch.setattr(type(catalog.store), "capabilities", Capabilities(prefix_delete=by_folder))
    fill(
        catalog,
        [
            backup(IDS[0], segment(1)),
            backup(IDS[1], segment(5), "STARTED"),
            backup(IDS[2], segment(9, 0, 3)),
            backup(IDS[3], segment(2, 1, 3)),
        ],
        [segment(position, log, timeline) for timeline in (1, 2, 3, 4) for log in (0, 1) for position in range(1, 12)],
    )
    by_policy(catalog)
    left = {key.rpartition("/")[2] for key in keys(catalog) if "/wals/" in key}
    everything = {
        segment(position, log, timeline) for timeline in (1, 2, 3, 4) for log in (0, 1) for position in range(1, 12)
    }
    gone = {segment(position, 0, 2) for position in range(1, 5)} | {segment(position, 0, 3) for position in range(1, 5)}
    assert everything - left == gone
