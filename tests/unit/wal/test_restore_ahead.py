from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from barman_cloud.archive.compression import compress_bytes
from barman_cloud.catalog.layout import Layout
from barman_cloud.cli import options
from barman_cloud.cli.command import parse
from barman_cloud.cli.wal_restore import COMMAND, run, spool_directory
from barman_cloud.deadline import Deadline
from barman_cloud.errors import IntegrityError, SpoolError
from barman_cloud.wal import background_client, restore_spool
from barman_cloud.wal.restore_ahead import Prefetcher
from barman_cloud.wal.restorer import Restorer
from tests.support.ports import wait_for
from tests.support.segments import SYSTEM, Cluster, segment, segment_name
from tests.support.spools import opened
from tests.unit.wal.gated_store import GatedStore, idle_when_set, opened_at_the_third_look


@pytest.fixture
def gated_store(layout: Layout) -> GatedStore:
    store = GatedStore()
    for number in range(1, 40):
        store.put(layout.wal(segment_name(number), ".lz4"), compress_bytes(segment(number), "lz4"))
    return store


Start = Callable[..., threading.Thread]


@pytest.fixture
def start(gated_store: GatedStore, layout: Layout, spool_dir: Path) -> Iterator[Start]:
    """Run a prefetcher in a thread; it is ended with the test."""
    threads: list[threading.Thread] = []
    directory = opened(spool_dir)

    def run(position: int = 1, *, jobs: int = 2, idle_seconds: float = 60.0) -> threading.Thread:
        prefetcher = Prefetcher(Restorer(gated_store, layout), directory, jobs=jobs, idle_seconds=idle_seconds)
        thread = threading.Thread(target=prefetcher.run, args=(segment_name(position),))
        thread.start()
        threads.append(thread)
        return thread

    yield run
    gated_store.open.set()
    (spool_dir / "lock").unlink(missing_ok=True)  # it ends when its directory has gone
    background_client.announce(directory, segment_name(1))
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def _spooled(spool_dir: Path) -> list[str]:
    return sorted(name for name in os.listdir(spool_dir) if len(name) == 24)


def _await_spooled(spool_dir: Path, *numbers: int) -> None:
    expected = [segment_name(number) for number in numbers]
    wait_for(lambda: _spooled(spool_dir) == expected, what=f"{expected} in the spool")


def _ask(spool_dir: Path, number: int, destination: Path) -> bool:
    served = restore_spool.serve(opened(spool_dir), segment_name(number), str(destination), Deadline())
    assert background_client.announce(opened(spool_dir), segment_name(number))
    return served


def test_a_window_is_kept_ahead_of_recovery(start: Start, spool_dir: Path, tmp_path: Path) -> None:
    start(1, jobs=2)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    for number in range(2, 12):
        destination = tmp_path / "RECOVERYXLOG"
        assert _ask(spool_dir, number, destination)
        assert destination.read_bytes() == segment(number)
        _await_spooled(spool_dir, *range(number + 1, number + 5))


def test_the_archive_is_listed_once_for_a_folder(start: Start, gated_store: GatedStore, spool_dir: Path) -> None:
    gated_store.requests.counts.clear()
    start(1, jobs=2)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    background_client.announce(opened(spool_dir), segment_name(5))
    _await_spooled(spool_dir, 6, 7, 8, 9)
    assert gated_store.requests.counts == {"list": 1, "get": 8}


def test_it_goes_on_in_the_next_folder(start: Start, gated_store: GatedStore, layout: Layout, spool_dir: Path) -> None:
    for number in range(4093, 4100):  # of 1 MiB each: 4096 to a folder
        gated_store.put(layout.wal(segment_name(number)), segment(number))
    (spool_dir / "cluster").write_text(f"{1 << 20} {SYSTEM}\n")
    start(4092, jobs=3)
    _await_spooled(spool_dir, *range(4093, 4099))


def test_what_recovery_has_passed_is_dropped(start: Start, spool_dir: Path) -> None:
    start(1)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    background_client.announce(opened(spool_dir), segment_name(20))
    _await_spooled(spool_dir, 21, 22, 23, 24)
    background_client.announce(opened(spool_dir), segment_name(10))
    _await_spooled(spool_dir, 11, 12, 13, 14)


def test_it_stops_at_a_gap_and_at_the_end(
    start: Start, gated_store: GatedStore, layout: Layout, spool_dir: Path
) -> None:
    gated_store.delete([layout.wal(segment_name(4), ".lz4")])
    start(1)
    _await_spooled(spool_dir, 2, 3)
    background_client.announce(opened(spool_dir), segment_name(37))
    _await_spooled(spool_dir, 38, 39)
    gated_store.put(layout.wal(segment_name(40)), segment(40))
    background_client.announce(opened(spool_dir), segment_name(38))
    _await_spooled(spool_dir, 39, 40)


def test_a_segment_on_its_way_is_waited_for(
    start: Start, gated_store: GatedStore, spool_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated_store.open.clear()
    start(1)
    wait_for(lambda: (spool_dir / f"{segment_name(2)}.part").exists())
    looks = opened_at_the_third_look(monkeypatch, gated_store)
    assert _ask(spool_dir, 2, tmp_path / "RECOVERYXLOG")
    assert looks() >= 3
    assert (tmp_path / "RECOVERYXLOG").read_bytes() == segment(2)


def test_a_failed_fetch_is_left_to_the_call_that_needs_it(
    start: Start,
    gated_store: GatedStore,
    layout: Layout,
    spool_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    gated_store.broken.add(layout.wal(segment_name(2), ".lz4"))
    start(1)
    _await_spooled(spool_dir, 3, 4, 5)
    assert not restore_spool.serve(opened(spool_dir), segment_name(2), str(tmp_path / "x"), Deadline())
    wait_for(lambda: segment_name(2) in caplog.text, what="the failure to be logged")
    wait_for(lambda: not (spool_dir / f"{segment_name(2)}.part").exists(), what="the mark to go")


def test_a_damaged_segment_never_enters_the_spool(
    start: Start, gated_store: GatedStore, layout: Layout, spool_dir: Path
) -> None:
    gated_store.put(layout.wal(segment_name(3), ".lz4"), compress_bytes(segment(7), "lz4"))
    gated_store.put(layout.wal(segment_name(4), ".lz4"), compress_bytes(segment(4), "lz4")[:1000])
    start(1)
    _await_spooled(spool_dir, 2, 5)


def test_segments_of_another_cluster_push_out_the_old_ones(
    start: Start, gated_store: GatedStore, layout: Layout, spool_dir: Path
) -> None:
    (spool_dir / "cluster").write_text(f"{1 << 20} {SYSTEM + 1}\n")
    (spool_dir / segment_name(2)).write_bytes(segment(2, system=SYSTEM + 1))
    start(1, jobs=1)
    wait_for(lambda: (spool_dir / "cluster").read_text() == f"{1 << 20} {SYSTEM}\n")
    wait_for(lambda: segment_name(3) in _spooled(spool_dir))
    old = segment(2, system=SYSTEM + 1)
    assert all((spool_dir / name).read_bytes() != old for name in _spooled(spool_dir))


def test_it_ends_when_nothing_is_asked_for_and_leaves_no_segments(
    start: Start, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = idle_when_set(monkeypatch, 7.5)
    thread = start(1, idle_seconds=7.5)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    idle.set()
    thread.join(60)
    assert not thread.is_alive()
    assert _spooled(spool_dir) == []
    assert not background_client.announce(opened(spool_dir), segment_name(2))


def test_it_ends_when_its_directory_is_removed(start: Start, spool_dir: Path) -> None:
    thread = start(1)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    wait_for(lambda: not list(spool_dir.glob("*.part")), what="the marks to go")
    fifo = os.open(spool_dir / "requests", os.O_WRONLY | os.O_NONBLOCK)
    for name in os.listdir(spool_dir):
        os.unlink(spool_dir / name)
    os.rmdir(spool_dir)
    os.write(fifo, f"{segment_name(2)}\n".encode())
    os.close(fifo)
    thread.join(60)
    assert not thread.is_alive()


def test_only_one_works_on_a_spool(start: Start, gated_store: GatedStore, spool_dir: Path) -> None:
    start(1)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    second = start(20)
    second.join(60)
    assert not second.is_alive()
    assert _spooled(spool_dir) == [segment_name(number) for number in (2, 3, 4, 5)]


def test_leftovers_of_a_killed_one_are_cleared(start: Start, spool_dir: Path) -> None:
    for name in (f"{segment_name(2)}.part", f".{segment_name(2)}.99.tmp", segment_name(77)):
        (spool_dir / name).write_bytes(b"")
    start(1)
    _await_spooled(spool_dir, 2, 3, 4, 5)
    wait_for(lambda: not [name for name in os.listdir(spool_dir) if name.endswith((".part", ".tmp"))])


def test_a_directory_that_cannot_be_used_is_a_spool_error(
    gated_store: GatedStore, layout: Layout, spool_dir: Path
) -> None:
    (spool_dir / "requests").mkdir()
    with pytest.raises(SpoolError):
        Prefetcher(Restorer(gated_store, layout), opened(spool_dir), jobs=2).run(segment_name(1))


class TestServing:
    def test_nothing_is_served_from_an_empty_spool(self, spool_dir: Path, tmp_path: Path) -> None:
        assert not restore_spool.serve(opened(spool_dir), segment_name(2), str(tmp_path / "x"), Deadline())

    @pytest.mark.parametrize("cluster", [None, "", "junk", f"{2 << 20} {SYSTEM}"])
    def test_a_segment_of_unknown_or_wrong_size_is_dropped(
        self, spool_dir: Path, tmp_path: Path, cluster: str | None
    ) -> None:
        (spool_dir / segment_name(2)).write_bytes(segment(2))
        if cluster is not None:
            (spool_dir / "cluster").write_text(cluster)
        assert not restore_spool.serve(opened(spool_dir), segment_name(2), str(tmp_path / "x"), Deadline())
        assert _spooled(spool_dir) == []

    def test_a_segment_of_another_cluster_is_dropped(self, spool_dir: Path, cluster: Cluster) -> None:
        (spool_dir / segment_name(2)).write_bytes(segment(2))
        (spool_dir / "cluster").write_text(f"{1 << 20} {SYSTEM + 1}\n")
        assert not restore_spool.serve(
            opened(spool_dir), segment_name(2), str(cluster.wal / "RECOVERYXLOG"), Deadline()
        )
        assert _spooled(spool_dir) == []

    def test_a_marker_without_a_process_is_not_waited_for(self, spool_dir: Path, tmp_path: Path) -> None:
        (spool_dir / f"{segment_name(2)}.part").touch()
        began = time.monotonic()
        assert not restore_spool.serve(opened(spool_dir), segment_name(2), str(tmp_path / "x"), Deadline())
        assert time.monotonic() - began < Deadline().seconds / 4  # a live one's would be waited for twice as long

    def test_a_destination_that_cannot_be_written_is_an_error_and_keeps_the_segment(
        self, spool_dir: Path, tmp_path: Path
    ) -> None:
        (spool_dir / segment_name(2)).write_bytes(segment(2))
        (spool_dir / "cluster").write_text(f"{1 << 20} {SYSTEM}\n")
        with pytest.raises(OSError):
            restore_spool.serve(opened(spool_dir), segment_name(2), str(tmp_path / "missing" / "x"), Deadline())
        assert _spooled(spool_dir) == [segment_name(2)]


class TestDamagedRecords:
    """Checking all records takes too long for the call that recovery waits for, but not for the process."""

    @pytest.fixture
    def damaged(self, gated_store: GatedStore, layout: Layout) -> str:
        data = bytearray(segment(3))
        data[100_000] ^= 1
        gated_store.delete([layout.wal(segment_name(3), ".lz4")])
        gated_store.put(layout.wal(segment_name(3)), bytes(data))
        return segment_name(3)

    def test_they_keep_a_segment_out_of_the_spool_and_are_noted(
        self, start: Start, spool_dir: Path, damaged: str
    ) -> None:
        start(1)
        _await_spooled(spool_dir, 2, 4, 5)
        wait_for(lambda: restore_spool.is_damaged(opened(spool_dir), damaged), what="the damage to be noted")
        assert not restore_spool.is_damaged(opened(spool_dir), segment_name(4))

    def test_the_call_for_it_fails_until_the_segment_is_right(
        self, tmp_path: Path, damaged: str, gated_store: GatedStore, layout: Layout, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(options, "store_from", lambda *_, **__: contextlib.nullcontext(gated_store))
        monkeypatch.setattr(options, "layout_from", lambda *_: layout)
        monkeypatch.setattr(background_client, "start", lambda *_: None)
        command = ["--parallel", "4", "--spool-dir", str(tmp_path / "spool"), "s3://bucket", "main", damaged]
        args = parse(COMMAND, [*command, str(tmp_path / "x")])
        restore_spool.note_damage(spool_directory(args), damaged)
        for _ in range(2):
            with pytest.raises(IntegrityError, match="a record that fails its checksum"):
                run(args)
            assert not (tmp_path / "x").exists()
        gated_store.put(layout.wal(damaged), segment(3))
        assert run(args) == 0
        assert (tmp_path / "x").read_bytes() == segment(3)
        assert not restore_spool.is_damaged(spool_directory(args), damaged)
