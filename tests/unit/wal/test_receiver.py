"""What is acknowledged when: a stream written down in real files, with every file operation in its order."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConflictError, IntegrityError
from barman_cloud.replication.wal_stream import Keepalive, Wal
from barman_cloud.wal import receive_upload
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from barman_cloud.wal.receive_plan import Lineage
from barman_cloud.wal.receive_spool import PARTIAL, ReceiveSpool, SegmentFile
from barman_cloud.wal.receive_spooled import SpoolOptions, SpoolSink
from barman_cloud.wal.receive_upload import Uploader
from barman_cloud.wal.receiver import Receiver
from tests.support.faulty_store import FaultyStore
from tests.support.file_operations import FileOperations, recorded
from tests.support.memory_store import MemoryStore
from tests.support.ports import wait_for
from tests.support.segments import SIZE, segment, segment_name
from tests.support.spools import opened

DATA = b"".join(segment(number) for number in range(1, 4))
"""WAL from LSN ``SIZE`` on."""


class Stream:
    """What a server sends, message by message; None is a moment without any. Then the receiver is stopped."""

    def __init__(self, messages: list[Wal | Keepalive | None], receiver: Receiver, found: FileOperations) -> None:
        self.ended = None
        self.acknowledged = 0
        self._messages = messages
        self._receiver = receiver
        self._found = found

    def receive(self, _seconds: float) -> Wal | Keepalive | None:
        # So that a status message, with whatever it says, comes between any two pieces.
        self._receiver._next_status = 0.0
        if not self._messages:
            self._receiver.stop.set()
            return None
        return self._messages.pop(0)

    def report(self, _written: int, flushed: int) -> None:
        """The server may forget all WAL before ``flushed`` from now on."""
        if flushed > self.acknowledged:
            begun = [int(path[16:24], 16) * SIZE for path in self._found.unsynced]
            assert all(begin >= flushed for begin in begun), f"acknowledged to {flushed:X} before it is on disk"
            self.acknowledged = flushed

    def stop(self) -> None:
        """Nothing is on its way."""


def wal(start: int, size: int) -> Wal:
    return Wal(SIZE + start, memoryview(DATA)[start : start + size], SIZE + len(DATA))


def has(items: list[str], number: int) -> bool:
    return len(items) == number


class Bench:
    """A receiver with a real spool and real uploads into ``store``."""

    def __init__(self, directory: Path, store: MemoryStore | FaultyStore, layout: Layout, spool_max: int) -> None:
        self.dropped: list[str] = []
        self.spool = ReceiveSpool(opened(directory))
        archiver = Archiver(store, layout, ArchiveOptions())

        def drop_partial(segment: str) -> None:
            archiver.drop_partial(segment)
            self.dropped.append(segment)

        self.uploader = Uploader(archiver, 2, drop_partial)
        self.sink = SpoolSink(self.spool, self.uploader, SpoolOptions(spool_max, 0))
        self.receiver = Receiver(
            Any, store, layout, self.sink,  # type: ignore[arg-type]
            accept_gap=False, require_cluster=lambda _identifier: None, check_lease=lambda: None,
        )  # fmt: skip
        self.sink.begin(1, SIZE, SIZE)

    def pump(self, found: FileOperations, *messages: Wal | Keepalive | None) -> Stream:
        stream = Stream(list(messages), self.receiver, found)
        self.receiver._pump(stream)  # type: ignore[arg-type]
        return stream


@pytest.fixture
def faulty(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    """A store that fails on command, and uploads that don't wait long."""
    quick = SimpleNamespace(sleep=lambda _seconds: time.sleep(0.01), monotonic=time.monotonic)
    monkeypatch.setattr(receive_upload, "time", quick)
    return FaultyStore(store)


@pytest.fixture
def new_bench(spool_dir: Path, faulty: FaultyStore, layout: Layout) -> Callable[..., Bench]:
    return lambda spool_max=100 * SIZE: Bench(spool_dir, faulty, layout, spool_max)


@pytest.mark.parametrize("piece", [100_000, SIZE, 3 * SIZE // 2])
def test_nothing_is_acknowledged_before_it_is_on_disk(
    new_bench: Callable[..., Bench], spool_dir: Path, store: MemoryStore, layout: Layout, piece: int
) -> None:
    messages: list[Wal | Keepalive | None] = []
    between: list[list[Wal | Keepalive | None]] = [[], [None], [Keepalive(0, True)], [Keepalive(0, False)]]
    for number, start in enumerate(range(0, len(DATA) - 500_000, piece)):
        messages.append(wal(start, min(piece, len(DATA) - 500_000 - start)))
        messages += between[number % 4]
    with recorded(spool_dir) as found:
        bench = new_bench()
        stream = bench.pump(found, *messages)
        assert bench.uploader.wait(60)
    end = SIZE + len(DATA) - 500_000
    assert stream.acknowledged == end, "all of it is on disk in the end"
    assert found.problems == []
    for number in (1, 2):
        assert store.get(layout.wal(segment_name(number))) == segment(number)
    (left,) = [path for path in spool_dir.iterdir() if path.name.startswith("0")]
    assert left.name == f"{segment_name(3)}{PARTIAL}"
    assert left.read_bytes()[: SIZE - 500_000] == segment(3)[: SIZE - 500_000]


def test_wal_that_does_not_follow_is_refused(new_bench: Callable[..., Bench], spool_dir: Path) -> None:
    with recorded(spool_dir) as found, pytest.raises(IntegrityError, match="was to follow"):
        new_bench().pump(found, wal(0, 5000), wal(6000, 5000))


def test_a_segment_stays_until_the_store_has_it(
    new_bench: Callable[..., Bench], faulty: FaultyStore, store: MemoryStore, layout: Layout, spool_dir: Path
) -> None:
    name = segment_name(1)
    there: list[bool] = []
    faulty.fail("put", key=f"*{name}", error=lambda: there.append((spool_dir / name).exists()))
    with recorded(spool_dir) as found:
        bench = new_bench()
        bench.pump(found, wal(0, SIZE))
        assert bench.uploader.wait(60)
    assert there == [True]
    assert store.get(layout.wal(name)) == segment(1)
    assert not (spool_dir / name).exists()


def test_a_segment_that_could_not_be_stored_is_tried_again(
    new_bench: Callable[..., Bench], faulty: FaultyStore, store: MemoryStore, layout: Layout, spool_dir: Path
) -> None:
    faulty.fail("put", key=f"*{segment_name(1)}", times=2)
    with recorded(spool_dir) as found:
        bench = new_bench()
        bench.pump(found, wal(0, SIZE))
        assert bench.uploader.wait(60)
    assert store.get(layout.wal(segment_name(1))) == segment(1)


@pytest.mark.parametrize("order", [(PARTIAL, ""), ("", PARTIAL)])
def test_a_partial_copy_goes_when_both_are_stored(
    new_bench: Callable[..., Bench], tmp_path: Path, order: tuple[str, str], store: MemoryStore, layout: Layout
) -> None:
    name, bench = segment_name(1), new_bench()
    half = segment(1)[: SIZE // 2].ljust(SIZE, b"\0")
    for suffix in order:
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(half if suffix else segment(1))
        bench.uploader.add(str(path))
        assert bench.uploader.wait(60)
    wait_for(
        lambda: layout.wal(name + PARTIAL) not in [item.key for item in store.list("")],
        what="the partial copy to be deleted",
    )
    assert store.get(layout.wal(name)) == segment(1)


def test_a_partial_copy_of_an_earlier_receiver_goes_if_the_segment_agrees(
    new_bench: Callable[..., Bench], spool_dir: Path, store: MemoryStore, layout: Layout
) -> None:
    """Its host may be lost with its spool: then that copy is all there is of what was acknowledged."""
    name, other = segment_name(1), segment_name(2)
    unwritten = segment(1)[: SIZE // 2].ljust(SIZE, b"\0")
    gap = 10 * 4096
    store.put(layout.wal(name + PARTIAL), unwritten[:gap] + bytes(4096) + unwritten[gap + 4096 :])
    bench = new_bench()
    with recorded(spool_dir) as found:
        bench.pump(found, wal(0, SIZE))
        assert bench.uploader.wait(60)
    wait_for(
        lambda: layout.wal(name + PARTIAL) not in [item.key for item in store.list("")],
        what="the partial copy to be deleted",
    )

    acknowledged = segment(2, content=9)[: SIZE // 2].ljust(SIZE, b"\0")
    store.put(layout.wal(other + PARTIAL), acknowledged)
    bench.sink.begin(1, 2 * SIZE, SIZE)
    bench.receiver.stop.clear()
    with recorded(spool_dir) as found:
        bench.pump(found, wal(SIZE, SIZE))
    wait_for(lambda: bench.sink.failure, what="the contradiction to be found")
    assert isinstance(bench.sink.failure, ConflictError)
    assert re.match(r"diverged timeline: .*\.partial, from byte \d+ on", str(bench.sink.failure))
    assert store.get(layout.wal(other + PARTIAL)) == acknowledged
    assert store.get(layout.wal(other)) == segment(2)


def test_copies_of_one_partial_segment_are_stored_one_after_another(
    new_bench: Callable[..., Bench], tmp_path: Path, store: MemoryStore, layout: Layout, faulty: FaultyStore
) -> None:
    """Side by side, the shorter one could replace the longer, which is removed from the spool by then."""
    name, bench = f"{segment_name(1)}{PARTIAL}", new_bench()
    at_once: list[int] = []
    active = 0

    def slowly() -> None:
        nonlocal active
        active += 1
        at_once.append(active)
        time.sleep(0.05)
        active -= 1

    faulty.fail("put", key=f"*{PARTIAL}", times=100, error=slowly)
    sizes = [SIZE // 8, SIZE // 2, SIZE // 4, SIZE // 3]
    for number, size in enumerate(sizes):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(segment(1)[:size].ljust(SIZE, b"\0"))
        bench.uploader.add(str(path))
    assert bench.uploader.wait(60)
    assert set(at_once) == {1}
    assert store.get(layout.wal(name))[: SIZE // 2] == segment(1)[: SIZE // 2]


def test_what_the_disk_has_no_room_for_is_left_to_the_server(
    new_bench: Callable[..., Bench], spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = new_bench()
    monkeypatch.setattr(ReceiveSpool, "free_bytes", lambda _self: SIZE - 1)
    assert not bench.sink.has_room()
    assert bench.sink.problem == "the spool is almost full"
    monkeypatch.setattr(ReceiveSpool, "free_bytes", lambda _self: SIZE)
    with recorded(spool_dir) as found:
        bench.pump(found, wal(0, 5000))
    monkeypatch.setattr(ReceiveSpool, "free_bytes", lambda _self: 0)
    assert bench.sink.has_room(), "the segment in progress has its size on disk already"


def test_a_segment_that_the_disk_does_not_take_is_not_acknowledged(
    new_bench: Callable[..., Bench], spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = new_bench()

    def broken(_self: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SegmentFile, "finish", broken)
    with recorded(spool_dir) as found, pytest.raises(OSError, match="Input/output error"):
        bench.pump(found, wal(0, SIZE + 5000), *[None] * 2000)
    assert bench.sink.flushed == SIZE
    with pytest.raises(OSError, match="Input/output error"):
        bench.sink.settle()
    assert bench.sink.flushed == SIZE


def test_nothing_waits_after_an_end_that_stored_the_segment_in_progress_too(
    new_bench: Callable[..., Bench], spool_dir: Path, store: MemoryStore, layout: Layout
) -> None:
    bench = new_bench()
    with recorded(spool_dir) as found:
        bench.pump(found, wal(0, SIZE + 5000))
        bench.sink.end()
    assert bench.sink.waiting == 0
    assert store.get(layout.wal(segment_name(2) + PARTIAL))[:5000] == segment(2)[:5000]


def test_a_full_spool_takes_no_more(new_bench: Callable[..., Bench], faulty: FaultyStore) -> None:
    bench = new_bench(3 * SIZE)
    bench.sink._uploader = SimpleNamespace(waiting=2)  # type: ignore[assignment]
    assert bench.sink.has_room()
    bench.sink._uploader = SimpleNamespace(waiting=3)  # type: ignore[assignment]
    assert not bench.sink.has_room()


def test_what_an_earlier_receiver_left_keeps_its_content(new_bench: Callable[..., Bench], spool_dir: Path) -> None:
    bench = new_bench()
    with recorded(spool_dir) as found:
        bench.pump(found, wal(0, 5000))
    bench.sink.begin(1, SIZE, SIZE)  # which leaves the file
    bench.spool.close()
    again = ReceiveSpool(opened(spool_dir))
    (left,) = again.left_over()
    assert again.begun == {segment_name(1): 5000}
    assert os.path.dirname(left) != str(spool_dir)
    assert Path(left).read_bytes()[:5000] == DATA[:5000]


def test_a_server_that_has_less_than_was_acknowledged_is_another_one(
    new_bench: Callable[..., Bench], spool_dir: Path
) -> None:
    """Also if the connection was lost once more before all of it had come again, or the receiver is a new one."""
    lineage = Lineage(1, (), SIZE)
    server = SimpleNamespace(lineage=lineage, flush_lsn=SIZE + 4000, in_recovery=False)
    bench = new_bench()
    with recorded(spool_dir) as found:
        bench.pump(found, wal(0, 5000))
        bench.sink.begin(1, SIZE, SIZE)
        bench.receiver.stop.clear()
        bench.pump(found, wal(0, 3000))
    bench.receiver._segment_size = SIZE
    with pytest.raises(ConflictError, match="diverged timeline: the archive holds WAL up to 0/101388"):
        bench.receiver._go_on(server)  # type: ignore[arg-type]
    bench.spool.close()
    later = new_bench()
    later.spool.left_over()
    assert later.sink.acknowledged_up_to(lineage) == SIZE + 5000
    assert later.sink.acknowledged_up_to(Lineage(2, (), SIZE)) == 0
