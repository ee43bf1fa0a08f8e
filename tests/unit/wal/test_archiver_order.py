"""What an archiver compares, remembers and removes, and when."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.errors import ConflictError
from barman_cloud.wal import archive_spool, background_client
from barman_cloud.wal.archive_ahead import Uploader
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from barman_cloud.wal.background import WindowWorkers
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.ports import wait_for
from tests.support.segments import SIZE, Cluster, segment, segment_name
from tests.support.spools import opened


@pytest.fixture
def faulty(store: MemoryStore) -> FaultyStore:
    return FaultyStore(store)


def test_a_stored_copy_that_ends_early_is_another_content(store: MemoryStore, layout: Layout, cluster: Cluster) -> None:
    path = cluster.add(1)
    for kept in (0, SIZE // 2, SIZE - 1):
        store.put(layout.wal(path.name), segment(1)[:kept])
        with pytest.raises(ConflictError):
            Archiver(store, layout, ArchiveOptions()).archive(str(path))


def test_a_shorter_partial_segment_goes_when_the_longer_one_is_stored(
    faulty: FaultyStore, layout: Layout, cluster: Cluster
) -> None:
    name = f"{segment_name(1)}.partial"
    shorter = layout.wal(name, ".gz")
    path = cluster.add_file(name, segment(1)[: SIZE // 4].ljust(SIZE, b"\0"))
    Archiver(faulty, layout, ArchiveOptions("gzip")).archive(str(path))
    path.write_bytes(segment(1)[: SIZE // 2].ljust(SIZE, b"\0"))
    faulty.objects.clear()
    Archiver(faulty, layout, ArchiveOptions()).archive(str(path))
    assert faulty.objects == [("put", layout.wal(name)), ("delete", shorter)]


def test_a_file_that_changes_while_it_is_stored_is_not_taken_for_stored(
    faulty: FaultyStore, layout: Layout, cluster: Cluster, spool_dir: Path
) -> None:
    """What is remembered is the file as it was opened."""
    path, directory = cluster.add(1), opened(spool_dir)
    archiver = Archiver(faulty, layout, ArchiveOptions())
    line = archiver.archive_ahead(str(path))
    assert line is not None
    archive_spool.record(directory, path.name, line)
    assert archive_spool.holds(directory, str(path), Deadline())

    later = cluster.add(2)
    faulty.fail("put", key=f"*{later.name}", error=lambda: os.utime(later, ns=(1, 1)))
    line = archiver.archive_ahead(str(later))
    assert line is not None
    archive_spool.record(directory, later.name, line)
    assert not archive_spool.holds(directory, str(later), Deadline())


def test_a_segment_that_is_recycled_while_it_is_read_is_not_stored(
    store: MemoryStore, layout: Layout, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL renames the file to a later segment and writes into it: only the mark tells."""
    path = cluster.add(1)
    plain, ends = os.pread, []

    def pread(fd: int, size: int, position: int) -> bytes:
        data = plain(fd, size, position)
        ends.append(position + size)
        if position + size == SIZE:
            (cluster.status / f"{path.name}.ready").unlink()
        return data

    monkeypatch.setattr(os, "pread", pread)
    assert Archiver(store, layout, ArchiveOptions()).archive_ahead(str(path)) is None
    assert SIZE in ends, "it was read"
    assert list(store.list("")) == []


def test_failures_that_lie_apart_are_not_taken_for_a_store_that_is_gone(spool_dir: Path) -> None:
    done: list[str] = []

    def work(name: str, fails: bool) -> None:
        done.append(name)
        if fails:
            raise OSError(5, "Input/output error")

    workers: WindowWorkers[bool] = WindowWorkers(opened(spool_dir), 1, work)
    tasks = [True, True, False, True, True]
    workers.move({segment_name(number): fails for number, fails in enumerate(tasks)})
    wait_for(lambda: len(done) == len(tasks) and not list(spool_dir.glob("*.part")))
    assert not workers.hopeless
    workers.move({segment_name(number): True for number in range(10, 13)})
    wait_for(lambda: workers.hopeless)
    workers.close()


def test_what_another_cluster_has_ready_is_asked_for_anew(
    store: MemoryStore, layout: Layout, cluster: Cluster, tmp_path: Path, spool_dir: Path
) -> None:
    for number in range(1, 12):
        cluster.add(number)
    other = Cluster(tmp_path / "other")
    first, second = other.add(20), other.add(21)
    directory = opened(spool_dir)
    uploader = Uploader(Archiver(store, layout, ArchiveOptions()), directory, jobs=1, idle_seconds=60)
    thread = threading.Thread(target=uploader.run, args=(str(cluster.wal / segment_name(1)),))
    thread.start()
    try:
        _await(spool_dir, segment_name(2))
        assert background_client.announce(directory, str(first))
        _await(spool_dir, second.name)
    finally:
        (spool_dir / "lock").unlink()
        background_client.announce(directory, "/nowhere")
        thread.join(60)


def _await(spool_dir: Path, name: str) -> None:
    there: Callable[[], bool] = (spool_dir / name).exists
    wait_for(there, what=name)
