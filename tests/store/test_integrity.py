"""Bytes that change on the way to a store, in it, or on the way back."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, ConnectivityError, IntegrityError, ObjectNotFoundError, StoreError
from barman_cloud.store.base import ObjectStore
from barman_cloud.store.integrity import CHECKSUM
from barman_cloud.store.providers import AZURE, GOOGLE
from tests.store.cases import StoreCase
from tests.support.fault_proxy import Fault, FaultProxy, SeenRequest, alter_answer, with_etag, without_content

MIB = 1 << 20
PART = 5 * MIB


@pytest.fixture
def proxy(cloud: StoreCase) -> Iterator[FaultProxy]:
    with cloud.proxied() as proxy:
        yield proxy


@pytest.fixture
def proxied(cloud: StoreCase, proxy: FaultProxy, tmp_path: Path) -> ObjectStore:
    """Every cloud store in turn, through the proxy."""
    return cloud.open(cloud.new_url(tmp_path), endpoint=proxy.endpoint)


def uploads_of(cloud: StoreCase, part: int) -> tuple[str, str]:
    """Return the method and what is in the path of the request that uploads a part."""
    if cloud.provider == AZURE:
        return "PUT", "comp=block&"
    return "PUT", f"partNumber={part}&"


@pytest.mark.parametrize("if_absent", [False, True])
@pytest.mark.parametrize("size", [1, 3000, 3 * MIB])
def test_an_upload_altered_on_the_way_is_noticed_and_sent_again(
    proxied: ObjectStore, proxy: FaultProxy, size: int, if_absent: bool
) -> None:
    data = os.urandom(size)
    fault = proxy.add(Fault("PUT", "/k", alter=True))
    proxied.put("k", data, if_absent=if_absent)
    assert fault.times == 0
    assert proxied.get("k") == data


def test_an_upload_that_is_always_altered_fails_and_leaves_nothing(
    cloud: StoreCase, proxy: FaultProxy, tmp_path: Path
) -> None:
    url = cloud.new_url(tmp_path)
    store = cloud.open(url, endpoint=proxy.endpoint, deadline=Deadline(4))
    proxy.add(Fault("PUT", "/k", alter=True, times=1000))
    with pytest.raises(ConnectivityError):
        store.put("k", os.urandom(3000), if_absent=True)
    with cloud.open(url) as patient, pytest.raises(ObjectNotFoundError):
        patient.get("k")


@pytest.mark.parametrize("part", [1, 2, 3])
def test_a_part_altered_on_the_way_is_noticed_and_sent_again(
    cloud: StoreCase, proxied: ObjectStore, proxy: FaultProxy, part: int
) -> None:
    data = os.urandom(2 * PART + MIB)
    fault = proxy.add(Fault(*uploads_of(cloud, part), alter=True))
    try:
        proxied.put_stream("k", iter([data]), part_size=PART, concurrency=2)
    except BarmanCloudError:
        assert cloud.name in ("rclone", "given"), (
            "it may write a part before it has seen all of it, and can't take it back"
        )
        return
    finally:
        assert fault.times == 0
    assert b"".join(proxied.read("k")) == data


@pytest.mark.parametrize("size", [1, 3000, 5 * MIB])
def test_an_answer_altered_on_the_way_is_noticed_and_asked_for_again(
    proxied: ObjectStore, proxy: FaultProxy, size: int
) -> None:
    data = os.urandom(size)
    proxied.put("k", data)
    fault = proxy.add(Fault("GET", "/k", change=alter_answer))
    assert proxied.get("k") == data
    assert fault.times == 0


def test_an_answer_that_is_always_altered_is_an_error(proxied: ObjectStore, proxy: FaultProxy) -> None:
    proxied.put("k", os.urandom(3000))
    proxy.add(Fault("GET", "/k", change=alter_answer, times=1000))
    with pytest.raises(IntegrityError, match="another checksum than it was stored with"):
        proxied.get("k")


def test_a_key_that_only_our_own_requests_can_name_is_checked_as_well(
    cloud: StoreCase, proxied: ObjectStore, proxy: FaultProxy
) -> None:
    if "a//b" in cloud.answers.changed_keys:
        pytest.skip("this store keeps its objects as files")
    data = os.urandom(3000)
    compares = cloud.answers.content_md5 is not False
    if compares:
        fault = proxy.add(Fault("PUT", "odd", alter=True))
    proxied.put("odd//key", data)
    if compares:
        assert fault.times == 0
    assert proxied.get("odd//key") == data
    proxy.add(Fault("GET", "odd", change=alter_answer))
    with pytest.raises(IntegrityError):
        proxied.get("odd//key")


def test_objects_of_other_programs_have_no_checksum_and_are_read_all_the_same(
    cloud: StoreCase, proxied: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from barman_cloud.store import cloud as module

    monkeypatch.setattr(module, "metadata_of", lambda data: {})
    proxied.put("k", b"by Barman")
    assert proxied.get("k") == b"by Barman"


@pytest.mark.parametrize("key", ["k", "odd//key"])
def test_an_answer_that_loses_its_content_is_no_empty_object(
    cloud: StoreCase, proxied: ObjectStore, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Of a program whose objects have no checksum: an annotation, ``backup.info`` or history file without content would
    mean something else.
    """
    from barman_cloud.store import cloud as module

    if key != "k" and "a//b" in cloud.answers.changed_keys:
        pytest.skip("this store keeps its objects as files")
    monkeypatch.setattr(module, "metadata_of", lambda data: {})
    proxied.put(key, b"by Barman")
    name = key.rpartition("/")[2]

    def is_content(request: SeenRequest) -> bool:  # Google's metadata of an object are a GET as well
        return "/o/" not in request.path or "alt=media" in request.path

    fault = proxy.add(Fault("GET", name, change=without_content, only_if=is_content))
    assert proxied.get(key) == b"by Barman"
    assert fault.times == 0
    proxy.add(Fault("GET", name, change=without_content, only_if=is_content, times=1000))
    with pytest.raises(IntegrityError, match=f"{name} came without content, and is 9 bytes long"):
        proxied.get(key)
    with pytest.raises((IntegrityError, StoreError)):
        list(proxied.read(key))


def test_an_object_may_be_empty(proxied: ObjectStore) -> None:
    proxied.put("k", b"")
    assert proxied.get("k") == b""
    assert list(proxied.read("k")) == []


def test_the_checksum_is_user_metadata(cloud: StoreCase, proxied: ObjectStore, proxy: FaultProxy) -> None:
    proxied.put("k", b"content", tags={"a": "b"})
    prefix = {AZURE: "x-ms-meta-", GOOGLE: "x-goog-meta-"}.get(str(cloud.provider), "x-amz-meta-")
    (sent,) = proxy.requests("PUT", "/k")
    assert sent.headers[prefix + CHECKSUM] == f"{zlib.crc32(b'content'):08x}"


def test_a_store_whose_etags_are_no_md5_is_learned_by_reading_back(s3: StoreCase, tmp_path: Path) -> None:
    """So it is where the store encrypts with keys of its own: nobody tells us."""
    with s3.proxied() as proxy:
        store = s3.open(s3.new_url(tmp_path), endpoint=proxy.endpoint)
        proxy.add(Fault("PUT", "/k", change=with_etag('"0123456789abcdef0123456789abcdef"'), times=2))
        store.put("k", b"content")
        store.put("k", b"content")
        assert len(proxy.requests("GET", "/k")) == 1
        proxy.add(Fault("PUT", "partNumber=1", alter=True))
        store.put_stream("k", iter([os.urandom(PART + 1)]), part_size=PART)
