"""Locks of EBS snapshots: options, the calls, and what locked snapshots allow."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from barman_cloud.errors import ConfigurationError, LockedError, SnapshotError
from barman_cloud.snapshots.aws import LockRequest
from barman_cloud.snapshots.base import AttachedDisk, SnapshotOptions, select_disks
from barman_cloud.snapshots.deletion import delete_snapshots
from barman_cloud.snapshots.mounts import Mount
from barman_cloud.snapshots.taking import SnapshotSet
from tests.support.fake_ebs_locks import error
from tests.support.rest import Fault
from tests.support.snapshot_clouds import DISKS, AwsCloud

BACKUP_ID = "20261122T123131"


def lock_options(**options: object) -> SnapshotOptions:
    return SnapshotOptions(**{f"aws_snapshot_lock_{name}": value for name, value in options.items()})  # type: ignore[arg-type]


def test_without_a_mode_there_is_no_lock(caplog: pytest.LogCaptureFixture) -> None:
    assert LockRequest.of(SnapshotOptions()) is None
    assert LockRequest.of(lock_options(duration=3)) is None
    assert "no effect without --aws-snapshot-lock-mode" in caplog.text


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mode": "governance"}, "needs either"),
        ({"mode": "compliance", "cool_off_period": 3}, "needs either"),
        ({"mode": "governance", "duration": 1, "cool_off_period": 3}, "compliance"),
        ({"mode": "governance", "duration": 1, "expiration_date": "2099-01-01T00:00:00.0Z"}, "needs either"),
        ({"mode": "governance", "expiration_date": "2020-01-01T00:00:00.0Z"}, "in the past"),
    ],
)
def test_lock_options_that_aws_would_refuse(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as caught:
        LockRequest.of(lock_options(**options))
    assert caught.value.exit_code == 4


def test_the_date_is_meant_as_utc() -> None:
    request = LockRequest.of(
        lock_options(mode="compliance", expiration_date="2099-01-02T03:04:05.6Z", cool_off_period=72)
    )
    assert request is not None
    expires = datetime(2099, 1, 2, 3, 4, 5, 600000, UTC)
    assert request.arguments() == {"LockMode": "compliance", "ExpirationDate": expires, "CoolOffPeriod": 72}


def test_snapshots_are_locked_once_they_are_complete_and_deletion_stops(aws: AwsCloud) -> None:
    with aws.provider(aws_snapshot_lock_mode="governance", aws_snapshot_lock_duration=7) as provider:
        snapshots = SnapshotSet(provider, time.sleep)
        disks = select_disks(provider.attached_disks(aws.instance), aws.instance, DISKS)
        snapshots.take(disks, BACKUP_ID)
        snapshots.lock()
        info = snapshots.info({disk.id: Mount("/dev/x", "/mnt", "rw") for disk in disks})
    assert [snapshot["snapshot_lock_mode"] for snapshot in info.snapshots] == ["governance", "governance"]
    first, second = info.identifiers
    assert aws.server.locks[first] == {"LockMode": "governance", "LockDuration": "7"}

    del aws.server.locks[first]
    with pytest.raises(LockedError, match=f"{second}.*governance lock until 2099-01-01") as caught:
        delete_snapshots(info, BACKUP_ID, aws.options)
    assert caught.value.exit_code == 1
    assert len(aws.snapshot_names()) == 2, "the unlocked one must stay as well"

    aws.server.locks.clear()
    delete_snapshots(info, BACKUP_ID, aws.options)
    assert aws.snapshot_names() == []


def test_a_lock_that_only_the_deletion_tells_of(aws: AwsCloud) -> None:
    with aws.provider() as provider:
        disk = select_disks(provider.attached_disks(aws.instance), aws.instance, [DISKS[0]])[0]
        made = provider.begin(disk, "x")
        aws.server.locks[made.identifier] = {"LockMode": "compliance"}
        with pytest.raises(LockedError, match=made.identifier):
            provider.delete(made.identifier)


def test_a_failing_lock_leaves_nothing_behind(aws: AwsCloud) -> None:
    with aws.provider(aws_snapshot_lock_mode="governance", aws_snapshot_lock_duration=7) as provider:
        snapshots = SnapshotSet(provider, time.sleep)
        snapshots.take(select_disks(provider.attached_disks(aws.instance), aws.instance, DISKS), BACKUP_ID)
        started = snapshots._snapshots
        provider.lock(started[0])
        refusal = error(400, "InvalidParameterValue", "No.")
        aws.server.faults.append(Fault("POST", "/", refusal))
        with pytest.raises(SnapshotError, match="InvalidParameterValue"):
            provider.lock(started[1])
        snapshots.discard()
    assert aws.snapshot_names() == []


def test_outposts_and_locks_exclude_each_other(aws: AwsCloud) -> None:
    disk = AttachedDisk("d", "vol-1", ("d",), {"device_name": "/dev/sdf"}, outpost="arn:aws:outposts:x")
    with aws.provider(aws_snapshot_lock_mode="governance", aws_snapshot_lock_duration=7) as provider:
        with pytest.raises(ConfigurationError, match="Outpost arn:aws:outposts:x"):
            provider.check([disk], BACKUP_ID)
        provider.check([replace(disk, outpost=None)], BACKUP_ID)


def test_the_outpost_of_the_machine_goes_into_the_request(aws: AwsCloud) -> None:
    with aws.provider() as provider:
        disk = select_disks(provider.attached_disks(aws.instance), aws.instance, [DISKS[0]])[0]
        provider.begin(replace(disk, outpost="arn:aws:outposts:eu-west-1:1:outpost/op-1"), "x")
    request = next(request for request in aws.server.requests if b"Action=CreateSnapshot" in request.body)
    assert b"OutpostArn=arn%3Aaws%3Aoutposts" in request.body


def test_the_name_tag_is_ours(aws: AwsCloud) -> None:
    with aws.provider(tags={"Name": "mine"}) as provider, pytest.raises(ConfigurationError, match="'Name'"):
        provider.check([], BACKUP_ID)
