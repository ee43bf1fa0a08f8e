"""Deletion: what the dry run prints, what really goes, in which order, and what stops it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from barman_cloud.catalog import backup_info, keep
from barman_cloud.catalog.catalog import Catalog
from barman_cloud.cli import backup_delete
from barman_cloud.errors import OperationError, SelectionError, UnexpectedError, UsageError
from barman_cloud.store.base import Capabilities, ObjectInfo
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import (
    GOLDEN,
    backup,
    catalog_a,
    fill,
    golden_output,
    keys,
    memory_catalog,
    run,
    segment,
    where,
)

DRY_RUNS = "dry-run/delete-dry-run.txt"


def catalog_k() -> Catalog:
    """The oldest kept standalone with WAL 3 to 4."""
    return fill(
        memory_catalog("k"),
        [
            backup("20260101T000000", segment(3), end_wal=segment(4)),
            backup("20260102T000000", segment(0x10)),
            backup("20260103T000000", segment(5, 1)),
            backup("20260104T000000", segment(2, 2)),
        ],
        [
            *(f"{segment(n)}.gz" for n in (1, 3, 4, 5, 0x10)),
            f"{segment(3)}.00000028.backup.gz",
            *(f"{segment(n, 1)}.gz" for n in (1, 5)),
            *(f"{segment(n, 2)}.gz" for n in (1, 2)),
        ],
        keeps={"20260101T000000": "standalone"},
    )


def catalog_st() -> Catalog:
    """A backup that is STARTED between two that are DONE."""
    return fill(
        memory_catalog("st"),
        [
            backup("20260101T000000", segment(3)),
            backup("20260102T000000", segment(0x10), "STARTED"),
            backup("20260103T000000", segment(0x20)),
        ],
        [f"{segment(n)}.gz" for n in (1, 3, 0x10, 0x11, 0x20)],
    )


def catalog_fc() -> Catalog:
    """FAILED, then DONE."""
    return fill(
        memory_catalog("fc"),
        [backup("20260101T000000", segment(6), "FAILED"), backup("20260102T000000", segment(8))],
        [f"{segment(n)}.gz" for n in (1, 6, 8)],
    )


def snapshot_catalog(server: str, path: str, source: str) -> Catalog:
    text = (GOLDEN / f"backup-info/{source}.info").read_text()
    return fill(memory_catalog(server, path), [backup_info.parse(text, "20261122T123131")])


def delete(catalog: Catalog, *arguments: str) -> int:
    return run(backup_delete, catalog, *arguments, *where(catalog))


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (catalog_a, ["-b", "oldest"], "-b oldest --dry-run s3://backups/del a"),
        (catalog_a, ["-r", "REDUNDANCY 1"], "-r REDUNDANCY 1 --dry-run s3://backups/del a"),
        (catalog_a, ["-b", "last"], "-b last --dry-run s3://backups/del a"),
        (catalog_a, ["-r", "RECOVERY WINDOW OF 0 DAYS"], "-r RECOVERY WINDOW OF 0 DAYS --dry-run s3://backups/del a"),
        (catalog_a, ["-r", "REDUNDANCY 1", "-m", "3"], "-r REDUNDANCY 1 -m 3 --dry-run s3://backups/del a"),
        (
            catalog_a,
            ["-r", "RECOVERY WINDOW OF 1 WEEK", "-m", "3"],
            "-r RECOVERY WINDOW OF 1 WEEK -m 3 --dry-run s3://backups/del a",
        ),
        (catalog_k, ["-b", "20260102T000000"], "-b 20260102T000000 --dry-run s3://backups/del k"),
        (catalog_k, ["-r", "REDUNDANCY 1"], "-r REDUNDANCY 1 --dry-run s3://backups/del k"),
        (catalog_st, ["-b", "20260102T000000"], "-b 20260102T000000 --dry-run s3://backups/del st"),
        (catalog_fc, ["-b", "first", "-m", "1"], "-b first -m 1 --dry-run s3://backups/del fc"),
        (
            lambda: snapshot_catalog("main", "snap", "snapshot-aws"),
            ["-b", "snap1"],
            "-b snap1 --dry-run s3://backups/snap main",
        ),
        (
            lambda: snapshot_catalog("gcp", "snp", "snapshot-gcp-constructed"),
            ["-b", "last"],
            "-b last --dry-run s3://backups/snp gcp",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_dry_run_prints_what_barman_prints(
    make: object, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = make()  # type: ignore[operator]
    before = keys(catalog)
    assert delete(catalog, *arguments, "--dry-run") == 0
    assert capsys.readouterr().out == golden_output(DRY_RUNS, words)
    assert keys(catalog) == before


def test_wal_of_a_running_backup_stays(capsys: pytest.CaptureFixture[str]) -> None:
    delete(catalog_st(), "-r", "REDUNDANCY 1", "--dry-run")
    wal = capsys.readouterr().out.splitlines()[1]
    assert f"{segment(3)}.gz" in wal
    assert f"{segment(0x10)}.gz" not in wal
    assert f"{segment(0x11)}.gz" not in wal


def test_dry_run_with_every_kind_of_archive_and_our_sidecars(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = fill(
        memory_catalog("mi"),
        [backup("20260101T000000", segment(3))],
        archives=[
            "data.tar.gz",
            "data_0001.tar.gz",
            "data_0002.tar.gz",
            "data.tar.zst",
            "backup_manifest",
            "archives.json",
            "16384_0001.tar",
            "163840.tar",
            "notes.txt",
        ],
    )
    delete(catalog, "-b", "first", "--dry-run")
    names = [
        *("data.tar.gz", "data.tar.zst", "data_0001.tar.gz", "data_0002.tar.gz", "16384_0001.tar"),
        *("archives.json", "backup_manifest", "backup.info"),
    ]
    objects = [f"del/mi/base/20260101T000000/{name}" for name in names]
    assert capsys.readouterr().out == f"Skipping deletion of objects {objects} due to --dry-run option\n"


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (catalog_a, ["-r", "REDUNDANCY 1"]),
        (catalog_a, ["-b", "oldest"]),
        (catalog_k, ["-r", "REDUNDANCY 1"]),
        (catalog_st, ["-r", "REDUNDANCY 1"]),
    ],
)
def test_what_goes_is_what_the_dry_run_said(
    make: object, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = make()  # type: ignore[operator]
    delete(catalog, *arguments, "--dry-run")
    printed = capsys.readouterr().out
    before = keys(catalog)
    delete(catalog, *arguments)
    gone = set(before) - set(keys(catalog))
    folders = [line.split(" prefix ")[1].split(" ")[0] for line in printed.splitlines() if " prefix " in line]
    assert gone == {key for key in before if f"'{key}'" in printed or key.startswith(tuple(folders))}
    assert gone
    assert capsys.readouterr().out == ""


def test_nothing_obsolete_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert delete(catalog_a(), "-r", "   recovery   window OF 9999 month ", "--dry-run") == 0
    assert delete(memory_catalog("nosuch"), "-r", "REDUNDANCY 1") == 0
    assert capsys.readouterr().out == ""


def test_a_whole_folder_goes_with_what_else_is_in_it_and_history_stays() -> None:
    catalog = catalog_a()
    folder = catalog.layout.wal_folder(segment(1))
    catalog.store.put(f"{folder}junk", b"")
    catalog.store.put(f"{folder}{segment(7)}.lz4", b"")
    catalog.store.put(f"{catalog.layout.wals_dir}00000001.history", b"")
    delete(catalog, "-r", "REDUNDANCY 1")
    left = [key.removeprefix(catalog.layout.wals_dir) for key in keys(catalog) if "/wals/" in key]
    assert left == [
        "00000001.history",
        f"0000000100000002/{segment(2, 2)}.gz",
        "00000002.history",
        f"0000000200000001/{segment(0, 1, 2)}",
    ]


def test_stores_without_prefix_deletes_lose_only_wal_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "capabilities", Capabilities(prefix_delete=False))
    catalog = catalog_a()
    junk = f"{catalog.layout.wal_folder(segment(1))}junk"
    catalog.store.put(junk, b"")
    delete(catalog, "-r", "REDUNDANCY 1")
    assert junk in keys(catalog)
    assert not any(f"{segment(3)}." in key for key in keys(catalog))


def test_backup_info_is_the_last_object_of_a_backup_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_a()
    catalog.store.put(catalog.layout.archives_json("20260101T000000"), b"{}")
    catalog.store.put(catalog.layout.manifest("20260101T000000"), b"{}")
    order: list[str] = []
    plain = MemoryStore.delete

    def delete_and_tell(self: MemoryStore, wanted: list[str], **options: int) -> None:
        wanted = list(wanted)
        order.extend(wanted)
        plain(self, wanted)

    monkeypatch.setattr(MemoryStore, "delete", delete_and_tell)
    delete(catalog, "-b", "oldest")
    names = [key.rpartition("/")[2] for key in order if "/base/" in key]
    assert names == ["data.tar", "16384.tar", "archives.json", "backup_manifest", "backup.info"]
    assert not any("/20260101T000000/" in key for key in keys(catalog))


def test_the_wal_archive_is_listed_once_however_many_backups_go(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = catalog_a()
    listed: list[str] = []
    plain = MemoryStore.list

    def list_and_tell(self: MemoryStore, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        listed.append(prefix)
        return plain(self, prefix, start_after=start_after)

    monkeypatch.setattr(MemoryStore, "list", list_and_tell)
    delete(catalog, "-r", "REDUNDANCY 1")
    assert listed.count(catalog.layout.wals_dir) == 1


def test_an_unknown_id_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert delete(catalog_a(), "-b", "20200101T000000") == 0
    assert "doesn't exist" in caplog.text


def test_unknown_names_and_bad_policies_have_their_codes() -> None:
    with pytest.raises(SelectionError) as unknown:
        delete(catalog_a(), "-b", "nosuch")
    assert unknown.value.exit_code == 4
    for policy in ("REDUNDANCY", "RECOVERY WINDOW OF -1 DAYS", "main", "REDUNDANCY 1 DAYS", ""):
        with pytest.raises(UsageError):
            delete(catalog_a(), "-r", policy)
    with pytest.raises(UnexpectedError) as huge:
        delete(catalog_a(), "-r", "RECOVERY WINDOW OF 99999999 DAYS")
    assert huge.value.exit_code == 4


@pytest.mark.parametrize("text", ["full", "standalone", "garbage\n", ""])
def test_a_kept_backup_is_refused(text: str) -> None:
    catalog = catalog_a()
    catalog.store.put(catalog.layout.keep("20260101T000000"), text.encode())
    with pytest.raises(OperationError, match="keep annotation"):
        delete(catalog, "-b", "20260101T000000")
    delete(catalog, "-r", "REDUNDANCY 1")
    assert catalog.layout.backup_info("20260101T000000") in keys(catalog)


def test_a_keep_annotation_that_barman_wrote_through_a_trailing_slash_counts() -> None:
    catalog = catalog_a()
    catalog.store.put("del//a/base/20260101T000000/annotations/keep", b"full")
    with pytest.raises(OperationError, match="keep annotation"):
        delete(catalog, "-b", "first")
    delete(catalog, "-r", "REDUNDANCY 1")
    assert catalog.layout.backup_info("20260101T000000") in keys(catalog)
    keep.release(catalog, "20260101T000000")
    delete(catalog, "-b", "first")


def test_minimum_redundancy_counts_done_backups_only(caplog: pytest.LogCaptureFixture) -> None:
    catalog = catalog_st()
    with pytest.raises(OperationError, match="minimum redundancy"):
        delete(catalog, "-b", "20260101T000000", "-m", "2", "--dry-run")
    delete(catalog, "-b", "20260102T000000", "-m", "2")
    assert "may still be running" in caplog.text
    failed = catalog_fc()
    delete(failed, "-b", "first", "-m", "1")
    with pytest.raises(OperationError, match="minimum redundancy"):
        delete(failed, "-b", "last", "-m", "1")


@pytest.mark.parametrize("which", [["-b", "20260104T000000"], ["-r", "REDUNDANCY 1"]])
def test_an_unreadable_backup_info_blocks_every_deletion(which: list[str]) -> None:
    catalog = catalog_a()
    catalog.store.put(catalog.layout.backup_info("20260102T000000"), b"no equals sign")
    before = keys(catalog)
    with pytest.raises(OperationError, match="20260102T000000") as caught:
        delete(catalog, *which)
    assert caught.value.exit_code == 1
    assert keys(catalog) == before


def test_a_failed_backup_without_wal_can_go() -> None:
    catalog = fill(memory_catalog("fa"), [backup("20260101T000000", status="FAILED")], [segment(1)])
    assert delete(catalog, "-b", "first") == 0
    assert keys(catalog) == [catalog.layout.wal(segment(1))]


def test_missing_archives_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(memory_catalog("a"), [backup("20260101T000000", segment(1))], archives=["data.tar"])
    delete(catalog, "-b", "first")
    assert "no archive '16384'" in caplog.text
    assert keys(catalog) == []


def test_objects_that_are_not_the_backups_stay_and_are_named(caplog: pytest.LogCaptureFixture) -> None:
    catalog = fill(
        memory_catalog("a"), [backup("20260101T000000", segment(1))], archives=["data.tar", "16384.tar", "notes.txt"]
    )
    with caplog.at_level(logging.INFO):
        delete(catalog, "-b", "first")
    assert [key.rpartition("/")[2] for key in keys(catalog)] == ["notes.txt"]
    assert "notes.txt is no part of the backup" in caplog.text


def test_a_parent_of_incremental_backups_is_refused_and_its_family_goes_together() -> None:
    catalog = fill(
        memory_catalog("inc"),
        [
            backup("20260101T000000", segment(3), children_backup_ids=["20260102T000000"]),
            backup("20260102T000000", segment(4), parent_backup_id="20260101T000000"),
            backup("20260103T000000", segment(5), parent_backup_id="20260102T000000"),
            backup("20260104T000000", segment(6)),
        ],
    )
    with pytest.raises(OperationError, match="20260102T000000"):
        delete(catalog, "-b", "first")
    delete(catalog, "-r", "REDUNDANCY 1")
    assert [key.split("/")[3] for key in keys(catalog) if key.endswith("backup.info")] == ["20260104T000000"]


def test_pieces_of_segments_that_nobody_needs_go_with_the_wal() -> None:
    catalog = catalog_fc()
    layout = catalog.layout
    for number in (1, 7, 8, 9):
        catalog.store.put(layout.piece(segment(number), 0, 100, 1), bytes(100))
    other = f"{layout.pieces_dir}notes"
    catalog.store.put(other, b"")
    assert delete(catalog, "-b", "first") == 0
    left = [item.key for item in catalog.store.list(layout.pieces_dir)]
    assert left == [layout.piece(segment(8), 0, 100, 1), layout.piece(segment(9), 0, 100, 1), other]
