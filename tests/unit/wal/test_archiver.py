from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from barman_cloud.archive.compression import SUFFIX, compress_bytes, compress_stream, decompress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.errors import AccessDeniedError, ConflictError, IntegrityError, UsageError
from barman_cloud.store.base import Buffer, ObjectInfo, StoreURL, Tags
from barman_cloud.wal import archive_spool, stored
from barman_cloud.wal import archiver as archiver_module
from barman_cloud.wal.archiver import ArchiveOptions, Archiver, ready_files
from barman_cloud.wal.wal_file import WalFile
from tests.support.memory_store import MemoryStore
from tests.support.segments import SIZE, SYSTEM, Cluster, segment, segment_name
from tests.support.spools import opened

URL = StoreURL("memory", "bucket", "prod", "memory://bucket/prod")
COMPRESSIONS = (None, *SUFFIX)
HISTORY = b"1\t0/3000000\tno recovery target specified\n"
LABEL = b"START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nSTOP WAL LOCATION: 0/3000158\n"


@pytest.fixture
def archiver(store: MemoryStore, layout: Layout) -> Archiver:
    return Archiver(store, layout, ArchiveOptions())


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_segment_is_stored_compressed_in_one_request(
    store: MemoryStore, layout: Layout, cluster: Cluster, compression: str | None
) -> None:
    path = cluster.add(3)
    Archiver(store, layout, ArchiveOptions(compression=compression)).archive(str(path))
    key = layout.wal(path.name, SUFFIX.get(compression or "", ""))
    assert decompress_bytes(store.get(key), compression) == path.read_bytes()
    assert store.requests.counts == {"put": 1, "get": 1}  # the get is ours


@pytest.mark.parametrize(
    "name", ["00000002.history", "000000010000000000000003.partial", "000000010000000000000003.00000028.backup"]
)
def test_other_kinds_of_wal_files_are_stored_under_their_names(
    store: MemoryStore, layout: Layout, cluster: Cluster, archiver: Archiver, name: str
) -> None:
    contents = {"partial": segment(3), "backup": LABEL, "history": HISTORY}
    path = cluster.add_file(name, contents[name.rpartition(".")[2]])
    archiver.archive(str(path))
    assert store.get(layout.wal(name)) == path.read_bytes()


def test_the_same_content_again_is_success(store: MemoryStore, cluster: Cluster, archiver: Archiver) -> None:
    path = cluster.add(3)
    archiver.archive(str(path))
    archiver.archive(str(path))


def test_equal_content_is_recognised_whatever_it_was_compressed_with(
    store: MemoryStore, layout: Layout, cluster: Cluster
) -> None:
    path = cluster.add(3)
    store.put(layout.wal(path.name, ".gz"), compress_bytes(path.read_bytes(), "gzip", 9))
    Archiver(store, layout, ArchiveOptions(compression="gzip", level="low")).archive(str(path))


def test_other_content_is_refused_and_both_are_named(
    store: MemoryStore, layout: Layout, cluster: Cluster, archiver: Archiver
) -> None:
    path = cluster.add(3)
    archiver.archive(str(path))
    other = cluster.add(3, content=1)
    with pytest.raises(ConflictError, match=f"{other}.*memory://bucket/prod/main/wals/.*{path.name}") as caught:
        archiver.archive(str(other))
    assert caught.value.exit_code == 1
    assert store.get(layout.wal(path.name)) != other.read_bytes()


def test_an_unreadable_object_of_the_same_name_is_other_content(
    store: MemoryStore, layout: Layout, cluster: Cluster
) -> None:
    path = cluster.add(3)
    store.put(layout.wal(path.name, ".gz"), b"not gzip at all")
    with pytest.raises(ConflictError, match="can't be read"):
        Archiver(store, layout, ArchiveOptions(compression="gzip")).archive(str(path))


def test_overwrite_replaces_other_content(store: MemoryStore, layout: Layout, cluster: Cluster) -> None:
    path = cluster.add(3)
    store.put(layout.wal(path.name), b"something else")
    Archiver(store, layout, ArchiveOptions(overwrite=True)).archive(str(path))
    assert store.get(layout.wal(path.name)) == path.read_bytes()


@pytest.mark.parametrize("name", [segment_name(0), "00000002.history"])
def test_a_copy_with_another_compression_and_content_is_noticed_where_it_is_looked_for(
    store: MemoryStore, layout: Layout, cluster: Cluster, archiver: Archiver, name: str
) -> None:
    store.put(layout.wal(name, ".lz4"), compress_bytes(b"of another cluster", "lz4"))
    path = cluster.add_file(name, segment(0) if len(name) == 24 else HISTORY)
    with pytest.raises(ConflictError, match=r"\.lz4"):
        archiver.archive(str(path))


def test_a_copy_with_another_compression_and_the_same_content_is_fine(
    store: MemoryStore, layout: Layout, cluster: Cluster, archiver: Archiver
) -> None:
    path = cluster.add(0)
    store.put(layout.wal(path.name, ".zst"), compress_bytes(path.read_bytes(), "zstd"))
    archiver.archive(str(path))


def test_credentials_that_may_only_write_are_enough(layout: Layout, cluster: Cluster) -> None:
    class WriteOnly(MemoryStore):
        def list(self, prefix: str, *, start_after: str | None = None) -> object:  # type: ignore[override]
            raise AccessDeniedError("no listing")

    store = WriteOnly(URL)
    path = cluster.add(0)
    Archiver(store, layout, ArchiveOptions()).archive(str(path))
    assert store.get(layout.wal(path.name)) == path.read_bytes()


def test_history_tags_replace_the_other_tags_on_history_files(layout: Layout, cluster: Cluster) -> None:
    class Recorder(MemoryStore):
        seen: dict[str, Tags | None]

        def put(self, key: str, data: Buffer, *, tags: Tags | None = None, **how: Any) -> None:
            self.seen[key.rpartition("/")[2]] = tags
            super().put(key, data, tags=tags, **how)

    store = Recorder(URL)
    store.seen = {}
    tagged = ArchiveOptions(tags={"a": "1"}, history_tags={"h": "2"})
    history = cluster.add_file("00000002.history", HISTORY)
    Archiver(store, layout, tagged).archive(str(history))
    Archiver(store, layout, tagged).archive(str(cluster.add(3)))
    later = cluster.add_file("00000003.history", HISTORY)
    Archiver(store, layout, tagged._replace(history_tags=None)).archive(str(later))
    assert store.seen == {"00000002.history": {"h": "2"}, segment_name(3): {"a": "1"}, "00000003.history": {"a": "1"}}


class TestWhatIsNotArchived:
    def test_a_name_that_no_wal_file_has(self, cluster: Cluster) -> None:
        with pytest.raises(UsageError, match="RECOVERYXLOG"):
            WalFile(str(cluster.add_file("RECOVERYXLOG", segment(3))))

    def test_a_file_that_is_not_there(self, cluster: Cluster) -> None:
        with pytest.raises(FileNotFoundError):
            WalFile(str(cluster.wal / segment_name(3)))

    @pytest.mark.parametrize("length", [0, 10, 8192, SIZE - 1, SIZE + 1])
    def test_a_segment_of_the_wrong_size(self, cluster: Cluster, length: int) -> None:
        path = cluster.add_file(segment_name(3), (segment(3) + b"\0")[:length])
        with pytest.raises(IntegrityError):
            WalFile(str(path))

    @pytest.mark.parametrize("name", [segment_name(4), f"{segment_name(4)}.partial"])
    def test_a_segment_under_the_name_of_another(self, cluster: Cluster, name: str) -> None:
        with pytest.raises(IntegrityError, match=segment_name(3)):
            WalFile(str(cluster.add_file(name, segment(3))))

    def test_a_segment_of_another_cluster(self, cluster: Cluster) -> None:
        path = cluster.add_file(segment_name(3), segment(3, system=SYSTEM + 1))
        with pytest.raises(IntegrityError, match="another cluster"):
            WalFile(str(path))

    def test_zeros(self, cluster: Cluster) -> None:
        with pytest.raises(IntegrityError):
            WalFile(str(cluster.add_file(segment_name(3), bytes(SIZE))))


class TestWhatIsArchived:
    def test_the_first_segment_of_a_timeline_begins_with_a_page_of_its_parent(self, cluster: Cluster) -> None:
        path = cluster.add_file(segment_name(3, timeline=2), segment(3, timeline=2, page_timeline=1))
        assert WalFile(str(path)).name.timeline == 2

    def test_a_segment_outside_of_any_data_directory(self, tmp_path: Path) -> None:
        path = tmp_path / segment_name(3)
        path.write_bytes(segment(3, system=1))
        assert WalFile(str(path)).read(0, SIZE) == path.read_bytes()

    @pytest.mark.parametrize("size", [1 << 20, 16 << 20, 64 << 20])
    def test_segments_of_any_size_that_initdb_offers(self, cluster: Cluster, size: int) -> None:
        assert WalFile(str(cluster.add(5, size=size))).size == size

    def test_a_path_relative_to_the_data_directory(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster.add(3)
        monkeypatch.chdir(cluster.directory)
        assert WalFile(f"pg_wal/{segment_name(3)}").name.text == segment_name(3)


class TestArchivingAhead:
    def test_what_was_stored_can_be_recognised(self, cluster: Cluster, archiver: Archiver, spool_dir: Path) -> None:
        path = cluster.add(1)
        archive_spool.record(opened(spool_dir), path.name, archiver.archive_ahead(str(path)))
        assert archive_spool.holds(opened(spool_dir), str(path), Deadline())
        path.write_bytes(segment(1, content=1))
        assert not archive_spool.holds(opened(spool_dir), str(path), Deadline())

    def test_a_file_that_waits_no_more_may_be_recycled_and_is_left_alone(
        self, store: MemoryStore, layout: Layout, cluster: Cluster
    ) -> None:
        path = cluster.add(1)
        archiver = Archiver(store, layout, ArchiveOptions(overwrite=True))
        archiver.archive(str(path))
        cluster.archived(path)
        path.write_bytes(segment(1, content=1))
        assert archiver.archive_ahead(str(path)) is None
        assert store.get(layout.wal(path.name)) == segment(1)

    def test_what_is_sent_ahead_is_a_copy(self, layout: Layout, cluster: Cluster) -> None:
        path = cluster.add(1)

        class Recycling(MemoryStore):
            def put(self, key: str, data: Buffer, *, tags: Tags | None = None, **how: Any) -> None:
                with open(path, "r+b") as file:
                    file.write(segment(1, content=1))
                super().put(key, data, tags=tags, **how)

        store = Recycling(URL)
        Archiver(store, layout, ArchiveOptions()).archive_ahead(str(path))
        assert store.get(layout.wal(path.name)) == segment(1)

    def test_the_order_of_ready_files(self, cluster: Cluster) -> None:
        names = [segment_name(9), segment_name(2), "00000003.history", segment_name(5, 2), f"{segment_name(2)}.partial"]
        for name in names:
            cluster.add_file(name, b"")
        (cluster.status / f"{segment_name(1)}.done").touch()
        expected = ["00000003.history", segment_name(2), f"{segment_name(2)}.partial", segment_name(5, 2)]
        assert ready_files(str(cluster.wal / segment_name(9))) == expected


def _is_stored(store: MemoryStore, layout: Layout, path: Path) -> bool:
    return any(info.key == layout.wal(path.name) for info in store.list(layout.wal(path.name)))


class TestDamagedFiles:
    def test_a_damaged_page_is_refused_before_anything_is_sent(
        self, store: MemoryStore, cluster: Cluster, archiver: Archiver
    ) -> None:
        data = bytearray(segment(3))
        data[5 * 8192 + 9] ^= 4
        path = cluster.add_file(segment_name(3), bytes(data))
        with pytest.raises(IntegrityError, match=f"{path.name} is damaged: .*byte 40960") as caught:
            archiver.archive(str(path))
        assert "--skip-page-check" in str(caught.value.hint)
        assert store.requests.counts == {}

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("00000002.history", b""),
            ("00000002.history", HISTORY[:-1]),
            ("00000002.history", b"<html><body>Sign in</body></html>\n"),
            ("000000010000000000000003.00000028.backup", b""),
            ("000000010000000000000003.00000028.backup", HISTORY),
        ],
    )
    def test_small_files_that_postgresql_does_not_write_are_refused(
        self, store: MemoryStore, layout: Layout, cluster: Cluster, archiver: Archiver, name: str, content: bytes
    ) -> None:
        path = cluster.add_file(name, content)
        with pytest.raises(IntegrityError, match=name):
            archiver.archive(str(path))
        assert store.requests.counts == {}
        Archiver(store, layout, ArchiveOptions(check_content=False)).archive(str(path))
        assert store.get(layout.wal(name)) == content

    def test_those_who_know_it_can_archive_a_damaged_segment(
        self, store: MemoryStore, layout: Layout, cluster: Cluster
    ) -> None:
        path = cluster.add_file(segment_name(3), segment(3)[:8192] + b"x" * (SIZE - 8192))
        Archiver(store, layout, ArchiveOptions(check_content=False)).archive(str(path))
        assert store.get(layout.wal(path.name)) == path.read_bytes()

    @pytest.mark.parametrize("compression", [None, "lz4"])
    def test_a_file_that_shrinks_is_one_clear_error(
        self,
        store: MemoryStore,
        layout: Layout,
        cluster: Cluster,
        monkeypatch: pytest.MonkeyPatch,
        compression: str | None,
    ) -> None:
        path = cluster.add(3)
        pread = os.pread

        def shrinking(file: int, size: int, position: int) -> bytes:
            if size > 1000:
                os.truncate(path, 300_000)
            return pread(file, size, position)

        monkeypatch.setattr(os, "pread", shrinking)
        with pytest.raises(IntegrityError, match=f"{path} became shorter"):
            Archiver(store, layout, ArchiveOptions(compression=compression)).archive(str(path))
        assert not _is_stored(store, layout, path)


class TestLargeSegments:
    """What doesn't fit into the memory that a call may use is sent and compared in parts."""

    @pytest.fixture(autouse=True)
    def small_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (archiver_module, stored):
            monkeypatch.setattr(module, "AT_ONCE", 100_000)
        monkeypatch.setattr(archiver_module, "PART_SIZE", 50_000)

    @pytest.mark.parametrize("compression", COMPRESSIONS)
    def test_they_are_stored_and_recognised(
        self, store: MemoryStore, layout: Layout, cluster: Cluster, compression: str | None
    ) -> None:
        path = cluster.add(3)
        archiver = Archiver(store, layout, ArchiveOptions(compression=compression))
        archiver.archive(str(path))
        key = layout.wal(path.name, SUFFIX.get(compression or "", ""))
        assert decompress_bytes(store.get(key), compression) == path.read_bytes()
        archiver.archive(str(path))
        other = cluster.add(3, content=1)
        with pytest.raises(ConflictError, match="differs"):
            archiver.archive(str(other))

    def test_one_that_is_recycled_while_it_is_sent_ahead_is_not_stored(self, layout: Layout, cluster: Cluster) -> None:
        path = cluster.add(1)

        class Recycling(MemoryStore):
            def put_stream(self, key: str, chunks: Iterable[Buffer], **_: object) -> int:
                def pieces() -> Iterator[Buffer]:
                    for number, chunk in enumerate(chunks):
                        if number == 2:
                            cluster.archived(path)
                        yield chunk

                return super().put_stream(key, pieces())

        store = Recycling(URL)
        assert Archiver(store, layout, ArchiveOptions()).archive_ahead(str(path)) is None
        assert not _is_stored(store, layout, path)

    def test_credentials_that_may_only_write_are_enough_for_them(self, layout: Layout, cluster: Cluster) -> None:
        class WriteOnly(MemoryStore):
            def head(self, key: str) -> ObjectInfo:
                raise AccessDeniedError("no looking")

        store = WriteOnly(URL)
        path = cluster.add(3)
        Archiver(store, layout, ArchiveOptions()).archive(str(path))
        assert store.get(layout.wal(path.name)) == path.read_bytes()


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd", "lz4", "snappy"])
def test_an_object_that_decompresses_without_end_costs_no_more_memory_than_a_segment(
    store: MemoryStore, layout: Layout, cluster: Cluster, compression: str
) -> None:
    path = cluster.add(3)
    whole = path.read_bytes()
    endless = compress_stream((whole if number == 0 else bytes(SIZE) for number in range(100)), compression)
    store.put(layout.wal(path.name, SUFFIX[compression]), b"".join(endless))
    tracemalloc.start()
    try:
        with pytest.raises(
            ConflictError, match=r"exists and can't be read, so it isn't .*(more than 1048576 bytes|has .* bytes)"
        ):
            Archiver(store, layout, ArchiveOptions(compression=compression)).archive(str(path))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
