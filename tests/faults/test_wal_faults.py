"""WAL commands on a store that fails, and killed at any moment.

Nothing is acknowledged that isn't stored, and nothing is delivered that isn't whole.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from barman_cloud.archive.compression import compress_bytes, decompress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, ConnectivityError, NotFoundError
from barman_cloud.store.base import StoreURL
from barman_cloud.store.open import open_store
from barman_cloud.wal import archive_spool, background_client
from barman_cloud.wal.archive_ahead import Uploader
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from barman_cloud.wal.restorer import Restorer, wal_name
from tests.support.background_processes import ended_background_processes
from tests.support.commands import program, run_command
from tests.support.faulty_store import FaultyStore
from tests.support.memory_store import MemoryStore
from tests.support.ports import wait_for
from tests.support.postgres import command_environment
from tests.support.segments import Cluster, segment, segment_name
from tests.support.spools import opened

LAYOUT = Layout("prod", "main")
GZIP = ArchiveOptions(compression="gzip", level="low")


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "data")


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore(StoreURL("memory", "bucket", "prod", "memory://bucket/prod")))


def _is_stored(store: FaultyStore | MemoryStore, path: Path) -> bool:
    key = LAYOUT.wal(path.name, ".gz")
    inner = store.inner if isinstance(store, FaultyStore) else store
    stored = any(info.key == key for info in inner.list(key))
    return stored and decompress_bytes(inner.get(key), "gzip") == path.read_bytes()


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize("number", [0, 3], ids=["first of a folder", "inner segment"])
def test_archiving_survives_the_failure_of_any_request(
    cluster: Cluster, store: FaultyStore, number: int, after: bool
) -> None:
    path = cluster.add(number)
    archiver = Archiver(store, LAYOUT, GZIP)
    for call in range(1, 10):
        failure = store.fail_call(call, after=after)
        try:
            archiver.archive(str(path))
        except ConnectivityError:
            pass  # not acknowledged: PostgreSQL comes again
        else:
            assert _is_stored(store, path)
        if failure.times:
            break  # there is no such call any more
    else:
        pytest.fail("archiving one segment made ten requests")
    store.failures.clear()
    archiver.archive(str(path))
    assert _is_stored(store, path)


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
def test_what_is_archived_ahead_is_only_acknowledged_when_it_is_stored(
    tmp_path: Path, store: FaultyStore, after: bool
) -> None:
    for call in range(1, 7):
        cluster = Cluster(tmp_path / f"data{call}")
        spool = tmp_path / f"spool{call}"
        spool.mkdir()
        fresh = FaultyStore(MemoryStore(store.url))
        paths = [cluster.add(number) for number in range(1, 5)]
        archiver = Archiver(fresh, LAYOUT, GZIP)
        fresh.fail_call(call, after=after)
        uploader = Uploader(archiver, opened(spool), jobs=2)
        thread = threading.Thread(target=uploader.run, args=(str(paths[0]),))
        thread.start()
        for path in paths:
            while not archive_spool.holds(opened(spool), str(path), Deadline()):
                try:
                    archiver.archive(str(path))
                    break
                except BarmanCloudError:
                    pass
            for other in paths:
                if archive_spool.holds(opened(spool), str(other), Deadline()):
                    assert _is_stored(fresh, other)
            assert _is_stored(fresh, path)
            cluster.archived(path)
            background_client.announce(opened(spool), str(path))
        wait_for(lambda spool=spool: background_client.announce(opened(spool), "/end"))
        (spool / "lock").unlink()
        background_client.announce(opened(spool), "/end")
        thread.join(120)
        assert not thread.is_alive()


@pytest.mark.parametrize("remember", [False, True])
def test_a_failed_request_never_looks_like_a_missing_segment(
    tmp_path: Path, store: FaultyStore, remember: bool
) -> None:
    for number in range(1, 4):
        store.inner.put(LAYOUT.wal(segment_name(number), ".gz"), compress_bytes(segment(number), "gzip"))
    memory = opened(tmp_path) if remember else None
    destination = tmp_path / "RECOVERYXLOG"
    for number in range(1, 4):
        for call in (1, 2, 3):
            failure = store.fail_call(call)
            destination.unlink(missing_ok=True)
            try:
                Restorer(store, LAYOUT, memory=memory).restore(wal_name(segment_name(number)), str(destination))
            except NotFoundError:
                pytest.fail("a lost connection was taken for a missing segment")
            except ConnectivityError:
                assert not destination.exists()
            else:
                assert destination.read_bytes() == segment(number)
                assert failure.times == 1
            store.failures.clear()


MOMENTS = [0.03, 0.08, 0.13, 0.18, 0.23, 0.28, 0.33, 0.4, 0.5, 0.6]
"""Seconds after the start; the commands take a fraction of a second."""


def _kill_after(command: list[str], seconds: float) -> int:
    process = subprocess.Popen(command, env=command_environment(), stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def test_archiving_killed_at_any_moment_loses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    url = f"file://{tmp_path}/store"
    spool = tmp_path / "spool"
    store = open_store(url)
    paths = [cluster.add(number) for number in range(1, 3 * len(MOMENTS))]
    waiting = list(paths)
    command = [program("wal-archive"), "--lz4", "--parallel", "3", "--spool-dir", str(spool), url, "main"]

    def assert_stored(path: Path) -> None:
        content = store.get(Layout("", "main").wal(path.name, ".lz4"))
        assert decompress_bytes(content, "lz4") == path.read_bytes()

    for moment in MOMENTS:
        with ended_background_processes(spool):
            if _kill_after([*command, str(waiting[0])], moment) == 0:
                assert_stored(waiting[0])
                cluster.archived(waiting.pop(0))
            time.sleep(moment / 2)  # and the background process is killed at some moment, too
        for directory in spool.glob("archive-*"):
            for path in waiting:
                if archive_spool.holds(opened(directory), str(path), Deadline()):
                    assert_stored(path)
    with ended_background_processes(spool):
        for path in waiting:
            done = run_command("wal-archive", *command[1:], path)
            assert done.returncode == 0, done.stderr
            cluster.archived(path)
    for path in paths:
        assert_stored(path)


def test_restoring_killed_at_any_moment_delivers_whole_segments_or_none(cluster: Cluster, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/store"
    (tmp_path / "store").mkdir()
    store = open_store(url)
    for number in range(1, 2 * len(MOMENTS)):
        store.put(Layout("", "main").wal(segment_name(number), ".lz4"), compress_bytes(segment(number), "lz4"))
    spool = tmp_path / "spool"
    destination = cluster.wal / "RECOVERYXLOG"
    command = [program("wal-restore"), "--parallel", "3", "--spool-dir", str(spool), url, "main"]
    number = 1
    for moment in MOMENTS:
        with ended_background_processes(spool):
            destination.unlink(missing_ok=True)
            code = _kill_after([*command, segment_name(number), str(destination)], moment)
            if destination.exists():
                assert destination.read_bytes() == segment(number)
            assert destination.exists() or code != 0
            number += code == 0
            time.sleep(moment / 2)  # and the background process is killed at some moment, too
        for spooled in spool.glob("restore-*/*"):
            if len(spooled.name) == 24:
                assert spooled.read_bytes() == segment(int(spooled.name[16:], 16))
    with ended_background_processes(spool):
        for last in range(number, number + 4):
            done = run_command("wal-restore", *command[1:], segment_name(last), destination)
            assert done.returncode == 0, done.stderr
            assert destination.read_bytes() == segment(last)


def test_a_full_disk_fails_and_leaves_nothing(
    tmp_path: Path, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.inner.put(LAYOUT.wal(segment_name(1)), segment(1))
    written = os.write

    def short(file: int, data: memoryview) -> int:
        if len(data) < 600_000:
            raise OSError(28, "No space left on device")
        return written(file, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(OSError, match="No space"):
        Restorer(store, LAYOUT).restore(wal_name(segment_name(1)), str(tmp_path / "RECOVERYXLOG"))
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []
