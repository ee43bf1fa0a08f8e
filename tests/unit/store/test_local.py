"""What is special about the local directory and the memory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barman_cloud.errors import BucketNotFoundError, ObjectNotFoundError, StoreError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.local import TEMPORARY
from barman_cloud.store.open import open_store
from barman_cloud.store.url import parse_url
from tests.support.memory_store import MemoryStore


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(f"file://{tmp_path}")


def test_files_and_directories_are_private(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/b/c", b"x")
    assert stat.S_IMODE((tmp_path / "a/b/c").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_deleting_removes_empty_directories_but_not_the_root(store: ObjectStore, tmp_path: Path) -> None:
    store.put("a/b/c", b"x")
    store.put("a/d", b"x")
    store.delete(["a/b/c"])
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["d"]
    store.delete(["a/d"])
    assert list(tmp_path.iterdir()) == []


def test_unfinished_files_are_not_objects(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY}123").write_bytes(b"half")
    (tmp_path / "empty").mkdir()
    assert list(store.list("")) == []
    assert store.list_level("") == ((), ())
    with pytest.raises(StoreError):
        store.get(f"{TEMPORARY}123")


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/missing")
    with pytest.raises(BucketNotFoundError) as raised:
        store.put("k", b"x")
    assert "mount" in (raised.value.hint or "")
    assert not (tmp_path / "missing").exists()
    store.create_bucket()
    store.put("k", b"x")


@pytest.mark.parametrize("key", ["", "/abs", "a/../../b", "..", "a/.", "a//b", "a/", "nul\0"])
def test_no_key_leaves_the_directory(store: ObjectStore, key: str) -> None:
    with pytest.raises(StoreError):
        store.put(key, b"x")


def test_an_object_in_the_way_of_a_folder(store: ObjectStore) -> None:
    store.put("a", b"x")
    with pytest.raises(StoreError, match="same name"):
        store.put("a/b", b"x")
    store.put("c/d", b"x")
    with pytest.raises(StoreError, match="same name"):
        store.put("c", b"x")
    for missing in ("a/b", "c"):
        with pytest.raises(ObjectNotFoundError):
            store.get(missing)
    store.delete(["a/b", "c"])
    assert [info.key for info in store.list("")] == ["a", "c/d"]


def test_a_full_disk_is_said_plainly(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as raised:
        store.put("k", b"x")
    assert "space" in (raised.value.hint or "")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


keys = st.lists(st.text("ab-./0~é", min_size=1, max_size=6), min_size=1, max_size=8, unique=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(keys, st.text("ab-./0", max_size=3), st.text("ab-./0", max_size=3))
def test_listings_equal_those_of_the_memory(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], prefix: str, after: str
) -> None:
    """The order of keys isn't the order in which directories are walked."""
    directory = tmp_path_factory.mktemp("store")
    local, memory = open_store(f"file://{directory}"), MemoryStore(parse_url("memory://x"))
    for name in names:
        try:
            local.put(name, b"x")
        except StoreError:
            continue
        memory.put(name, b"x")
    for start in (None, after):
        found = [info.key for info in local.list(prefix, start_after=start)]
        assert found == [info.key for info in memory.list(prefix, start_after=start)]


def test_a_killed_writer_leaves_no_object(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from barman_cloud.store.open import open_store\n"
        "def chunks():\n"
        "    yield b'x' * 100000\n"
        "    os.kill(os.getpid(), 9)\n"
        "open_store(sys.argv[1]).put_stream('k', chunks())\n"
    )
    done = subprocess.run([sys.executable, "-c", program, f"file://{tmp_path}"], timeout=60)
    assert done.returncode == -9
    assert list(open_store(f"file://{tmp_path}").list("")) == []


def test_importing_stays_cheap() -> None:
    """Opening a store and putting an object loads obstore, and neither an SDK nor an HTTP library."""
    program = (
        "import sys\n"
        "from barman_cloud.deadline import Deadline\n"
        "from barman_cloud.errors import ConnectivityError\n"
        "from barman_cloud.store.open import open_store\n"
        "from barman_cloud.store.options import StoreOptions\n"
        "environ = {'AWS_ACCESS_KEY_ID': 'a', 'AWS_SECRET_ACCESS_KEY': 'b', 'HOME': '/nonexistent'}\n"
        "options = StoreOptions(endpoint_url='http://127.0.0.1:9', deadline=Deadline(0.01))\n"
        "try:\n"
        "    open_store('s3://b', None, options, environ).put('k', b'x')\n"
        "except ConnectivityError:\n"
        "    print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert "obstore" in loaded
    heavy = {
        "botocore",
        "boto3",
        "urllib3",
        "requests",
        "http.client",
        "ssl",
        "json",
        "configparser",
        "concurrent.futures",
    }
    assert loaded & heavy == set()
