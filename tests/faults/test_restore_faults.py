"""Restores that lose their store or their disk: nothing that could be started is left, and the next run goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from barman_cloud.deadline import Deadline
from barman_cloud.errors import BarmanCloudError, ConnectivityError, ObjectChangedError, UnexpectedError
from barman_cloud.restore import extract
from barman_cloud.restore.archive_restore import restore_backup
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.faulty_store import FaultyStore
from tests.support.servers import StoreServer
from tests.unit.restore.backups import BACKUP_ID, Bucket, member, minimal

CONTENT = os.urandom(20 << 20)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(Bucket().store)


@pytest.fixture
def bucket(store: FaultyStore) -> Bucket:
    bucket = Bucket(store)
    bucket.put(minimal(member("base/5/1", CONTENT[:300_000])), compression="zstd", suffix=".zst")
    bucket.put([member("base/5/2", CONTENT[:200_000])], part=1)
    bucket.put([member("base/5/3", b"3")], part=2)
    return bucket


def restore(bucket: Bucket, target: Path) -> None:
    restore_backup(bucket.store, bucket.layout, bucket.info, target, {}, 2)
    assert (target / "base/5/1").read_bytes() == CONTENT[:300_000]
    assert (target / "base/5/2").read_bytes() == CONTENT[:200_000]
    assert (target / "base/5/3").read_bytes() == b"3"
    assert (target / "global/pg_control").exists()


def test_every_request_may_fail(store: FaultyStore, bucket: Bucket, tmp_path: Path) -> None:
    store.calls.clear()
    restore(bucket, tmp_path / "good")
    for number in range(1, len(store.calls) + 1):
        target = tmp_path / str(number)
        store.fail_call(number)
        with pytest.raises(ConnectivityError):
            restore(bucket, target)
        assert not (target / "global/pg_control").exists()
        store.failures.clear()
        restore(bucket, target)


@pytest.mark.parametrize("cut", [0, 1, 100_000, 199_999])
def test_a_download_that_breaks_off(store: FaultyStore, bucket: Bucket, target: Path, cut: int) -> None:
    store.fail("read", key="*data_0001.tar", cut=cut)
    with pytest.raises(ConnectivityError):
        restore(bucket, target)
    restore(bucket, target)


def test_an_object_that_changes_meanwhile(store: FaultyStore, bucket: Bucket, target: Path) -> None:
    store.fail("read", key="*data_0001.tar", cut=1000, error=lambda: ObjectChangedError("data_0001.tar has changed"))
    with pytest.raises(ObjectChangedError):
        restore(bucket, target)
    restore(bucket, target)


def test_the_disk_is_full(bucket: Bucket, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    written = [0]

    def write(fd: int, data: memoryview) -> int:
        written[0] += len(data)
        if written[0] > 150_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(extract.os, "write", write)
        with pytest.raises(UnexpectedError, match=r"base/5/\d: No space left on device") as caught:
            restore(bucket, target)
    assert "goes on from here" in str(caught.value.hint)
    restore(bucket, target)


def test_connections_that_are_cut_while_an_archive_is_read(rclone_s3: StoreServer, target: Path) -> None:
    url = rclone_s3.new_bucket()
    plain = Bucket(open_store(url, environ=dict(rclone_s3.environ)))
    key = plain.put(minimal(member("base/5/1", CONTENT)))
    with fault_proxy(rclone_s3.endpoint) as proxy:
        for cut in (0, 1000, 5_000_000):
            proxy.add(Fault("GET", key, cut=cut))
        proxy.add(Fault("GET", key, drop=True))
        proxy.add(Fault("GET", key, status=503))
        bucket = Bucket(
            open_store(url, options=StoreOptions(endpoint_url=proxy.endpoint), environ=dict(rclone_s3.environ))
        )
        report = restore_backup(bucket.store, bucket.layout, bucket.info, target, {}, 2)
    assert report.files == 4
    assert (target / "base/5/1").read_bytes() == CONTENT


def test_a_store_that_is_gone(rclone_s3: StoreServer, target: Path) -> None:
    url = rclone_s3.new_bucket()
    bucket = Bucket(open_store(url, environ=dict(rclone_s3.environ)))
    key = bucket.put(minimal(member("base/5/1", CONTENT)))
    with fault_proxy(rclone_s3.endpoint) as proxy:
        proxy.add(Fault("GET", key, times=1000, drop=True, only_if=lambda request: "range" in request.headers))
        options = StoreOptions(endpoint_url=proxy.endpoint, deadline=Deadline(1.0))
        store = open_store(url, options=options, environ=dict(rclone_s3.environ))
        with pytest.raises(BarmanCloudError) as caught:
            restore_backup(store, bucket.layout, bucket.info, target, {}, 2)
        assert isinstance(caught.value, ConnectivityError)
        proxy.clear()
        options = StoreOptions(endpoint_url=proxy.endpoint)
        restore_backup(
            open_store(url, options=options, environ=dict(rclone_s3.environ)),
            *(bucket.layout, bucket.info, target, {}, 2),
        )
    assert (target / "base/5/1").read_bytes() == CONTENT
    assert BACKUP_ID in key
