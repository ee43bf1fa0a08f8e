"""A deletion that is killed, or loses its store, at any call: no half backup counts, and the same command finishes."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from barman_cloud.catalog import keep, selection
from barman_cloud.catalog.backup_info import ANNOUNCED, BEGUN, DONE, BackupInfo, Snapshot, SnapshotsInfo
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.deletion import delete_by_id, delete_by_policy
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.removal import DeletionOptions
from barman_cloud.catalog.retention import parse_policy
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConnectivityError,
    LockedError,
    OperationError,
    StoreError,
)
from barman_cloud.store.base import DeleteFailedError
from tests.support.faulty_store import Failure, FaultyStore
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, segment

NOW = datetime(2026, 2, 1, tzinfo=UTC)
IDS = [f"2026010{number}T000000" for number in (1, 2, 3, 4)]
ARCHIVES = ("data.tar", "data_0001.tar", "16384.tar", "archives.json", "backup_manifest")
WAL_OF = {IDS[0]: 0x03, IDS[1]: 0x10, IDS[2]: 0x20, IDS[3]: 0x30}


class KilledError(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


@dataclass
class Cloud:
    """Disk snapshots, and what was done to them and to the store, in order."""

    snapshots: set[str]

    def options(self, store: FaultyStore) -> DeletionOptions:
        def delete(info: BackupInfo) -> None:
            if info.snapshots_info:
                store.enter("snapshots", info.backup_id)
                self.snapshots.difference_update(info.snapshots_info.identifiers)

        return DeletionOptions(delete_snapshots=delete)


def four_backups() -> Catalog:
    return fill(
        memory_catalog(),
        [backup(backup_id, segment(WAL_OF[backup_id])) for backup_id in IDS],
        [f"{segment(number)}.gz" for number in range(1, 0x34)],
        archives=ARCHIVES,
    )


def with_snapshots() -> Catalog:
    """The oldest two are snapshot backups."""
    catalog = four_backups()
    for backup_id in IDS[:2]:
        catalog.store.delete([catalog.layout.backup_dir(backup_id) + name for name in ARCHIVES])
        info = replace(catalog.load_one(backup_id), snapshots_info=snapshots(backup_id))
        fill(catalog, [info])
    return catalog


def snapshots(backup_id: str) -> SnapshotsInfo:
    name = f"disk-{backup_id.lower()}"
    return SnapshotsInfo("gcp", {"project": "p"}, (Snapshot("/data", "rw", {"snapshot_name": name}),))


def by_policy(catalog: Catalog, options: DeletionOptions) -> None:
    delete_by_policy(catalog, catalog.load(), parse_policy("REDUNDANCY 2"), 0, NOW, options, io.StringIO())


def by_id(catalog: Catalog, options: DeletionOptions) -> None:
    delete_by_id(catalog, catalog.load(), IDS[0], 0, options, io.StringIO())


def by_shortcut(catalog: Catalog, options: DeletionOptions) -> None:
    view = catalog.load()
    delete_by_id(catalog, view, selection.resolve("oldest", lambda: view), 0, options, io.StringIO())


Delete = Callable[[Catalog, DeletionOptions], None]
WAYS: dict[str, Delete] = {"policy": by_policy, "id": by_id}
MAKERS = {"archives": four_backups, "snapshots": with_snapshots}


def is_whole(catalog: Catalog, cloud: Cloud, info: BackupInfo) -> bool:
    present = set(keys(catalog))
    folder = catalog.layout.backup_dir(info.backup_id)
    if info.snapshots_info:
        return cloud.snapshots.issuperset(info.snapshots_info.identifiers) and f"{folder}backup_label" in present
    return all(folder + name in present for name in ARCHIVES)


def assert_no_half_backup_counts(catalog: Catalog, cloud: Cloud) -> None:
    view = catalog.load()
    assert not view.unreadable
    for info in view.backups.values():
        if info.is_complete:
            assert is_whole(catalog, cloud, info), f"{info.backup_id} says {info.status} and isn't whole"
            needed = {catalog.layout.wal(segment(n), ".gz") for n in range(WAL_OF[info.backup_id], 0x34)}
            assert needed.issubset(keys(catalog)), f"WAL of {info.backup_id} is gone"
        else:
            assert info.deletion
            assert info.end_time is None, "clients take a backup with an end time for a finished one"
    assert selection.resolve_for_restore("latest", catalog).backup_id == IDS[3]
    assert is_whole(catalog, cloud, view.backups[IDS[2]])
    assert is_whole(catalog, cloud, view.backups[IDS[3]])


def all_snapshots() -> Cloud:
    return Cloud({name for backup_id in IDS for name in snapshots(backup_id).identifiers})


def run(catalog: Catalog, way: Delete, cloud: Cloud, failure: Failure | None) -> FaultyStore:
    store = FaultyStore(catalog.store, [failure] if failure else [])
    faulty = Catalog(store, catalog.layout)
    way(faulty, cloud.options(store))
    return store


@pytest.mark.parametrize(
    ("error", "after", "cut"),
    [(KilledError, False, None), (KilledError, True, None), (KilledError, True, 1), (ConnectivityError, False, None)],
)
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_deletion_that_ends_at_any_call_leaves_nothing_half_and_is_finished_by_the_same_command(
    way: Delete, make: Callable[[], Catalog], error: type[BaseException], after: bool, cut: int | None
) -> None:
    whole = make()
    untroubled = run(whole, way, all_snapshots(), None)
    for number in range(1, len(untroubled.calls) + 1):
        catalog, cloud = make(), all_snapshots()
        failure = Failure(skip=number - 1, error=lambda: error("gone"), after=after, cut=cut)
        ends_early(lambda: run(catalog, way, cloud, failure), surely=not after)  # noqa: B023 - called at once
        assert_no_half_backup_counts(catalog, cloud)
        run(catalog, way, cloud, None)
        assert relative(catalog) == relative(whole), f"call {number}: {untroubled.calls[number - 1]}"
        assert_no_half_backup_counts(catalog, cloud)


def ends_early(call: Callable[[], object], *, surely: bool) -> bool:
    """Call what is to be killed; after a call that raises by itself, or isn't read to its end, it may not be."""
    try:
        call()
    except (KilledError, ConnectivityError):
        return True
    assert not surely
    return False


def relative(catalog: Catalog) -> list[str]:
    return [key.removeprefix(catalog.layout.root) for key in keys(catalog)]


@pytest.mark.parametrize("after", [False, True])
def test_a_deletion_by_shortcut_is_finished_by_the_same_words(after: bool) -> None:
    whole = four_backups()
    untroubled = run(whole, by_shortcut, all_snapshots(), None)
    last = max(number for number, call in enumerate(untroubled.calls) if call[0] == "delete")
    for number in range(1, last + (not after)):  # the last call done, nothing is left to finish
        catalog = four_backups()
        failure = Failure(skip=number - 1, error=KilledError, after=after)
        if not ends_early(lambda: run(catalog, by_shortcut, all_snapshots(), failure), surely=not after):  # noqa: B023
            continue
        run(catalog, by_shortcut, all_snapshots(), None)
        assert relative(catalog) == relative(whole)


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keep that runs inside a deletion would wait for what can't go on meanwhile."""
    monkeypatch.setattr(keep, "DECIDED_WITHIN", 0.0)


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("after", [False, True])
def test_an_annotation_that_was_acknowledged_is_never_of_a_backup_that_goes(after: bool) -> None:
    """``backup-keep`` runs as a whole at each call of a deletion, which is killed there or goes on."""
    calls = len(run(four_backups(), by_policy, all_snapshots(), None).calls)
    for killed in (False, True):
        for number in range(1, calls + 1):
            catalog = four_backups()
            acknowledged = []

            def interfere(catalog: Catalog = catalog, acknowledged: list[bool] = acknowledged) -> BaseException | None:
                try:
                    keep.keep(catalog, IDS[0], "full")
                    acknowledged.append(True)
                except BarmanCloudError:
                    pass
                return KilledError() if killed else None  # noqa: B023 - called in this turn of the loop

            with contextlib.suppress(KilledError, OperationError):
                run(catalog, by_policy, all_snapshots(), Failure(skip=number - 1, error=interfere, after=after))
            for _ in range(2):
                if acknowledged:
                    assert_is_kept(catalog)
                try:
                    run(catalog, by_policy, all_snapshots(), None)
                except OperationError:
                    assert acknowledged
            assert_no_half_backup_counts(catalog, all_snapshots())
            if acknowledged:
                assert_is_kept(catalog)
                assert catalog.load_one(IDS[0]).status == DONE


@pytest.mark.usefixtures("_hasty")
@pytest.mark.parametrize("killed", [None, ("put", "*/backup.info", 1), ("delete", "*/data.tar", 0)])
def test_a_deletion_that_overtakes_a_keep_leaves_it_no_success(killed: tuple[str, str, int] | None) -> None:
    """The deletion, or its beginning, happens between the keep's look at the backup and its annotation."""
    catalog = four_backups()

    def delete() -> None:
        method, key, skip = killed or ("none", "none", 0)
        failure = Failure(method, key, skip=skip, error=KilledError, after=True)
        with contextlib.suppress(KilledError):
            run(catalog, by_id, all_snapshots(), failure)

    store = FaultyStore(catalog.store)
    store.fail("put", key="*/annotations/keep", error=delete)
    with pytest.raises(BarmanCloudError) as caught:
        keep.keep(Catalog(store, catalog.layout), IDS[0], "full")
    assert caught.value.exit_code in (1, 4)


def test_a_keep_waits_for_the_deletion_that_gives_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has found the backup DONE, and its annotation comes between the announcement and the look for one."""
    monkeypatch.setattr(keep, "DECIDED_WITHIN", 60.0)
    catalog = four_backups()
    ready, announced, stored = threading.Event(), threading.Event(), threading.Event()

    def hesitate() -> None:
        ready.set()
        assert announced.wait(60)

    keeping = FaultyStore(catalog.store)
    keeping.fail("put", key="*/annotations/keep", error=hesitate)
    keeping.fail("get", key="*/backup.info", skip=1, error=lambda: stored.set())

    def meanwhile() -> None:
        announced.set()
        assert stored.wait(60)

    with ThreadPoolExecutor() as pool:
        told = pool.submit(keep.keep, Catalog(keeping, catalog.layout), IDS[0], "full")
        assert ready.wait(60)
        with pytest.raises(OperationError, match="it has a keep annotation"):
            run(catalog, by_policy, all_snapshots(), Failure("put", "*/backup.info", error=meanwhile, after=True))
        told.result(60)
    assert_is_kept(catalog)
    assert catalog.load_one(IDS[0]).status == DONE


@pytest.mark.parametrize("way", [by_policy, by_id])
@pytest.mark.parametrize("moment", ["annotations/keep", "backup.info"])
def test_of_two_deletions_and_a_keep_none_deletes_what_was_promised_to_be_kept(way: Delete, moment: str) -> None:
    """The first deletion is about to look for an annotation, or has; then there is one, and the second gives way."""
    catalog = four_backups()
    acknowledged = []

    def interfere() -> None:
        catalog.store.put(catalog.layout.keep(IDS[0]), b"full")
        with contextlib.suppress(OperationError):  # a policy leaves the backup out
            run(catalog, way, all_snapshots(), None)
        keep.keep(catalog, IDS[0], "full")
        acknowledged.append(True)

    calls = run(four_backups(), way, all_snapshots(), None).calls
    announced, begun = [n for n, call in enumerate(calls) if call == ("put", catalog.layout.backup_info(IDS[0]))]
    between = [n for n in range(announced, begun) if calls[n][0] == "get" and calls[n][1].endswith(moment)]
    with pytest.raises(OperationError, match="it has a keep annotation"):
        run(catalog, way, all_snapshots(), Failure(skip=between[-1], error=interfere))
    assert acknowledged
    assert_is_kept(catalog)
    assert catalog.load_one(IDS[0]).status == DONE


def test_no_deletion_takes_back_the_mark_by_which_another_one_has_begun() -> None:
    """It would make a backup that loses its archives look like a whole one."""
    catalog = four_backups()
    hesitating = DeletionMark(catalog, IDS[0])
    hesitating.announce()
    other = DeletionMark(catalog, IDS[0])
    other.announce()
    other.begin()
    hesitating.take_back()
    assert catalog.load_one(IDS[0]).deletion == BEGUN
    hesitating.begin()
    hesitating.take_back()
    assert catalog.load_one(IDS[0]).deletion == BEGUN
    catalog.store.delete([catalog.layout.backup_info(IDS[0])])
    late = DeletionMark(catalog, IDS[1])
    late.announce()
    catalog.store.delete([catalog.layout.backup_info(IDS[1])])
    late.take_back()
    assert IDS[1] not in catalog.load().backups


def assert_is_kept(catalog: Catalog) -> None:
    info = catalog.load_one(IDS[0])
    assert keep.read(catalog, IDS[0]) == "full"
    assert info.deletion != BEGUN
    assert is_whole(catalog, all_snapshots(), replace(info, snapshots_info=None))


def test_a_deletion_takes_back_its_mark_when_nothing_could_be_deleted() -> None:
    for error in (
        lambda: DeleteFailedError({"data.tar": "retained"}),
        lambda: AccessDeniedError("no"),
        lambda: StoreError("odd"),
    ):
        catalog = four_backups()
        before = catalog.read_info(IDS[0])
        with pytest.raises(OperationError):
            run(catalog, by_id, all_snapshots(), Failure("delete", "*data.tar", error=error))
        assert catalog.read_info(IDS[0]) == before


def test_a_deletion_of_which_something_is_gone_keeps_its_mark() -> None:
    catalog = four_backups()
    error = DeleteFailedError({"x": "retained"})
    with pytest.raises(OperationError):
        run(catalog, by_id, all_snapshots(), Failure("delete", "*data.tar", error=lambda: error, cut=2))
    assert catalog.load_one(IDS[0]).deletion == BEGUN


def test_a_locked_snapshot_is_noticed_before_the_backup_is_marked() -> None:
    catalog = with_snapshots()
    before = catalog.read_info(IDS[0])

    def locked(_info: BackupInfo) -> None:
        raise LockedError("locked")

    with pytest.raises(LockedError):
        delete_by_id(catalog, catalog.load(), IDS[0], 0, DeletionOptions(check_snapshots=locked), io.StringIO())
    assert catalog.read_info(IDS[0]) == before


def test_credentials_that_may_not_write_delete_the_metadata_first(caplog: pytest.LogCaptureFixture) -> None:
    whole = four_backups()
    run(whole, by_id, all_snapshots(), None)

    def denied() -> Failure:
        return Failure("put", times=99, error=lambda: AccessDeniedError("no"))

    catalog = four_backups()
    store = FaultyStore(catalog.store, [denied()])
    by_id(Catalog(store, catalog.layout), DeletionOptions())
    assert relative(catalog) == relative(whole)
    assert "can't be marked" in caplog.text
    for number in range(1, len(store.calls)):
        catalog = four_backups()
        failures = [denied(), Failure(skip=number - 1, error=KilledError)]
        with pytest.raises(KilledError):
            by_id(Catalog(FaultyStore(catalog.store, failures), catalog.layout), DeletionOptions())
        for info in catalog.load().backups.values():
            assert is_whole(catalog, all_snapshots(), info)


def test_a_mark_is_taken_for_failed_and_says_why() -> None:
    catalog = four_backups()
    text = catalog.read_info(IDS[0])
    with pytest.raises(KilledError):
        run(catalog, by_id, all_snapshots(), Failure("delete", error=KilledError))
    info = catalog.load_one(IDS[0])
    assert (info.status, info.deletion, info.end_time) == ("FAILED", BEGUN, None)
    assert "being deleted" in str(info.error)
    assert catalog.read_info(IDS[0]) != text


def test_wal_that_an_announced_backup_needs_stays() -> None:
    catalog = four_backups()
    announcement = Failure("put", f"*{IDS[1]}/backup.info", error=KilledError, after=True)
    with pytest.raises(KilledError):
        run(catalog, by_policy, all_snapshots(), announcement)
    assert catalog.load_one(IDS[1]).deletion == ANNOUNCED
    by_id(catalog, DeletionOptions())
    assert catalog.layout.wal(segment(WAL_OF[IDS[1]]), ".gz") in keys(catalog)
