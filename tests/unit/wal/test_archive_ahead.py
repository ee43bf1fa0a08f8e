from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.errors import SpoolError
from barman_cloud.wal import archive_spool, background_client
from barman_cloud.wal.archive_ahead import Uploader
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from tests.support.ports import wait_for
from tests.support.segments import Cluster, segment, segment_name
from tests.support.spools import opened
from tests.unit.wal.gated_store import GatedStore, idle_when_set, opened_at_the_third_look


@pytest.fixture
def gated_store() -> GatedStore:
    return GatedStore()


Start = Callable[..., threading.Thread]


@pytest.fixture
def start(gated_store: GatedStore, layout: Layout, spool_dir: Path) -> Iterator[Start]:
    """Run an uploader in a thread; it is ended with the test."""
    threads: list[threading.Thread] = []
    directory = opened(spool_dir)

    def run(path: Path, *, jobs: int = 2, idle_seconds: float = 60.0) -> threading.Thread:
        archiver = Archiver(gated_store, layout, ArchiveOptions())
        uploader = Uploader(archiver, directory, jobs=jobs, idle_seconds=idle_seconds)
        thread = threading.Thread(target=uploader.run, args=(str(path),))
        thread.start()
        threads.append(thread)
        return thread

    yield run
    gated_store.open.set()
    (spool_dir / "lock").unlink(missing_ok=True)  # it ends when its directory has gone
    background_client.announce(directory, "/nowhere/000000010000000000000001")
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def _acknowledged(spool_dir: Path) -> list[str]:
    return sorted(name for name in os.listdir(spool_dir) if len(name) == 24 or name.endswith(".history"))


def _await_acknowledged(spool_dir: Path, *names: str) -> None:
    expected = sorted(names)
    wait_for(lambda: _acknowledged(spool_dir) == expected, what=f"{expected} to be acknowledged")


def test_a_window_is_kept_ahead_of_the_archiver(
    start: Start, gated_store: GatedStore, layout: Layout, cluster: Cluster, spool_dir: Path
) -> None:
    paths = [cluster.add(number) for number in range(1, 13)]
    start(paths[0], jobs=2)
    for number, path in enumerate(paths):
        ahead = [path.name for path in paths[number + 1 : number + 5]]
        own = [path.name] if number else []  # kept in case PostgreSQL asks again
        _await_acknowledged(spool_dir, *own, *ahead)
        for name in ahead:
            assert gated_store.get(layout.wal(name)) == (cluster.wal / name).read_bytes()
        if number + 1 < len(paths):
            cluster.archived(path)
            assert archive_spool.holds(opened(spool_dir), str(paths[number + 1]), Deadline())
            assert background_client.announce(opened(spool_dir), str(paths[number + 1]))


def test_the_order_is_that_of_postgresql(start: Start, cluster: Cluster, spool_dir: Path) -> None:
    paths = [cluster.add(number) for number in range(1, 7)]
    history = cluster.add_file("00000002.history", b"1\t0/3000000\tno recovery target specified\n")
    start(paths[0], jobs=1)
    _await_acknowledged(spool_dir, history.name, paths[1].name)


def test_files_that_become_ready_later_are_found(start: Start, cluster: Cluster, spool_dir: Path) -> None:
    first, second = cluster.add(1), cluster.add(2)
    start(first)
    _await_acknowledged(spool_dir, second.name)
    third = cluster.add(3)
    cluster.archived(first)
    background_client.announce(opened(spool_dir), str(second))
    _await_acknowledged(spool_dir, second.name, third.name)


def test_a_long_backlog_is_not_listed_for_each_file(
    start: Start, cluster: Cluster, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[object] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: (listed.append(path), listdir(path))[1])
    paths = [cluster.add(number) for number in range(1, 30)]
    start(paths[0], jobs=2)
    for path in paths[1:20]:
        wait_for(lambda path=path: (spool_dir / path.name).exists(), what=f"{path.name}")
        cluster.archived(path)
        background_client.announce(opened(spool_dir), str(path))
    assert listed.count(str(cluster.status)) == 1


def test_another_cluster_may_take_over(start: Start, tmp_path: Path, cluster: Cluster, spool_dir: Path) -> None:
    start(cluster.add(1))
    other = Cluster(tmp_path / "other")
    first, second = other.add(5), other.add(6)
    wait_for(lambda: background_client.announce(opened(spool_dir), str(first)))
    _await_acknowledged(spool_dir, second.name)


def test_a_file_that_waits_no_more_is_not_sent(
    start: Start, gated_store: GatedStore, cluster: Cluster, spool_dir: Path
) -> None:
    first, second, third = (cluster.add(number) for number in range(1, 4))
    gated_store.open.clear()
    start(first, jobs=1)
    wait_for(lambda: (spool_dir / f"{second.name}.part").exists())
    cluster.archived(third)
    third.unlink()
    gated_store.open.set()
    _await_acknowledged(spool_dir, second.name)
    wait_for(lambda: not list(spool_dir.glob("*.part")))
    assert gated_store.requests.counts == {"put": 1}
    assert not gated_store.refused


def test_a_file_on_its_way_is_waited_for(
    start: Start, gated_store: GatedStore, cluster: Cluster, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cluster.add(1), cluster.add(2)
    gated_store.open.clear()
    start(first)
    wait_for(lambda: (spool_dir / f"{second.name}.part").exists())
    looks = opened_at_the_third_look(monkeypatch, gated_store)
    assert archive_spool.holds(opened(spool_dir), str(second), Deadline())
    assert looks() >= 3


def test_a_failed_upload_is_left_to_its_own_call(
    start: Start,
    gated_store: GatedStore,
    layout: Layout,
    cluster: Cluster,
    spool_dir: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    paths = [cluster.add(number) for number in range(1, 4)]
    gated_store.broken.add(layout.wal(paths[1].name))
    start(paths[0])
    _await_acknowledged(spool_dir, paths[2].name)
    assert not archive_spool.holds(opened(spool_dir), str(paths[1]), Deadline())
    wait_for(lambda: paths[1].name in caplog.text, what="the failure to be logged")


def test_what_is_no_wal_is_not_acknowledged(start: Start, cluster: Cluster, spool_dir: Path) -> None:
    first, last = cluster.add(1), cluster.add(4)
    cluster.add_file(segment_name(2), segment(9))
    cluster.add_file(segment_name(3), b"short")
    start(first, jobs=3)
    _await_acknowledged(spool_dir, last.name)


def test_it_ends_when_nothing_is_asked_for_and_leaves_no_entries(
    start: Start, cluster: Cluster, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cluster.add(1), cluster.add(2)
    idle = idle_when_set(monkeypatch, 7.5)
    thread = start(first, idle_seconds=7.5)
    _await_acknowledged(spool_dir, second.name)
    idle.set()
    thread.join(60)
    assert not thread.is_alive()
    assert _acknowledged(spool_dir) == []
    assert not background_client.announce(opened(spool_dir), str(second))


def test_only_one_works_on_a_spool(start: Start, cluster: Cluster, spool_dir: Path, gated_store: GatedStore) -> None:
    paths = [cluster.add(number) for number in range(1, 4)]
    start(paths[0])
    _await_acknowledged(spool_dir, paths[1].name, paths[2].name)
    second = start(paths[0])
    second.join(60)
    assert not second.is_alive()
    assert gated_store.requests.counts == {"put": 2}


def test_leftovers_of_a_killed_one_are_cleared(start: Start, cluster: Cluster, spool_dir: Path) -> None:
    first, second = cluster.add(1), cluster.add(2)
    for name in (f"{second.name}.part", f"{second.name}.99.tmp", segment_name(77)):
        (spool_dir / name).write_bytes(b"")
    assert not archive_spool.holds(opened(spool_dir), str(second), Deadline()), "nobody works on it"
    start(first)
    _await_acknowledged(spool_dir, second.name)
    assert not list(spool_dir.glob("*.tmp"))


def test_a_directory_that_cannot_be_used_is_a_spool_error(
    gated_store: GatedStore, layout: Layout, cluster: Cluster, spool_dir: Path
) -> None:
    (spool_dir / "requests").mkdir()
    with pytest.raises(SpoolError):
        Uploader(Archiver(gated_store, layout, ArchiveOptions()), opened(spool_dir), jobs=2).run(str(cluster.add(1)))


def test_it_ends_when_nothing_succeeds_any_more(
    start: Start, gated_store: GatedStore, layout: Layout, cluster: Cluster, spool_dir: Path
) -> None:
    paths = [cluster.add(number) for number in range(1, 8)]
    gated_store.broken.update(layout.wal(path.name) for path in paths)
    thread = start(paths[0])
    wait_for(lambda: len(gated_store.refused) >= 3)
    wait_for(lambda: not background_client.announce(opened(spool_dir), str(paths[1])), what="it to end")
    thread.join(60)
    assert not thread.is_alive()


def test_requests_that_make_no_sense_are_ignored(start: Start, cluster: Cluster, spool_dir: Path) -> None:
    first, second, third = (cluster.add(number) for number in range(1, 4))
    start(first, jobs=1)
    _await_acknowledged(spool_dir, second.name, third.name)
    fifo = os.open(spool_dir / "requests", os.O_WRONLY | os.O_NONBLOCK)
    for junk in (b"no line feed", b"\n\n", b"/nowhere/at/all\n", b"\xff\xfe\n"):
        os.write(fifo, junk)
        time.sleep(0.02)
    os.close(fifo)
    background_client.announce(opened(spool_dir), str(first))
    _await_acknowledged(spool_dir, second.name, third.name)


def test_a_marker_that_is_too_old_is_not_waited_for(
    start: Start, gated_store: GatedStore, cluster: Cluster, spool_dir: Path
) -> None:
    first, second = cluster.add(1), cluster.add(2)
    gated_store.open.clear()
    start(first)
    marker = spool_dir / f"{second.name}.part"
    wait_for(marker.exists)
    os.utime(marker, (time.time() - Deadline().seconds,) * 2)
    began = time.monotonic()
    assert not archive_spool.holds(opened(spool_dir), str(second), Deadline())
    assert time.monotonic() - began < Deadline().seconds / 4  # a fresh one would be waited for twice as long


def test_it_survives_what_nobody_expects(
    start: Start, gated_store: GatedStore, cluster: Cluster, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [cluster.add(number) for number in range(1, 4)]
    put = gated_store.put

    def out_of_memory(key: str, *arguments: object, **more: object) -> None:
        if paths[1].name in key:
            raise MemoryError
        put(key, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(gated_store, "put", out_of_memory)
    start(paths[0], jobs=1)
    _await_acknowledged(spool_dir, paths[2].name)
