"""check-wal-archive: what counts, and how the culprit is named."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

import pytest

from barman_cloud.catalog.catalog import Catalog
from barman_cloud.cli import check_wal_archive
from barman_cloud.errors import OperationError
from barman_cloud.store.base import ObjectInfo
from tests.support.memory_store import MemoryStore
from tests.unit.catalog.builders import fill, memory_catalog, run, segment, where

SYSTEM = 7710966728863891090


def header(timeline: int = 1) -> bytes:
    """The first bytes of a segment of PostgreSQL 18."""
    page = struct.pack("=HHIQI4xQII", 0xD118, 2, timeline, 0x01000000, 0, SYSTEM, 16 << 20, 8192)
    return page.ljust(8192, b"\0")


def check(catalog: Catalog, *arguments: str) -> int:
    return run(check_wal_archive, catalog, *arguments, *where(catalog))


def test_an_empty_archive_and_one_with_other_things_is_safe() -> None:
    catalog = memory_catalog()
    assert check(catalog) == 0
    catalog.store.put(f"{catalog.layout.wals_dir}0000000100000000/junk", b"")
    catalog.store.put(f"{catalog.layout.root}base/x/data.tar", b"")
    assert check(catalog) == 0


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_culprit_is_named_with_its_cluster(suffix: str) -> None:
    catalog = fill(memory_catalog(), [], ["00000001.history"])
    content = gzip.compress(header()) if suffix else header()
    catalog.store.put(catalog.layout.wal(segment(1), suffix), content)
    with pytest.raises(OperationError) as caught:
        check(catalog)
    assert caught.value.exit_code == 1
    assert f"it holds {segment(1)} of timeline 1" in str(caught.value)
    assert f"system identifier {SYSTEM}" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["00000003.history", f"{segment(1, timeline=3)}.partial", segment(1, timeline=3)])
def test_a_culprit_that_does_not_tell_its_cluster(name: str) -> None:
    with pytest.raises(OperationError, match=f"{name} of timeline 3") as caught:
        check(fill(memory_catalog(), [], [name]))
    assert "system identifier" not in str(caught.value)


@pytest.mark.parametrize("arguments", [(), ("--timeline", "2")])
def test_one_listing_that_says_there_is_nothing_is_not_believed(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cache that gives the answer of another day."""
    catalog = fill(memory_catalog(), [], [segment(1, timeline=2)])
    asked: list[str | None] = []
    list_all = MemoryStore.list

    def first_empty(self: MemoryStore, prefix: str, *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        asked.append(start_after)
        return iter(()) if len(asked) == 1 else list_all(self, prefix, start_after=start_after)

    monkeypatch.setattr(MemoryStore, "list", first_empty)
    with pytest.raises(OperationError, match=f"{segment(1, timeline=2)} of timeline 2"):
        check(catalog, *arguments)
    assert len(asked) == len(set(asked)) == 2, "the same question may get the same answer"


def test_earlier_timelines_may_be_there() -> None:
    names = [segment(1), f"{segment(1)}.gz", segment(1, timeline=2), "00000002.history", "0000000B.history"]
    catalog = fill(memory_catalog(), [], names)
    assert check(catalog, "--timeline", "12") == 0
    with pytest.raises(OperationError, match=r"holds 1 file of timeline 10 or later, such as 0000000B\.history"):
        check(catalog, "--timeline", "10")
    with pytest.raises(OperationError, match="holds 3 files of timeline 2"):
        check(catalog, "--timeline", "2")
    with pytest.raises(OperationError, match="holds 4 files of timeline 1"):
        check(catalog, "--timeline", "1")


def test_lower_case_names_count_as_well() -> None:
    with pytest.raises(OperationError, match=r"0000000b\.history"):
        check(fill(memory_catalog(), [], ["0000000b.history"]), "--timeline", "11")


def test_a_missing_bucket_is_created_but_not_by_a_test() -> None:
    catalog = memory_catalog()
    assert isinstance(catalog.store, MemoryStore)
    catalog.store.drop_bucket()
    assert check(catalog, "-t") == 0
    assert not catalog.store._bucket.exists
    assert check(catalog) == 0
    assert catalog.store._bucket.exists
