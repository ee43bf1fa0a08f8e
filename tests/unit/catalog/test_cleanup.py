"""Cleaning up: what is found to be left over, what goes, and what must not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from barman_cloud.archive import archives_json
from barman_cloud.archive.archives_json import ArchiveRecord
from barman_cloud.catalog import heartbeat, leftovers
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.catalog.cleanup import CleanupOptions, CleanupReport, clean_up
from barman_cloud.catalog.deletion_mark import DeletionMark
from barman_cloud.catalog.heartbeat import Heartbeat, read_sign
from barman_cloud.catalog.leftovers import Age
from barman_cloud.cli import cleanup as command
from barman_cloud.errors import AccessDeniedError, ConnectivityError, OperationError
from barman_cloud.store.base import PendingUpload
from barman_cloud.store.local import LocalStore
from barman_cloud.store.open import open_store
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.ports import wait_for
from tests.support.schemas import require_valid
from tests.unit.catalog.builders import backup, fill, keys, memory_catalog, run, segment, where

NOW = datetime.now(UTC)
SOON = NOW + timedelta(minutes=5)
LATER = NOW + timedelta(days=8)
IDS = [f"2026010{day}T000000" for day in range(1, 10)]


def cleaned(catalog: Catalog, now: datetime = LATER, **options: object) -> CleanupReport:
    """Clean up, after a dry run has told the same and changed nothing."""
    wanted = CleanupOptions(**options)  # type: ignore[arg-type]
    before = {item.key: item.etag for item in catalog.store.list("")}
    told = clean_up(catalog, replace(wanted, dry_run=True), now)
    assert {item.key: item.etag for item in catalog.store.list("")} == before
    report = clean_up(catalog, wanted, now)
    same = {"would be removed": "removed"}
    assert [(o.leftover, same.get(o.result, o.result), o.problem) for o in told.outcomes] == [
        (o.leftover, o.result, o.problem) for o in report.outcomes
    ]
    assert told.freed == report.freed
    return report


def found(report: CleanupReport) -> dict[str, tuple[str, str]]:
    """Kind and result of everything, by its name."""
    return {outcome.leftover.name: (str(outcome.leftover.kind), outcome.result) for outcome in report.outcomes}


def sign(catalog: Catalog, backup_id: str, renewed: datetime | None) -> None:
    text = json.dumps({"host": "db1", "pid": 7, "renewed": renewed.isoformat() if renewed else None})
    catalog.store.put(catalog.layout.heartbeat(backup_id), text.encode())


def test_nothing_is_left_over() -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(2))], [segment(2), segment(3)])
    report = cleaned(catalog)
    assert report.outcomes == ()
    assert report.to_text() == "nothing is left over\nfreed 0 B (0 leftovers)\n"


def test_abandoned_backups_go_and_running_ones_stay() -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(2))])
    fill(catalog, [backup(backup_id, segment(5), "STARTED") for backup_id in IDS[1:4]])
    sign(catalog, IDS[1], LATER - timedelta(minutes=30))
    sign(catalog, IDS[2], NOW)
    report = cleaned(catalog)
    assert found(report) == {
        IDS[2]: ("abandoned-backup", "removed"),
        IDS[3]: ("abandoned-backup", "removed"),
    }
    reasons = {outcome.leftover.name: outcome.leftover.reason for outcome in report.outcomes}
    assert reasons[IDS[2]].startswith("process 7 on db1 gave its last sign of life 7 days, ")
    assert "gives no signs of life, and nothing of it has changed for 7 days" in reasons[IDS[3]]
    assert list(catalog.load().backups) == IDS[:2]
    assert not [key for key in keys(catalog) if IDS[2] in key or IDS[3] in key]
    sizes = {outcome.leftover.name: outcome.leftover.size for outcome in report.outcomes}
    assert report.freed == sum(size or 0 for size in sizes.values()) > 0


def test_a_backup_without_signs_counts_by_its_last_change() -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(5), "STARTED"), backup(IDS[1], segment(2))])
    sign(catalog, IDS[0], None)  # as credentials leave it that can't replace objects
    assert found(cleaned(catalog, SOON)) == {}
    assert found(cleaned(catalog, LATER, age=Age(timedelta(days=30)))) == {}
    soon = datetime.now(UTC) + timedelta(minutes=5)  # of the change, which may be long after this module was loaded
    assert found(cleaned(catalog, soon, age=Age(timedelta(minutes=1)))) == {IDS[0]: ("abandoned-backup", "removed")}


def test_a_backup_that_comes_to_life_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(5), "STARTED")])
    sign(catalog, IDS[0], NOW)
    find = leftovers.find_leftovers

    def then_a_sign(*arguments: object, **options: object) -> object:
        result = find(*arguments, **options)  # type: ignore[arg-type]
        sign(catalog, IDS[0], LATER)
        return result

    monkeypatch.setattr("barman_cloud.catalog.cleanup.find_leftovers", then_a_sign)
    report = clean_up(catalog, CleanupOptions(), LATER)
    assert [(o.result, o.problem) for o in report.outcomes] == [("stays", "it came to life meanwhile")]
    assert list(catalog.load().backups) == IDS[:1]


def test_deletions_are_finished_unless_the_backup_is_kept() -> None:
    catalog = fill(memory_catalog(), [backup(backup_id, segment(2)) for backup_id in IDS[:3]], [segment(2)])
    begun, announced = DeletionMark(catalog, IDS[0]), DeletionMark(catalog, IDS[1])
    begun.announce()
    begun.begin()
    announced.announce()
    catalog.store.put(catalog.layout.keep(IDS[1]), b"full")
    report = cleaned(catalog)
    assert found(report) == {
        IDS[0]: ("unfinished-deletion", "removed"),
        IDS[1]: ("unfinished-deletion", "stays"),
    }
    assert list(catalog.load().backups) == IDS[1:3]


def test_objects_without_a_backup() -> None:
    catalog = fill(memory_catalog(), [backup(backup_id, segment(2)) for backup_id in IDS[:3]])
    for backup_id in IDS[:2]:
        catalog.store.delete([catalog.layout.backup_info(backup_id)])
    catalog.store.put(catalog.layout.keep(IDS[1]), b"full")
    catalog.store.put(f"{catalog.layout.backup_dir(IDS[0])}note.txt", b"a stranger's")
    assert found(cleaned(catalog, SOON)) == {}
    assert found(cleaned(catalog)) == {
        IDS[0]: ("orphaned-objects", "removed"),
        IDS[1]: ("orphaned-objects", "stays"),
    }
    assert [key.rpartition("/")[2] for key in keys(catalog) if IDS[0] in key] == ["note.txt"]


def test_broken_backups_are_named_and_go_only_when_said() -> None:
    catalog = memory_catalog()
    chain = [
        backup(IDS[0], segment(2), children_backup_ids=[IDS[1]]),
        backup(IDS[1], segment(3), parent_backup_id=IDS[0]),
        backup(IDS[2], segment(4)),
        backup(IDS[3], segment(5)),
    ]
    fill(catalog, chain, [segment(number) for number in range(2, 7)])
    catalog.store.delete([f"{catalog.layout.backup_dir(IDS[0])}data.tar"])
    record = ArchiveRecord("data_0001.tar.zst", 1, 1, "zstd", 1)
    catalog.store.put(catalog.layout.archives_json(IDS[2]), archives_json.dump([record]).encode())
    catalog.store.put(catalog.layout.keep(IDS[2]), b"full")
    named = cleaned(catalog)
    assert found(named) == {IDS[0]: ("broken-backup", "stays"), IDS[2]: ("broken-backup", "stays")}
    lines = named.to_text().splitlines()
    assert f"without data.tar[.*]; what builds on it can't either: {IDS[1]}" in lines[0]
    assert "without data_0001.tar.zst; put these objects back" in lines[1]
    refused = clean_up(catalog, CleanupOptions(delete_broken=True, minimum_redundancy=3), LATER)
    assert found(refused)[IDS[0]] == ("broken-backup", "failed")
    assert refused.has_failed
    report = cleaned(catalog, delete_broken=True)
    assert found(report)[IDS[0]] == ("broken-backup", "removed")
    assert found(report)[IDS[2]] == ("broken-backup", "stays")  # it is kept
    assert list(catalog.load().backups) == IDS[2:4]


def test_wal_that_no_backup_needs() -> None:
    names = [segment(number) for number in range(8)]
    catalog = fill(
        memory_catalog(), [backup(IDS[1], segment(5)), backup(IDS[2], segment(6))], [*names, "00000002.history"]
    )
    fill(catalog, [backup(IDS[0], segment(1), end_wal=segment(2))], keeps={IDS[0]: "standalone"})
    report = cleaned(catalog)
    assert found(report) == {segment(5): ("orphaned-wal", "removed")}
    assert f"orphaned-wal before {segment(5)} (3 objects" in report.to_text(), "the named one stays"
    left = [key.rpartition("/")[2] for key in keys(catalog) if "/wals/" in key]
    assert left == [segment(1), segment(2), segment(5), segment(6), segment(7), "00000002.history"]
    assert (report.outcomes[0].leftover.objects, report.freed) == (3, 3)
    # Without a backup nobody knows what a first one will need; and one that runs needs its own.
    assert found(cleaned(fill(memory_catalog(), [], names))) == {}
    running = fill(memory_catalog(), [backup(IDS[1], segment(5)), backup(IDS[2], segment(2), "STARTED")], names)
    cleaned(running, SOON)
    assert sum("/wals/" in key for key in keys(running)) == 6


class WithUploads(MemoryStore):
    """Tells of these uploads."""

    uploads: list[PendingUpload]

    def list_uploads(self, prefix: str, *, sizes: bool = False) -> Iterator[PendingUpload]:
        return (upload for upload in list(self.uploads) if upload.key.startswith(prefix))

    def abort_upload(self, upload: PendingUpload) -> bool:
        self.uploads.remove(upload)
        return True


def with_uploads(catalog: Catalog, uploads: list[PendingUpload]) -> Catalog:
    store = WithUploads(catalog.store.url, catalog.store._bucket)  # type: ignore[attr-defined]
    store.uploads = uploads
    return Catalog(store, catalog.layout)


def test_uploads_that_nobody_finishes() -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(2))])
    fill(catalog, [backup(backup_id, segment(5), "STARTED") for backup_id in IDS[1:3]])
    sign(catalog, IDS[1], LATER)
    sign(catalog, IDS[2], NOW)
    layout = catalog.layout
    old, young = LATER - timedelta(days=2), LATER - timedelta(hours=2)
    names = {
        "old": PendingUpload(layout.archive(IDS[0], "data", 1), "1", old, 100),
        "young": PendingUpload(layout.wal(segment(9)), "2", young, 10),
        "of a running backup": PendingUpload(layout.archive(IDS[1], "data"), "3", old, 1),
        "of a dead backup": PendingUpload(layout.archive(IDS[2], "data"), "4", young, 1000),
        "of unknown age": PendingUpload(layout.wal(segment(8)), "5", None, None),
        "another server's": PendingUpload("del/another/base/x", "6", old, 5),
    }
    report = cleaned(with_uploads(catalog, list(names.values())))
    uploads = {outcome.leftover.name: outcome.result for outcome in report.outcomes if outcome.leftover.upload}
    assert uploads == {
        names["old"].key: "removed",
        names["of a dead backup"].key: "removed",
        names["of unknown age"].key: "stays",
    }
    assert report.freed >= 1100


def test_temporary_files_of_a_directory(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    assert isinstance(store, LocalStore)
    catalog = fill(Catalog(store, memory_catalog(path="").layout), [backup(IDS[0], segment(2))])
    folder = tmp_path / catalog.layout.backup_dir(IDS[0])
    (folder / ".barman-cloud-1-2").write_bytes(b"12345")
    (tmp_path / ".barman-cloud-3-4").write_bytes(b"not below the server")
    assert found(cleaned(catalog, SOON)) == {}
    report = cleaned(catalog)
    (outcome,) = report.outcomes
    assert (outcome.leftover.name, outcome.result, report.freed) == (
        f"{catalog.layout.backup_dir(IDS[0])}.barman-cloud-1-2", "removed", 5,
    )  # fmt: skip
    assert [path.name for path in tmp_path.rglob(".barman*")] == [".barman-cloud-3-4"]


def test_whatever_fails_is_told_and_the_rest_goes_on() -> None:
    inner = fill(memory_catalog(), [backup(backup_id, segment(5), "STARTED") for backup_id in IDS[:2]])
    store = FaultyStore(inner.store)
    store.fail("delete", key=f"*{IDS[0]}*", error=lambda: AccessDeniedError("no"), times=9)
    store.fail("list_uploads", error=lambda: AccessDeniedError("may not list uploads"))
    report = clean_up(Catalog(store, inner.layout), CleanupOptions(), LATER)
    assert found(report) == {IDS[0]: ("abandoned-backup", "failed"), IDS[1]: ("abandoned-backup", "removed")}
    assert report.has_failed
    store.failures.clear()
    store.fail("delete", error=lambda: ConnectivityError("gone"))
    with pytest.raises(ConnectivityError):
        clean_up(Catalog(store, inner.layout), CleanupOptions(), LATER)


def test_a_catalog_that_cannot_be_read_whole_is_left_alone() -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(5), "STARTED")])
    catalog.store.put(catalog.layout.backup_info(IDS[1]), b"no equals sign")
    before = keys(catalog)
    with pytest.raises(OperationError, match="needs the whole catalog"):
        clean_up(catalog, CleanupOptions(), LATER)
    assert keys(catalog) == before


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(memory_catalog(), [backup(IDS[0], segment(5), "STARTED"), backup(IDS[1], segment(2))])
    sign(catalog, IDS[0], NOW - timedelta(hours=2))
    head = catalog.store.head(catalog.layout.heartbeat(IDS[0]))
    assert head.last_modified  # the store's own clock says that it is fresh: it stays
    assert run(command, catalog, "--dry-run", "--format", "json", *where(catalog)) == 0
    document = json.loads(capsys.readouterr().out)
    require_valid(document, "cleanup")
    assert (document["command"], document["dry_run"], document["leftovers"]) == ("cleanup", True, [])
    catalog.store.delete([catalog.layout.heartbeat(IDS[0])])
    assert run(command, catalog, "--older-than", "1s", *where(catalog)) == 0


class TestHeartbeat:
    def test_it_is_renewed_and_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(heartbeat, "INTERVAL", 0.01)
        catalog = memory_catalog()
        beat = Heartbeat(catalog.store, catalog.layout, IDS[0], {"a": "b"}, first=0)
        beat.start()
        wait_for(lambda: read_sign(catalog.store, catalog.layout, IDS[0]), what="a sign of life")
        first = read_sign(catalog.store, catalog.layout, IDS[0])
        assert first
        assert first.is_alive(datetime.now(UTC))
        wait_for(lambda: read_sign(catalog.store, catalog.layout, IDS[0]) != first, what="another one")
        beat.stop()
        assert keys(catalog) == []

    def test_a_short_backup_gives_none(self) -> None:
        catalog = memory_catalog()
        beat = Heartbeat(catalog.store, catalog.layout, IDS[0])
        beat.stop()  # it never began
        beat = Heartbeat(catalog.store, catalog.layout, IDS[0])
        beat.start()
        beat.stop()
        assert catalog.store.requests.counts.get("put") is None

    def test_one_that_cannot_be_renewed_says_nothing(self) -> None:
        others = set(threading.enumerate())
        inner = memory_catalog()
        store = FaultyStore(inner.store)
        store.fail("put", skip=1, error=lambda: AccessDeniedError("may not replace"), times=99)
        store.fail("delete", error=lambda: AccessDeniedError("may not delete"), times=99)
        beat = Heartbeat(store, inner.layout, IDS[0], first=0)
        beat.start()
        wait_for(lambda: ("put", inner.layout.heartbeat(IDS[0])) in store.calls[1:], what="the second try")
        beat.stop()
        assert read_sign(inner.store, inner.layout, IDS[0]) is None
        assert keys(inner) == [inner.layout.heartbeat(IDS[0])]
        assert not [thread for thread in set(threading.enumerate()) - others if thread.name == "heartbeat"]
