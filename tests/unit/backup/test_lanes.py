import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.archive.tar import Member, read_members
from barman_cloud.archive.throttle import Throttle
from barman_cloud.backup import lanes
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.helper_threads import Events
from barman_cloud.backup.lanes import Lanes
from barman_cloud.backup.worker import Uploads
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import ConnectivityError
from barman_cloud.store.base import Buffer, ObjectStore
from barman_cloud.store.open import open_store
from tests.support.faulty_store import FaultyStore

MIB = 1 << 20
ID = "20260102T030405"


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return open_store(f"memory://{request.node.name}")


def archives(store: ObjectStore, jobs: int = 2, **options: object) -> ArchiveSet:
    return ArchiveSet(Uploads(store, Layout("", "main"), ID, **options), jobs)  # type: ignore[arg-type]


def pieces(data: bytes) -> Iterator[memoryview]:
    """Content as a server's messages bring it."""
    for start in range(0, len(data), 32768):
        yield memoryview(data)[start : start + 32768]


def dealing(files: dict[str, bytes], base: str = "data", size: int | None = None) -> Callable[[Lanes], None]:
    def deal(to: Lanes) -> None:
        to.begin(base, sum(map(len, files.values())) if size is None else size)
        to.deal(Member(".", "directory"), ())
        for name, data in files.items():
            to.deal(Member(name, size=len(data)), pieces(data))

    return deal


def stored(store: ObjectStore) -> dict[str, dict[str, bytes]]:
    """The files of each archive."""
    found = {}
    for item in store.list(""):
        chunks = decompress_stream([store.get(item.key)], compression_of(item.key))
        members = [(member, b"".join(map(bytes, content))) for member, content in read_members(chunks)]
        found[item.key.rpartition("/")[2]] = {member.name: data for member, data in members if member.kind == "file"}
    return found


@pytest.mark.parametrize("compression", [None, "lz4"])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_file_is_stored_once_and_whole(store: ObjectStore, jobs: int, compression: str | None) -> None:
    chance = random.Random(jobs)
    sizes = [chance.choice((0, 1, 511, 512, 8192, 300_000, 2 * MIB)) for _ in range(120)]
    files = {f"base/{number}": chance.randbytes(size) for number, size in enumerate(sizes)}
    made = archives(store, jobs, compression=compression, max_archive_size=8 * MIB)
    made.receive(dealing(files), sum(sizes), Events())
    found = stored(store)
    assert {name: data for members in found.values() for name, data in members.items()} == files
    assert sum(map(len, found.values())) == len(files)
    assert len(found) > jobs
    suffix = ".lz4" if compression else ""
    assert sorted(found) == sorted(
        f"data{f'_{number:04d}' if number else ''}.tar{suffix}" for number in range(len(found))
    )


def test_no_archive_is_above_the_limit_unless_one_file_is(store: ObjectStore) -> None:
    files = {str(number): bytes(size * MIB) for number, size in enumerate((1, 2, 1, 9, 1, 2, 2, 1))}
    made = archives(store, max_archive_size=4 * MIB)
    made.receive(dealing(files), sum(map(len, files.values())), Events())
    for members in stored(store).values():
        assert len(members) == 1 or sum(map(len, members.values())) <= 4 * MIB


def test_each_base_has_archives_of_its_own(store: ObjectStore) -> None:
    made = archives(store)

    def deal(to: Lanes) -> None:
        dealing({"PG/1": b"a", "PG/2": b"b"}, "16384")(to)
        dealing({"PG/1": b"c"}, "16385", size=0)(to)
        dealing({"x": b"d"})(to)

    made.receive(deal, 1000, Events())
    assert stored(store) == {
        "16384.tar": {"PG/1": b"a", "PG/2": b"b"},
        "16385.tar": {"PG/1": b"c"},
        "data.tar": {"x": b"d"},
    }


def test_large_files_in_a_row_go_to_different_archives(store: ObjectStore) -> None:
    files = {str(number): bytes(8 * MIB) for number in range(6)}
    made = archives(store, 3, max_archive_size=64 * MIB)
    made.receive(dealing(files, size=200 * MIB), 200 * MIB, Events())
    assert len(stored(store)) >= 3


def test_a_slow_store_holds_the_stream_back(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in memory is bounded, whatever the stream has."""
    monkeypatch.setattr(lanes, "QUEUED", 2 * MIB)
    throttle = Throttle(MIB // 4)
    made = archives(store, 1, throttle=throttle)
    read = 0

    def content() -> Iterator[Buffer]:
        nonlocal read
        for _ in range(60):
            read += MIB
            yield bytes(MIB)

    def deal(to: Lanes) -> None:
        to.begin("data", 0)
        to.deal(Member("large", size=60 * MIB), content())

    events = Events()
    thread = threading.Thread(target=lambda: made.receive(deal, 0, events))
    thread.start()
    time.sleep(0.5)
    # In a minute of it as much went through as a queue, a batch on each side, and a part hold.
    assert read < 16 * MIB
    throttle.open()
    thread.join(60)
    assert [len(data) for members in stored(store).values() for data in members.values()] == [60 * MIB]


def test_an_upload_that_fails_ends_the_rest_at_once(store: ObjectStore) -> None:
    others = set(threading.enumerate())
    faulty = FaultyStore(store)
    faulty.fail("put_stream", cut=MIB, key="*data_0001*")
    made = archives(faulty, 2, max_archive_size=8 * MIB)
    files = {str(number): bytes(4 * MIB) for number in range(50)}
    with pytest.raises(ConnectivityError):
        made.receive(dealing(files), 200 * MIB, Events())
    made.abort()
    assert not made.is_receiving
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("lane-")]


def test_an_error_in_the_stream_is_the_one_that_is_raised(store: ObjectStore) -> None:
    others = set(threading.enumerate())
    made = archives(store)

    def broken() -> Iterator[Buffer]:
        yield b"x" * 100
        raise ConnectivityError("the server went away")

    def deal(to: Lanes) -> None:
        to.begin("data", 1000)
        to.deal(Member("a", size=1000), broken())

    with pytest.raises(ConnectivityError, match="the server went away"):
        made.receive(deal, 1000, Events())
    made.abort()
    assert not [thread for thread in set(threading.enumerate()) - others if thread.name.startswith("lane-")]
    assert list(store.list("")) == []
