"""A direct receiver against a store that answers late, out of order, or not at all: what it acknowledges is there."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

import pytest

from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import BarmanCloudError, ConflictError, ConnectivityError
from barman_cloud.postgres.timeline import Switch
from barman_cloud.postgres.wal import parse_wal_name
from barman_cloud.store.base import Buffer, ObjectKind, StoreURL, Tags
from barman_cloud.wal import receive_direct, receive_memory, receive_segment, receive_workers
from barman_cloud.wal.archiver import ArchiveOptions, Archiver
from barman_cloud.wal.receive_direct import DirectOptions, DirectSink
from barman_cloud.wal.receive_plan import Lineage
from barman_cloud.wal.unfinished import assemble
from tests.support.memory_store import MemoryStore
from tests.support.ports import wait_for
from tests.support.segments import SIZE, segment, segment_name

FIRST = 5
WAL = b"".join(segment(number) for number in range(FIRST, FIRST + 4))
START = FIRST * SIZE


class Disturbed:
    """What happens to puts: they take their time, some fail, and none arrives after the receiver was killed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.killed = threading.Event()
        self.down = threading.Event()


class DisturbedStore(MemoryStore):
    """Fails in one of ten puts once, after it stored the object or before."""

    disturbed: Disturbed

    def put(
        self,
        key: str,
        data: Buffer,
        *,
        kind: ObjectKind = "metadata",
        if_absent: bool = False,
        tags: Tags | None = None,
    ) -> None:
        content = bytes(data)
        dice = self.disturbed.chance.random()
        time.sleep(dice * 0.004)
        if self.disturbed.killed.is_set() or self.disturbed.down.is_set():
            raise ConnectivityError("the store is away")
        if dice > 0.95:
            raise ConnectivityError("lost before it arrived")
        super().put(key, content, kind=kind, if_absent=if_absent, tags=tags)
        if dice < 0.05 and not if_absent:
            raise ConnectivityError("lost behind it")


CHUNK = 1 << 16


@pytest.fixture(autouse=True, params=[False, True], ids=["", "large"])
def large(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Whether segments count as large, so that what is stored of them leaves memory."""
    if request.param:
        monkeypatch.setattr(receive_memory, "LARGE", SIZE // 2)
        monkeypatch.setattr(receive_memory, "CHUNK", CHUNK)
        for module in (receive_segment, receive_direct):
            monkeypatch.setattr(module, "LARGEST_PIECE", 50_000)
        monkeypatch.setattr(receive_direct, "LARGE_MEMORY", 4 * SIZE)
    return bool(request.param)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(receive_workers, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(receive_workers, "LONGEST_WAIT", 0.01)
    monkeypatch.setattr(receive_workers, "DELETION_DELAY", 0.05)
    monkeypatch.setattr(receive_workers, "TIDY_PAUSE", 0.01)
    yield


@pytest.fixture
def store() -> DisturbedStore:
    found = DisturbedStore(StoreURL("memory", "bucket", "", "memory://bucket"))
    found.disturbed = Disturbed(0)
    return found


LAYOUT = Layout("", "main")


def lineage(timeline: int = 1, *history: Switch) -> Lineage:
    return Lineage(timeline, history, SIZE)


def sink_on(store: MemoryStore, epoch: int) -> DirectSink:
    archiver = Archiver(store, LAYOUT, ArchiveOptions("lz4"))
    return DirectSink(store, LAYOUT, archiver, DirectOptions(epoch, 2, 3))


def stored_bytes(store: MemoryStore, number: int) -> bytes:
    """What the archive has of a segment from its beginning on, as ``wal-restore`` would find it."""
    from barman_cloud.archive.compression import decompress_stream

    name = segment_name(number)
    try:
        return b"".join(map(bytes, decompress_stream([store.get(LAYOUT.wal(name, ".lz4"))], "lz4")))
    except BarmanCloudError:
        parsed = parse_wal_name(name)
        assert parsed is not None
        found = assemble(store, LAYOUT, parsed)
        return bytes(found.data[: found.end]) if found else b""


def acknowledged_is_stored(store: MemoryStore, flushed: int) -> None:
    for number in range(FIRST, flushed // SIZE + 1):
        expected = WAL[(number - FIRST) * SIZE : min((number - FIRST + 1) * SIZE, flushed - START)]
        assert stored_bytes(store, number)[: len(expected)] == expected, number


@pytest.mark.parametrize("seed", range(6))
def test_what_is_acknowledged_is_in_the_bucket_whatever_is_killed(store: DisturbedStore, seed: int) -> None:
    chance = random.Random(seed)
    acknowledged = START
    for epoch in range(1, 5):
        store.disturbed = Disturbed(seed * 10 + epoch)
        sink = sink_on(store, epoch)
        _until_it_arrives(partial(sink.prepare, lineage()))
        whole = next(number for number in range(FIRST, FIRST + 9) if not _is_full(store, number))
        assert sink.acknowledged_up_to(lineage()) in (0, *range(acknowledged, START + len(WAL) + 1))
        sink.begin(1, whole * SIZE, SIZE)
        until = chance.randrange(0, len(WAL)) if epoch < 4 else len(WAL)
        for _ in range(100_000):
            position = sink.written - START
            if position >= until:
                break
            if not sink.has_room():
                sink.wait_for_room(0.01)
                continue
            piece = WAL[position : min(position + chance.choice((100, 3000, 60_000)), until)]
            behind = chance.random() < 0.3
            sink.take(memoryview(piece), START + (len(WAL) if behind else position + len(piece)))
            if not behind:
                sink.pause(caught_up=True)
        else:
            raise AssertionError("no progress")
        if epoch == 4:
            sink.settle(60)
            assert sink.flushed == START + len(WAL)
        acknowledged = max(acknowledged, sink.flushed)
        store.disturbed.killed.set()
        acknowledged_is_stored(store, acknowledged)
        sink._shared.fail(RuntimeError("killed"))
    store.disturbed = Disturbed(99)
    for number in range(FIRST, FIRST + 4):
        assert stored_bytes(store, number) == segment(number)


def _until_it_arrives(action: Callable[[], object]) -> None:
    """Try again, as real stores do by themselves."""
    for _ in range(100):
        with suppress(ConnectivityError):
            action()
            return
    raise AssertionError("no request arrives")


def _is_full(store: MemoryStore, number: int) -> bool:
    return any(item.key.endswith(".lz4") for item in store.list(LAYOUT.wal(segment_name(number))))


def test_pieces_are_merged_and_go_once_the_segment_is_whole(store: DisturbedStore) -> None:
    sink = sink_on(store, 7)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    for position in range(0, SIZE - 2000, 2000):
        sink.take(memoryview(WAL[position : position + 2000]), START + position + 2000)
        sink.settle(60)
        if position == 400_000:  # long before its end; of 201
            wait_for(lambda: sum(1 for _ in store.list(LAYOUT.pieces_dir)) < 100, what="the first pieces to be merged")
    assert sink.flushed == sink.written
    wait_for(lambda: sum(1 for _ in store.list(LAYOUT.pieces_dir)) < 100, what="pieces to be merged")
    acknowledged_is_stored(store, sink.flushed)
    sink.take(memoryview(WAL[sink.written - START : SIZE]), START + SIZE)
    wait_for(lambda: not list(store.list(LAYOUT.pieces_dir)), what="the pieces to be deleted")
    assert stored_bytes(store, FIRST) == segment(FIRST)
    assert sink.flushed == START + SIZE


def test_nothing_is_acknowledged_while_the_store_is_away(store: DisturbedStore) -> None:
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    store.disturbed.down.set()
    sink.take(memoryview(WAL[:5000]), START + 5000)
    sink.settle(0.1)
    assert sink.flushed == sink.received == START
    wait_for(lambda: sink.problem is not None, what="the outage to be noticed")
    assert sink.waiting == 5000
    while sink.has_room():
        position = sink.written - START
        sink.take(memoryview(WAL[position : position + 100_000]), START + len(WAL))
    assert sink.written - START <= 4 * SIZE
    store.disturbed.down.clear()
    sink.settle(60)
    assert sink.flushed == sink.written
    wait_for(lambda: sink.problem is None, what="the store to be back")


def test_another_past_is_refused_and_what_is_there_stays(store: DisturbedStore) -> None:
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    sink.take(memoryview(WAL[:50_000]), START + 50_000)
    sink.settle(60)
    other = bytearray(segment(FIRST, content=1))
    other[:20_000] = WAL[:20_000]
    later = sink_on(store, 2)
    later.prepare(lineage())
    assert later.acknowledged_up_to(lineage()) == START + 50_000
    later.begin(1, START, SIZE)
    with pytest.raises(ConflictError, match=r"diverged timeline: .* from byte 2"):
        later.take(memoryview(bytes(other[:60_000])), START + 60_000)
    assert later.flushed == START
    acknowledged_is_stored(store, START + 50_000)
    with pytest.raises(ConflictError, match="diverged timeline"):
        sink_on(store, 3).prepare(Lineage(0, (), SIZE))


def test_the_same_wal_on_another_connection_is_compared_not_stored_again(store: DisturbedStore) -> None:
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    sink.take(memoryview(WAL[:50_000]), START + 50_000)
    sink.settle(60)
    puts = store.requests.counts["put"]
    sink.begin(1, START, SIZE)
    assert sink.flushed == START
    sink.take(memoryview(WAL[:30_000]), START + 50_000)
    assert sink.flushed == START + 30_000
    sink.take(memoryview(WAL[30_000:60_000]), START + 60_000)
    sink.settle(60)
    assert sink.flushed == START + 60_000
    assert store.requests.counts["put"] == puts + 1
    with pytest.raises(ConflictError):
        sink.begin(1, START, SIZE)
        sink.take(memoryview(b"x" * 100), START + 60_000)


def test_the_end_of_a_timeline_is_kept_as_a_partial_segment(store: DisturbedStore) -> None:
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    sink.take(memoryview(WAL[:50_000]), START + 50_000)
    sink.end_timeline()
    new = segment(FIRST, timeline=2)
    sink.begin(2, START, SIZE)
    sink.take(memoryview(new[:60_000]), START + 60_000)
    sink.settle(60)
    wait_for(lambda: sink.flushed == START + 60_000, what="the new timeline to be durable")
    name = segment_name(FIRST)
    wait_for(lambda: not list(store.list(LAYOUT.pieces_of(name))), what="the old pieces to go")
    (partial,) = [item.key for item in store.list(LAYOUT.wal(f"{name}.partial"))]
    assert partial.endswith(".lz4")
    sink.end()
    keys = [item.key for item in store.list(LAYOUT.wals_dir)]
    assert any(f"00000002{name[8:]}.partial" in key for key in keys), keys


def test_pieces_of_a_timeline_that_was_left_become_a_partial_segment(store: DisturbedStore) -> None:
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    sink.take(memoryview(WAL[:50_000]), START + 50_000)
    sink.settle(60)
    later = sink_on(store, 2)
    later.prepare(lineage(2, Switch(1, START + 40_000)))
    name = segment_name(FIRST)
    assert len(list(store.list(LAYOUT.wal(f"{name}.partial")))) == 1
    wait_for(lambda: not list(store.list(LAYOUT.pieces_of(name))), what="the old pieces to go")
    assert later.acknowledged_up_to(lineage(2)) == 0


def test_pieces_go_only_if_the_full_segment_is_what_was_acknowledged(store: DisturbedStore) -> None:
    name = segment_name(FIRST)
    MemoryStore.put(store, LAYOUT.piece(name, 0, 50_000, 1), WAL[:50_000])
    MemoryStore.put(store, LAYOUT.wal(name), segment(FIRST, content=1))
    with pytest.raises(ConflictError, match="differs from what was acknowledged of segment"):
        sink_on(store, 2).prepare(lineage())
    MemoryStore.put(store, LAYOUT.wal(name), segment(FIRST))
    sink = sink_on(store, 3)
    sink.prepare(lineage())
    assert sink.acknowledged_up_to(lineage()) == 0
    wait_for(lambda: not list(store.list(LAYOUT.pieces_dir)), what="the pieces to go")


def test_memory_is_bounded_while_one_segment_cannot_be_stored(
    store: DisturbedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = store.put

    def refusing(key: str, data: Buffer, **how: object) -> None:
        if segment_name(FIRST) in key:
            raise ConnectivityError("this one never")
        put(key, data, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "put", refusing)
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    for number in range(4):  # of which the others are archived
        assert sink.has_room()
        sink.take(memoryview(WAL[number * SIZE : (number + 1) * SIZE]), START + len(WAL))
    assert not sink.has_room()
    wait_for(lambda: store.list_level(LAYOUT.wals_dir).folders, what="a segment to be archived")
    assert not sink.has_room()
    assert sink.flushed == START
    sink._shared.fail(RuntimeError("the end of the test"))


def test_what_is_stored_of_a_large_segment_leaves_memory(
    store: DisturbedStore, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not large:
        pytest.skip("smaller ones are in memory as a whole")
    monkeypatch.setattr(receive_direct, "LARGE_MEMORY", 5 * CHUNK)
    sink = sink_on(store, 1)
    sink.prepare(lineage())
    sink.begin(1, START, SIZE)
    most = 0
    end = 15 * CHUNK + 1000
    while sink.written < START + end:
        if not sink.has_room():
            sink.wait_for_room(0.01)
            continue
        position = sink.written - START
        sink.take(memoryview(WAL[position : min(position + 20_000, end)]), START + len(WAL))
        most = max(most, sum(segment.held for segment in sink._shared.open))
    sink.settle(60)
    assert sink.flushed == START + end
    assert most <= 6 * CHUNK
    assert sink._shared.open[-1].held == CHUNK

    # Another receiver compares what comes once more by digests: nothing of it counts before its chunk agrees.
    later = sink_on(store, 2)
    later.prepare(lineage())
    assert later.acknowledged_up_to(lineage()) == START + end
    later.begin(1, START, SIZE)
    later.take(memoryview(WAL[: CHUNK + 5000]), START + SIZE)
    assert later.flushed == START + CHUNK
    changed = bytearray(WAL[CHUNK + 5000 : 3 * CHUNK])
    changed[100] ^= 1
    with pytest.raises(ConflictError, match=f"diverged timeline: .* from byte {CHUNK} on"):
        later.take(memoryview(bytes(changed)), START + SIZE)
    assert later.flushed <= START + CHUNK
    acknowledged_is_stored(store, START + end)

    last = sink_on(store, 3)
    last.prepare(lineage())
    last.begin(1, START, SIZE)
    for position in range(0, SIZE, 20_000):
        last.take(memoryview(WAL[position : min(position + 20_000, SIZE)]), START + SIZE)
    wait_for(lambda: not list(store.list(LAYOUT.pieces_dir)), what="the full segment to replace its pieces")
    assert stored_bytes(store, FIRST) == segment(FIRST)
