from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest

from barman_cloud.archive.compression import SUFFIX, compress_bytes, compress_stream
from barman_cloud.archive.libraries import zstd_module
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli.command import parse
from barman_cloud.cli.wal_restore import COMMAND, run
from barman_cloud.errors import IntegrityError, NotFoundError, UsageError
from barman_cloud.store.open import open_store
from barman_cloud.wal import background_client, stored
from barman_cloud.wal.restorer import Restorer, wal_name
from tests.support.memory_store import MemoryStore
from tests.support.segments import SIZE, SYSTEM, Cluster, segment, segment_name
from tests.support.spools import opened

COMPRESSIONS = (None, *SUFFIX)
NAME = segment_name(3)
HISTORY = b"1\t0/3000000\tno recovery target specified\n"


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "RECOVERYXLOG"


@pytest.fixture
def restorer(store: MemoryStore, layout: Layout) -> Restorer:
    return Restorer(store, layout)


@pytest.fixture
def remembering(store: MemoryStore, layout: Layout, spool_dir: Path) -> Restorer:
    return Restorer(store, layout, memory=opened(spool_dir))


def _put(
    store: MemoryStore, layout: Layout, name: str, compression: str | None = None, data: bytes | None = None
) -> bytes:
    content = segment(int(name[8:16], 16) * 4096 + int(name[16:24], 16)) if data is None else data
    store.put(layout.wal(name, SUFFIX.get(compression or "", "")), compress_bytes(content, compression))
    store.requests.counts.clear()
    return content


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_segment_is_found_whatever_it_is_compressed_with(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, compression: str | None
) -> None:
    content = _put(store, layout, NAME, compression)
    restorer.restore(wal_name(NAME), str(destination))
    assert destination.read_bytes() == content
    assert store.requests.counts == {"list": 1, "get": 1}


def test_a_history_file_costs_one_listing_and_one_get(
    store: MemoryStore, layout: Layout, remembering: Restorer, destination: Path
) -> None:
    _put(store, layout, "00000002.history", "gzip", HISTORY)
    remembering.restore(wal_name("00000002.history"), str(destination))
    assert destination.read_bytes() == HISTORY
    assert store.requests.counts == {"list": 1, "get": 1}


@pytest.mark.parametrize("name", [NAME, "00000002.history", f"{NAME}.partial"])
def test_a_miss_costs_a_listing_and_one_of_pieces_and_leaves_nothing(
    store: MemoryStore, layout: Layout, remembering: Restorer, destination: Path, name: str
) -> None:
    _put(store, layout, segment_name(2))
    listings = 2 if name == NAME else 1
    for count in (1, 2):
        with pytest.raises(NotFoundError, match=name) as caught:
            remembering.restore(wal_name(name), str(destination))
        assert caught.value.exit_code == 1
        assert store.requests.counts == {"list": count * listings}
    assert not destination.exists()


def test_with_a_memory_a_hit_costs_one_request(
    store: MemoryStore, layout: Layout, remembering: Restorer, destination: Path
) -> None:
    for number in range(2, 9):
        _put(store, layout, segment_name(number), "lz4")
    for number in range(2, 9):
        remembering.restore(wal_name(segment_name(number)), str(destination))
        assert destination.read_bytes() == segment(number)
    assert store.requests.counts == {"list": 1, "get": 7}


def test_each_folder_is_listed_once(
    store: MemoryStore, layout: Layout, remembering: Restorer, destination: Path
) -> None:
    numbers = range(4094, 4099)  # of 1 MiB each: 4096 to a folder
    for number in numbers:
        _put(store, layout, segment_name(number))
    for number in numbers:
        remembering.restore(wal_name(segment_name(number)), str(destination))
    assert store.requests.counts == {"list": 2, "get": 5}


def test_a_memory_that_is_wrong_costs_a_request_and_nothing_else(
    store: MemoryStore, layout: Layout, remembering: Restorer, destination: Path
) -> None:
    for number in (2, 3, 4):
        _put(store, layout, segment_name(number), "gzip")
    remembering.restore(wal_name(segment_name(2)), str(destination))
    store.delete([layout.wal(segment_name(3), ".gz"), layout.wal(segment_name(4), ".gz")])
    content = _put(store, layout, segment_name(3), "zstd")
    remembering.restore(wal_name(segment_name(3)), str(destination))
    assert destination.read_bytes() == content
    with pytest.raises(NotFoundError):
        remembering.restore(wal_name(segment_name(4)), str(destination))


def test_a_memory_that_cannot_be_kept_is_no_error(
    store: MemoryStore, layout: Layout, destination: Path, tmp_path: Path
) -> None:
    _put(store, layout, NAME)
    (tmp_path / "gone").mkdir()
    memory = opened(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    Restorer(store, layout, memory=memory).restore(wal_name(NAME), str(destination))


class TestPartialSegments:
    @pytest.mark.parametrize("remember", [False, True])
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_the_full_segment_wins(
        self,
        store: MemoryStore,
        layout: Layout,
        restorer: Restorer,
        remembering: Restorer,
        destination: Path,
        compression: str | None,
        remember: bool,
    ) -> None:
        _put(store, layout, f"{NAME}.partial", data=segment(3, content=1))
        content = _put(store, layout, NAME, compression)
        (remembering if remember else restorer).restore(wal_name(NAME), str(destination))
        assert destination.read_bytes() == content

    def test_a_partial_one_is_delivered_if_it_is_all_there_is(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, remembering: Restorer, destination: Path
    ) -> None:
        content = _put(store, layout, f"{NAME}.partial", "zstd")
        for some in (restorer, remembering, remembering):
            some.restore(wal_name(NAME), str(destination))
            assert destination.read_bytes() == content

    def test_unless_that_is_refused(self, store: MemoryStore, layout: Layout, destination: Path) -> None:
        _put(store, layout, f"{NAME}.partial")
        with pytest.raises(NotFoundError):
            Restorer(store, layout, partial=False).restore(wal_name(NAME), str(destination))

    def test_it_can_be_asked_for_by_name(
        self, store: MemoryStore, layout: Layout, destination: Path, remembering: Restorer
    ) -> None:
        content = _put(store, layout, f"{NAME}.partial", "lz4")
        _put(store, layout, NAME)
        Restorer(store, layout, partial=False).restore(wal_name(f"{NAME}.partial"), str(destination))
        assert destination.read_bytes() == content

    def test_a_backup_history_file_of_the_segment_is_not_the_segment(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path
    ) -> None:
        _put(store, layout, f"{NAME}.00000028.backup", data=b"START WAL LOCATION")
        for name in (NAME, f"{NAME}.00000028.backup"):
            with pytest.raises(NotFoundError):
                restorer.restore(wal_name(name), str(destination))


class TestDamage:
    @pytest.mark.parametrize("stored", [b"", b"no wal", segment(4), segment(3)[:-1], segment(3) + b"\0"])
    def test_what_is_not_the_segment_is_not_delivered(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, stored: bytes
    ) -> None:
        destination.write_bytes(b"before")
        _put(store, layout, NAME, "gzip", stored)
        with pytest.raises(IntegrityError, match=f"memory://bucket/prod/main/wals/.*{NAME}.gz") as caught:
            restorer.restore(wal_name(NAME), str(destination))
        assert caught.value.exit_code == 4
        assert destination.read_bytes() == b"before"

    @pytest.mark.parametrize("compression", list(SUFFIX))
    def test_a_cut_off_object_is_not_delivered(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, compression: str
    ) -> None:
        whole = compress_bytes(segment(3), compression)
        store.put(layout.wal(NAME, SUFFIX[compression]), whole[: len(whole) // 2])
        with pytest.raises(IntegrityError):
            restorer.restore(wal_name(NAME), str(destination))
        assert not destination.exists()

    def test_another_copy_is_tried(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path
    ) -> None:
        _put(store, layout, NAME, "gzip", b"damaged")
        content = _put(store, layout, NAME, "zstd")
        restorer.restore(wal_name(NAME), str(destination))
        assert destination.read_bytes() == content

    def test_a_segment_of_another_cluster_is_refused(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, cluster: Cluster
    ) -> None:
        _put(store, layout, NAME, data=segment(3, system=SYSTEM + 1))
        with pytest.raises(IntegrityError, match=str(SYSTEM + 1)):
            restorer.restore(wal_name(NAME), str(cluster.wal / "RECOVERYXLOG"))
        assert os.listdir(cluster.wal) == ["archive_status"]


def test_lower_case_names_are_found_as_they_were_stored(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path
) -> None:
    name = "00000001000000000000000a"
    content = _put(store, layout, name)
    restorer.restore(wal_name(name), str(destination))
    assert destination.read_bytes() == content


@pytest.mark.parametrize("name", ["", "foo", "RECOVERYXLOG", NAME[:-1], f"{NAME}.gz", f"../{NAME}"])
def test_other_names_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError):
        wal_name(name)


def test_a_background_process_that_cannot_be_started_costs_only_the_parallelism(
    tmp_path: Path, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(background_client, "start", refuse)
    (tmp_path / "store").mkdir()
    url = f"file://{tmp_path}/store"
    with open_store(url) as store:
        store.put(Layout("", "main").wal(segment_name(3)), segment(3))
    command = ["--parallel", "4", "--spool-dir", str(spool_dir), url, "main"]
    run(parse(COMMAND, [*command, segment_name(3), str(tmp_path / "x")]))
    assert "no process can be started" in caplog.text
    assert (tmp_path / "x").read_bytes() == segment(3)


class TestDamageToUncompressedWal:
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_a_damaged_page_is_never_delivered(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, compression: str | None
    ) -> None:
        for offset in (1, 8192 + 3, 20 * 8192 + 13, SIZE - 8192):
            data = bytearray(segment(3))
            data[offset] ^= 0x10
            _put(store, layout, NAME, compression, bytes(data))
            with pytest.raises(IntegrityError, match=f"{NAME}"):
                restorer.restore(wal_name(NAME), str(destination))
            assert not destination.exists()

    def test_those_who_want_it_all_the_same_get_it(self, store: MemoryStore, layout: Layout, destination: Path) -> None:
        content = _put(store, layout, NAME, data=segment(3)[:8192].ljust(SIZE, b"x"))
        Restorer(store, layout, check_pages=False).restore(wal_name(NAME), str(destination))
        assert destination.read_bytes() == content

    @pytest.mark.parametrize(
        ("packed", "checked"),
        [
            (lambda data: data, True),
            (lambda data: lz4.frame.compress(data, content_checksum=False, block_checksum=False), True),
            (lambda data: lz4.frame.compress(data, content_checksum=True), False),
            (lambda data: zstd_module().compress(data), True),
            (lambda data: compress_bytes(data, "zstd"), False),
            (lambda data: compress_bytes(data, "lz4"), False),
            (lambda data: compress_bytes(data, "gzip"), False),
        ],
    )
    def test_records_are_checked_where_the_stored_form_has_no_checksum(
        self, store: MemoryStore, layout: Layout, restorer: Restorer, packed: Callable[[bytes], bytes], checked: bool
    ) -> None:
        data = bytearray(segment(3))
        data[100_000] ^= 1
        content = packed(bytes(data))
        suffix = {b"\x04\x22\x4d\x18": ".lz4", b"\x28\xb5\x2f\xfd": ".zst", b"\x1f\x8b": ".gz"}
        key = layout.wal(NAME, next((end for start, end in suffix.items() if content.startswith(start)), ""))
        store.put(key, content)
        _, quick = restorer.fetch(wal_name(NAME), key)
        assert b"".join(quick) == data
        _, thorough = restorer.fetch(wal_name(NAME), key, thorough=True)
        if checked:
            with pytest.raises(IntegrityError, match="a record that fails its checksum"):
                list(thorough)
        else:
            assert b"".join(thorough) == data


@pytest.mark.parametrize("content", [b"", HISTORY[:-1], b"1\t0/30", b"<html><body>Sign in</body></html>"])
def test_a_history_file_that_is_none_is_not_delivered(
    store: MemoryStore, layout: Layout, restorer: Restorer, destination: Path, content: bytes
) -> None:
    _put(store, layout, "00000002.history", data=content)
    with pytest.raises(IntegrityError, match=r"memory://bucket/prod/main/wals/00000002\.history: ") as caught:
        restorer.restore(wal_name("00000002.history"), str(destination))
    assert caught.value.exit_code == 4
    assert not destination.exists()


class TestLargeObjects:
    def test_they_are_read_in_ranges(
        self,
        store: MemoryStore,
        layout: Layout,
        remembering: Restorer,
        destination: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(stored, "AT_ONCE", 100_000)
        monkeypatch.setattr(stored, "RANGE_SIZE", 300_000)
        for number, compression in ((3, None), (4, "gzip")):
            content = _put(store, layout, segment_name(number), compression)
            remembering.restore(wal_name(segment_name(number)), str(destination))
            assert destination.read_bytes() == content
        assert store.requests.counts["get"] == 1 + 2  # half of it is left by gzip; the first one is refused

    @pytest.mark.parametrize("name", [NAME, "00000002.history"])
    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_what_has_no_end_costs_no_more_than_a_segment(
        self,
        store: MemoryStore,
        layout: Layout,
        restorer: Restorer,
        destination: Path,
        name: str,
        compression: str | None,
    ) -> None:
        pieces = (segment(3) if number == 0 else bytes(SIZE) for number in range(60))
        endless = b"".join(compress_stream(pieces, compression))
        store.put(layout.wal(name, SUFFIX.get(compression or "", "")), endless)
        written = 0
        write = os.write

        def counting(file: int, data: memoryview) -> int:
            nonlocal written
            written += len(data)
            return write(file, data)

        tracemalloc.start()
        try:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(IntegrityError):
                patch.setattr(os, "write", counting)
                restorer.restore(wal_name(name), str(destination))
            assert tracemalloc.get_traced_memory()[1] < 24 << 20
        finally:
            tracemalloc.stop()
        assert written <= SIZE
        assert os.listdir(destination.parent) == []
