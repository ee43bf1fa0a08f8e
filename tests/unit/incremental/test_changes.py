"""What is stored of a file: the rules, and a model of relations that grow, shrink and change."""

from __future__ import annotations

import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.archive.manifest import ManifestFile
from barman_cloud.incremental.changes import (
    ForkChanges,
    SummaryRow,
    from_summaries,
    header_for,
    incremental_path,
    restored_path,
)
from barman_cloud.incremental.file_format import BLOCK, SEGMENT_BLOCKS, Header
from barman_cloud.incremental.increment import PageLsnScan
from barman_cloud.incremental.page_lsn import changed_blocks
from barman_cloud.incremental.parent_files import ParentFiles, read_parent_files
from barman_cloud.incremental.relations import RelationFile, RelationFork, parse

PATH = "base/5/16384"
FORK = RelationFork(1663, 5, 16384, 0)


def changed(*blocks: int, limit: int | None = None) -> dict[RelationFork, ForkChanges]:
    return {FORK: ForkChanges(limit, array("I", blocks))}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("base/5/16384", RelationFile(FORK, 0)),
        ("base/5/16384.12", RelationFile(FORK, 12)),
        ("base/5/16384_vm.1", RelationFile(RelationFork(1663, 5, 16384, 2), 1)),
        ("global/1262_fsm", RelationFile(RelationFork(1664, 0, 1262, 1), 0)),
        ("pg_tblspc/16400/PG_17_202406281/5/16384_init", RelationFile(RelationFork(16400, 5, 16384, 3), 0)),
        ("base/5/t3_16384", None),
        ("base/5/PG_VERSION", None),
        ("base/5/pg_filenode.map", None),
        ("global/pg_control", None),
        ("pg_xact/0000", None),
        ("base/pgsql_tmp/16384", None),
        ("base/5/016384", None),
        ("base/5/16384.0", None),
        ("base/5/INCREMENTAL.16384", None),
        ("16384", None),
    ],
)
def test_relation_files_are_told_by_their_path(path: str, expected: RelationFile | None) -> None:
    assert parse(path) == expected


def test_paths_of_incremental_files() -> None:
    assert incremental_path("base/5/16384.1") == "base/5/INCREMENTAL.16384.1"
    assert restored_path("base/5/INCREMENTAL.16384.1") == "base/5/16384.1"
    assert restored_path("base/5/16384") is None


def test_a_file_that_did_not_change_has_no_blocks() -> None:
    header = header_for(PATH, 10 * BLOCK, {}, {PATH})
    assert header is not None
    assert (list(header.blocks), header.truncation) == ([], 10)


def test_changed_blocks_are_counted_in_the_file() -> None:
    first = SEGMENT_BLOCKS
    header = header_for(f"{PATH}.1", 10 * BLOCK, changed(3, first + 4, first + 20), {f"{PATH}.1"})
    assert header is not None
    assert (list(header.blocks), header.truncation) == ([4], 10)


@pytest.mark.parametrize(
    ("path", "size", "changes", "parent"),
    [
        ("base/5/PG_VERSION", 3, {}, {"base/5/PG_VERSION"}),
        (PATH, 10 * BLOCK, {}, set()),
        (f"{PATH}_fsm", 10 * BLOCK, {}, {f"{PATH}_fsm"}),
        (f"{PATH}_vm", 10 * BLOCK, {}, {f"{PATH}_vm"}),
        (f"{PATH}_init", 10 * BLOCK, {}, {f"{PATH}_init"}),
        (PATH, 0, {}, {PATH}),
        (PATH, 10 * BLOCK + 1, {}, {PATH}),
        (PATH, 10 * BLOCK, changed(*range(10)), {PATH}),
        (PATH, 10 * BLOCK, changed(limit=0), {PATH}),
        (f"{PATH}.1", 10 * BLOCK, changed(limit=SEGMENT_BLOCKS), {f"{PATH}.1"}),
    ],
    ids=[
        "no relation",
        "new",
        "free space map",
        "visibility map",
        "init fork",
        "empty",
        "odd size",
        "nearly all",
        "cut",
        "segment cut",
    ],
)
def test_what_is_stored_whole(path: str, size: int, changes: dict[RelationFork, ForkChanges], parent: set[str]) -> None:
    assert header_for(path, size, changes, parent) is None


def test_the_parent_may_have_an_incremental_file_of_it() -> None:
    assert header_for(PATH, BLOCK * 10, {}, {"base/5/INCREMENTAL.16384"}) is not None


def test_summaries_are_joined() -> None:
    rows = [SummaryRow(16384, 1663, 5, 0, block, False) for block in (9, 3, 9)]
    rows += [SummaryRow(16384, 1663, 5, 0, limit, True) for limit in (40, 20)]
    assert from_summaries(rows) == changed(3, 9, limit=20)


@given(st.data())
def test_parent_and_increment_make_the_file(data: st.DataObject) -> None:
    """A relation is written to, cut and extended, some of it without WAL; overlaying the increment gives it back."""
    before = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=20))
    now = list(before)
    summary: set[int] = set()
    limit: int | None = None
    for version, (kind, number) in enumerate(
        data.draw(st.lists(st.tuples(st.sampled_from("wcez"), st.integers(0, 19)), max_size=12)), 100
    ):
        if kind == "w" and number < len(now):
            now[number] = version
            summary.add(number)
        elif kind == "c" and 0 < number < len(now):
            del now[number:]
            limit = number if limit is None else min(limit, number)
            summary = {block for block in summary if block < number}
        elif kind == "e":
            now.append(version)
            summary.add(len(now) - 1)
        elif kind == "z" and limit is not None and len(now) >= limit:
            now.append(0)  # extended in bulk: no WAL tells of it
    header = header_for(PATH, len(now) * BLOCK, changed(*sorted(summary), limit=limit), {PATH})
    if header is None:
        return
    restored = [before[index] if index < len(before) else 0 for index in range(header.truncation)]
    restored += [0] * (header.length - len(restored))
    for block in header.blocks:
        restored[block] = now[block]
    assert restored == now


def page(lsn: int) -> bytes:
    return struct.pack("=II", lsn >> 32, lsn & 0xFFFFFFFF) + bytes(BLOCK - 8)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 2**64 - 1))
def test_pages_are_told_by_their_lsn(lsns: list[int], since: int) -> None:
    expected = [number for number, lsn in enumerate(lsns, 7) if lsn >= since or lsn == 0]
    assert list(changed_blocks(b"".join(map(page, lsns)), since, 7)) == expected


def test_a_database_that_was_created_meanwhile_is_stored_whole() -> None:
    created = {RelationFork(1663, 5, 0, 0): ForkChanges(0, array("I"))}
    assert header_for(PATH, 10 * BLOCK, created, {PATH}) is None
    assert header_for("base/6/16384", 10 * BLOCK, created, {"base/6/16384"}) is not None


@given(st.lists(st.tuples(st.sampled_from([16384, 16385]), st.integers(0, 300), st.booleans()), max_size=60))
def test_summaries_join_to_sets(rows: list[tuple[int, int, bool]]) -> None:
    found = from_summaries(SummaryRow(relation, 1663, 5, 0, block, limit) for relation, block, limit in rows)
    for relation in (16384, 16385):
        blocks = {block for other, block, limit in rows if other == relation and not limit}
        limits = [block for other, block, limit in rows if other == relation and limit]
        change = found.get(FORK._replace(relation=relation), ForkChanges(None, array("I")))
        assert (list(change.blocks), change.limit) == (sorted(blocks), min(limits, default=None))


def scanned(content: list[bytes], parent: ParentFiles, path: str = PATH, new: tuple[str, ...] = ()) -> Header | None:
    pairs = [b"".join(content[at : at + 2]) for at in range(0, len(content), 2)]
    return PageLsnScan(100, parent, new).header(path, len(content) * BLOCK, lambda: iter(pairs))


OLD, NEW = page(99), page(100)


def test_the_scan_stores_pages_of_the_lsn_or_later() -> None:
    parent = ParentFiles({PATH: 5 * BLOCK, f"{PATH}_vm": 5 * BLOCK, f"{PATH}.1": None})
    header = scanned([OLD, NEW, OLD, page(0), OLD], parent)
    assert header is not None
    assert (list(header.blocks), header.truncation) == ([1, 3], 5)
    header = scanned([OLD, OLD, NEW], parent, f"{PATH}.1")
    assert header is not None
    assert (list(header.blocks), header.truncation) == ([2], 3)


@pytest.mark.parametrize("pages", [4, 6])
def test_the_scan_never_asks_the_parent_for_more_than_it_has(pages: int) -> None:
    header = scanned([OLD] * pages, ParentFiles({PATH: 5 * BLOCK}))
    assert header is not None
    assert (list(header.blocks), header.truncation) == ([5] if pages == 6 else [], pages)


def test_what_the_scan_stores_whole() -> None:
    parent = ParentFiles({PATH: 2 * BLOCK, f"{PATH}_vm": 2 * BLOCK})
    assert scanned([NEW, NEW], parent) is None
    assert scanned([OLD, OLD], parent, f"{PATH}_vm") is None
    assert scanned([OLD, OLD], parent, "base/5/16999") is None
    assert scanned([OLD, OLD], parent, new=("base/5",)) is None


def test_of_a_manifest_the_files_of_relations_are_kept() -> None:
    names = ["base/5/1", "base/5/INCREMENTAL.2", "base/5/3_fsm", "base/5/3_vm", "base/5/PG_VERSION", "PG_VERSION", "x"]
    found = read_parent_files(ManifestFile(name, 8192, f"time of {name}", None, None) for name in names)
    assert found.sizes == {"base/5/1": 8192, "base/5/2": None}
    assert found.versions == {"base/5/PG_VERSION": "time of base/5/PG_VERSION"}
