import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.archive import archives_json
from barman_cloud.archive.compression import compression_of, decompress_stream
from barman_cloud.archive.tar import read_members
from barman_cloud.archive.throttle import Throttle
from barman_cloud.backup import pack
from barman_cloud.backup.archive_set import ArchiveSet
from barman_cloud.backup.helper_threads import Events
from barman_cloud.backup.scan import scan_data_directory
from barman_cloud.backup.signals import Interrupted
from barman_cloud.backup.worker import Uploads
from barman_cloud.catalog.layout import Layout
from barman_cloud.errors import AccessDeniedError, ConnectivityError, OperationError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.open import open_store
from tests.support.faulty_store import FaultyStore

MIB = 1 << 20
ID = "20260102T030405"


@pytest.fixture
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return open_store(f"memory://{request.node.name}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(12):
        place = tmp_path / "base" / str(number % 3)
        place.mkdir(parents=True, exist_ok=True)
        (place / str(number)).write_bytes(bytes([number]) * MIB)
    return tmp_path


def make(store: ObjectStore, root: Path, *, jobs: int = 3, **options: object) -> ArchiveSet:
    archives = ArchiveSet(Uploads(store, Layout("", "main"), ID, **options), jobs)  # type: ignore[arg-type]
    archives.make([scan_data_directory(str(root))], Events())
    return archives


def stored(store: ObjectStore) -> dict[str, bytes]:
    """Every file of all archives; each must be there once."""
    found: dict[str, bytes] = {}
    for item in store.list(""):
        if ".tar" in item.key:
            chunks = decompress_stream([store.get(item.key)], compression_of(item.key))
            for member, content in read_members(chunks):
                if member.kind == "file":
                    assert member.name not in found
                    found[member.name] = b"".join(map(bytes, content))
    return found


@pytest.mark.parametrize("compression", [None, "lz4", "gzip"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_all_files_are_stored_once(store: ObjectStore, root: Path, jobs: int, compression: str | None) -> None:
    make(store, root, jobs=jobs, compression=compression, max_archive_size=3 * MIB)
    assert stored(store) == {f"base/{number % 3}/{number}": bytes([number]) * MIB for number in range(12)}


def test_the_parts_are_numbered_without_a_gap(store: ObjectStore, root: Path) -> None:
    make(store, root, max_archive_size=3 * MIB)
    names = [item.key.rpartition("/")[2] for item in store.list("")]
    assert sorted(names) == sorted(["data.tar", *(f"data_{number:04d}.tar" for number in range(1, len(names)))])


def test_files_that_grow_go_on_in_another_part(store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scan_data_directory(str(root))
    for path in root.rglob("*"):
        if path.is_file():
            path.write_bytes(b"x" * 2 * MIB)
    archives = ArchiveSet(Uploads(store, Layout("", "main"), ID, max_archive_size=5 * MIB), 2)
    archives.make([whole], Events())
    assert stored(store) == {f"base/{number % 3}/{number}": b"x" * 2 * MIB for number in range(12)}
    assert max(item.size for item in store.list("")) <= 5 * MIB + 10240


def test_the_sidecar_and_the_statistics_cover_every_archive(store: ObjectStore, root: Path) -> None:
    archives = make(store, root, max_archive_size=5 * MIB, compression="zstd")
    archives.add_last(iter(()), 0)
    archives.store_sidecar()
    records = archives_json.parse(store.get(f"main/base/{ID}/archives.json").decode())
    listed = {item.key.rpartition("/")[2]: item.size for item in store.list("") if ".tar" in item.key}
    assert {record.name: record.size for record in records} == listed
    assert sum(record.members for record in records) == 12 + 5
    stats = archives.copy_stats()
    assert stats["number_of_workers"] == 3
    assert set(stats["copy_time_per_item"]) == {"data"}
    assert 0 < stats["copy_time"] <= stats["total_time"]


def test_a_failing_upload_ends_the_others(store: ObjectStore, root: Path) -> None:
    faulty = FaultyStore(store)
    faulty.fail("put_stream", skip=1)
    throttle = Throttle(1000)  # so that none of the others is through before they are told
    archives = ArchiveSet(Uploads(faulty, Layout("", "main"), ID, max_archive_size=2 * MIB, throttle=throttle), 2)
    with pytest.raises(ConnectivityError):
        archives.make([scan_data_directory(str(root))], Events())
    before = len(faulty.calls)
    archives.abort()
    assert len(faulty.calls) <= before + 2


def test_an_abort_does_not_wait_for_the_throttle(store: ObjectStore, root: Path) -> None:
    others = set(threading.enumerate())
    uploads = Uploads(store, Layout("", "main"), ID, max_archive_size=2 * MIB, throttle=Throttle(1000))
    archives = ArchiveSet(uploads, 2)
    events = Events()
    timer = threading.Timer(0.3, events.fail, [Interrupted(15)])
    timer.start()
    with pytest.raises(Interrupted):
        archives.make([scan_data_directory(str(root))], events)
    archives.abort()
    assert [item.key for item in store.list("")] == []
    assert [thread.name for thread in set(threading.enumerate()) - others if thread.name.startswith("worker-")] == []


def test_more_jobs_than_archives_are_no_problem(store: ObjectStore, tmp_path: Path) -> None:
    make(store, tmp_path, jobs=8)
    assert [item.key for item in store.list("")] == [f"main/base/{ID}/data.tar"]


def test_part_sizes_reach_the_store(store: ObjectStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int | None] = []
    put_stream: Callable[..., int] = store.put_stream

    def spy(*arguments: object, part_size: int | None = None, **options: object) -> int:
        seen.append(part_size)
        return put_stream(*arguments, part_size=part_size, **options)

    monkeypatch.setattr(store, "put_stream", spy)
    make(store, root, min_chunk_size=33 * MIB)
    assert set(seen) == {33 * MIB}
    make(store, root)
    assert seen[-1] == pack.DEFAULT_PART_SIZE


def test_a_set_that_somebody_took_an_archive_from_is_not_called_complete(store: ObjectStore, root: Path) -> None:
    archives = make(store, root, max_archive_size=3 * MIB)
    key = Layout("", "main").archive(ID, "data", 1)
    store.put(key, b"another")
    with pytest.raises(OperationError, match=r"data_0001\.tar has 7 bytes instead of [0-9]+"):
        archives.store_sidecar()
    store.delete([key])
    with pytest.raises(OperationError, match=r"data_0001\.tar has vanished") as caught:
        archives.store_sidecar()
    assert "deleted while it was made" in str(caught.value.hint)


def test_credentials_that_may_not_list_are_trusted(store: ObjectStore, root: Path) -> None:
    faulty = FaultyStore(store)
    archives = make(faulty, root)
    faulty.fail("list_level", error=lambda: AccessDeniedError("no"))
    archives.store_sidecar()
    assert archives_json.parse(store.get(Layout("", "main").archives_json(ID)).decode())
