"""list, list_level and delete, also with keys that others made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from barman_cloud.errors import BarmanCloudError, ObjectNotFoundError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.providers import AZURE
from tests.store.answers import BY_BYTES, FOREIGN, ODD
from tests.store.cases import StoreCase


def keys(store: ObjectStore, prefix: str = "", **arguments: str) -> list[str]:
    return [info.key for info in store.list(prefix, **arguments)]


def test_prefix_is_any_string(store: ObjectStore) -> None:
    for key in ("wals/00000001", "wals/00000002", "wals/0000000200", "wals-x", "walsy/a"):
        store.put(key, b"")
    assert keys(store, "wals/00000002") == ["wals/00000002", "wals/0000000200"]
    assert keys(store, "wals/") == ["wals/00000001", "wals/00000002", "wals/0000000200"]
    assert keys(store, "wals") == ["wals-x", "wals/00000001", "wals/00000002", "wals/0000000200", "walsy/a"]
    assert keys(store, "nothing") == []
    assert keys(store) == keys(store, "w")


def test_an_object_beside_a_folder_of_its_name(case: StoreCase, store: ObjectStore) -> None:
    if not case.answers.beside_folder:
        pytest.skip("this store keeps its objects as files")
    store.put("p", b"x")
    store.put("p/q", b"x")
    assert keys(store, "p") == ["p", "p/q"]
    assert store.list_level("").folders == ("p/",)
    assert [info.key for info in store.list_level("").objects] == ["p"]


def test_ascending_by_the_bytes_of_the_keys(case: StoreCase, store: ObjectStore) -> None:
    """As UTF-8, not as UTF-16, and without regard to folders; WAL names rely on the order, other keys may be odd."""
    if not case.answers.ordered:
        pytest.skip("this server sorts otherwise, at least beyond ASCII")
    names = BY_BYTES if case.answers.beside_folder else [key for key in BY_BYTES if key != "a"]
    for key in reversed(names):
        store.put(key, b"x")
    assert keys(store) == names


def test_start_after(store: ObjectStore) -> None:
    for key in ("p/a", "p/b/c", "p/b0", "p/b-", "p/c"):
        store.put(key, b"x")
    everything = keys(store, "p/")
    for position, key in enumerate(everything):
        assert keys(store, "p/", start_after=key) == everything[position + 1 :]
    assert keys(store, "p/", start_after="p/bb") == ["p/c"]
    assert keys(store, "p/", start_after="a") == everything


def test_sizes_and_times_are_listed(store: ObjectStore) -> None:
    store.put("k", b"12345")
    (info,) = store.list("k")
    assert (info.size, info.last_modified is not None) == (5, True)


def test_one_level(store: ObjectStore) -> None:
    for key in ("s/base/1/info", "s/base/1/data", "s/base/2/info", "s/base/file", "s/wals/x", "s/base0"):
        store.put(key, b"x")
    level = store.list_level("s/base/")
    assert level.folders == ("s/base/1/", "s/base/2/")
    assert [info.key for info in level.objects] == ["s/base/file"]
    assert store.list_level("s/").folders == ("s/base/", "s/wals/")
    assert [info.key for info in store.list_level("s/").objects] == ["s/base0"]
    assert store.list_level("").folders == ("s/",)
    empty = store.list_level("none/")
    assert (empty.folders, empty.objects) == ((), ())


@pytest.mark.parametrize("key", ODD)
def test_odd_keys_one_to_one(case: StoreCase, store: ObjectStore, key: str) -> None:
    if case.provider == AZURE:
        key = key.replace("\\", "")  # Azure itself turns a backslash into a slash.
    store.put(key, key.encode())
    assert store.get(key) == key.encode()
    assert store.head(key).key == key
    assert b"".join(store.read(key)) == key.encode()
    assert keys(store) == [key]
    folder = key.rpartition("/")[0] + "/"
    assert [info.key for info in store.list_level(folder).objects] == [key]
    store.delete([key])
    assert keys(store) == []


@pytest.mark.parametrize("key", FOREIGN)
def test_keys_of_other_programs(case: StoreCase, store: ObjectStore, key: str) -> None:
    """Keys that have no place in our layout are used 1:1, or the store says that it can't have them."""
    store.put("ours", b"x")
    try:
        store.put(key, b"foreign")
    except BarmanCloudError as error:
        assert case.bucket_url(store.url.text) in str(error)
        assert key not in keys(store)
        return
    listed = keys(store)
    assert sorted(listed) == sorted(["ours", key])
    assert store.get(key) == b"foreign"
    assert b"".join(store.read(key, start=2)) == b"reign"
    assert store.head(key).size == 7
    store.delete([key])
    assert keys(store) == ["ours"]
    with pytest.raises(ObjectNotFoundError):
        store.get(key)


def test_more_than_a_thousand_keys(store: ObjectStore) -> None:
    names = [f"many/{number:05}" for number in range(1203)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: store.put(name, b"x"), [*names, "other"]))
    assert keys(store, "many/") == names
    assert [info.key for info in store.list_level("many/").objects] == names
    assert keys(store, "many/", start_after=names[1100]) == names[1101:]
    store.delete(names[:1100])
    assert keys(store) == [*names[1100:], "other"]
    store.delete(iter(names[1100:]), batch_size=7)
    assert keys(store) == ["other"]


def test_listing_is_lazy(cloud: StoreCase, tmp_path: object) -> None:
    store = cloud.open(cloud.new_url(tmp_path))  # type: ignore[arg-type]
    store.put("k", b"")
    listing = store.list("")
    assert "list" not in store.requests.counts
    next(listing)
    assert store.requests.counts["list"] == 1


def test_deleting_what_is_not_there(store: ObjectStore) -> None:
    store.put("b", b"x")
    store.put("d", b"x")
    store.delete(["a", "b", "c", "d", "e"])
    assert keys(store) == []
    store.delete([])
    store.delete(["a"])


@pytest.mark.parametrize("batch_size", [None, 0, 1, 10_000])
def test_batch_size_is_clamped(store: ObjectStore, batch_size: int | None) -> None:
    for number in range(5):
        store.put(str(number), b"x")
    store.delete([str(number) for number in range(5)], batch_size=batch_size)
    assert keys(store) == []
