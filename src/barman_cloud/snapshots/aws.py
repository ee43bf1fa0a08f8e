"""Snapshots of EBS volumes, through boto3."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.errors import (
    AccessDeniedError,
    BarmanCloudError,
    ConfigurationError,
    ConnectivityError,
    LockedError,
    SnapshotError,
)
from barman_cloud.snapshots.base import (
    COMPLETE,
    AttachedDisk,
    ExistingSnapshot,
    SnapshotOptions,
    SnapshotProvider,
    StartedSnapshot,
    missing_extra,
)

if TYPE_CHECKING:
    from barman_cloud.snapshots.mounts import Host

log = logs.get_logger(__name__)

_LIVE_STATES = ["pending", "running", "shutting-down", "stopping", "stopped"]
_NOT_FOUND = ("InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed")
_ACCESS_DENIED = ("UnauthorizedOperation", "AuthFailure", "InvalidClientTokenId", "AccessDenied", "OptInRequired")
_ROOT_DEVICES = ("/dev/sda1", "/dev/xvda")
_VISIBLE_AFTER = 60.0
"""Seconds within which a new snapshot may still be unknown to other calls ("Eventual consistency", EC2 API)."""
_MAX_TAG_VALUE = 256


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What LockSnapshot is asked for; exactly one of ``duration`` (days) and ``expires`` is set."""

    mode: str
    duration: int | None = None
    expires: datetime | None = None
    cool_off: int | None = None
    """Hours."""

    @classmethod
    def of(cls, options: SnapshotOptions) -> LockRequest | None:
        """Read the lock options; ``ConfigurationError`` for what AWS would refuse once the snapshots are made."""
        mode = options.aws_snapshot_lock_mode
        date = options.aws_snapshot_lock_expiration_date
        duration = options.aws_snapshot_lock_duration
        cool_off = options.aws_snapshot_lock_cool_off_period
        if mode is None:
            if date or duration or cool_off:
                log.warning("the snapshot lock options have no effect without --aws-snapshot-lock-mode")
            return None
        if mode == "governance" and cool_off is not None:
            raise ConfigurationError("--aws-snapshot-lock-cool-off-period needs --aws-snapshot-lock-mode compliance")
        if (date is None) == (duration is None):
            raise ConfigurationError(
                f"--aws-snapshot-lock-mode {mode} needs "
                "either --aws-snapshot-lock-duration or --aws-snapshot-lock-expiration-date"
            )
        expires = datetime.strptime(date, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC) if date else None
        if expires and expires <= datetime.now(UTC):
            raise ConfigurationError(f"--aws-snapshot-lock-expiration-date {date} is in the past")
        return cls(mode, duration, expires, cool_off)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of boto3's ``lock_snapshot`` besides the snapshot."""
        given = {
            "LockMode": self.mode,
            "LockDuration": self.duration,
            "ExpirationDate": self.expires,
            "CoolOffPeriod": self.cool_off,
        }
        return {key: value for key, value in given.items() if value is not None}


def connect(options: SnapshotOptions) -> AwsSnapshots:
    """Open EC2 with the profile and region of the options, else as boto3 finds them."""
    lock = LockRequest.of(options)
    try:
        import boto3.session
        from botocore.config import Config
    except ModuleNotFoundError as error:
        raise missing_extra("AWS", error.name, "aws") from None
    with _translated("EC2"):
        session = boto3.session.Session(profile_name=options.aws_profile, region_name=options.aws_region)
        # The call about locks is a courtesy that some services lack: it isn't worth long retries.
        impatient = Config(retries={"mode": "standard", "total_max_attempts": 2})
        return AwsSnapshots(session.client("ec2"), session.client("ec2", config=impatient), options, lock)


class AwsSnapshots(SnapshotProvider):
    """Elastic Block Store. Identifiers are snapshot ids; a snapshot's name is its tag ``Name``."""

    kind = "aws"
    poll_seconds = 15.0

    def __init__(
        self, client: Any, lock_client: Any, options: SnapshotOptions, lock: LockRequest | None = None
    ) -> None:
        self._ec2 = client
        self._locks = lock_client
        self._lock = lock
        self._tags = options.tags
        self.wait_timeout = float(options.aws_await_snapshots_timeout)

    def attached_disks(self, instance: str) -> list[AttachedDisk]:
        machine = self._find_instance(instance)
        roots = {machine.get("RootDeviceName"), *_ROOT_DEVICES}
        instance_id = machine["InstanceId"]
        with _translated(f"volumes of instance {instance}"):
            pages = self._ec2.get_paginator("describe_volumes").paginate(
                Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}]
            )
            volumes = [volume for page in pages for volume in page["Volumes"]]
        disks = []
        for volume in volumes:
            # A volume with multi-attach is on several machines.
            device = next(a["Device"] for a in volume["Attachments"] if a["InstanceId"] == instance_id)
            name = _name_tag(volume)
            disks.append(
                AttachedDisk(
                    name=name or volume["VolumeId"],
                    id=volume["VolumeId"],
                    aliases=(volume["VolumeId"], name) if name else (volume["VolumeId"],),
                    record={"device_name": device},
                    is_root=device in roots,
                    cloned_from=volume.get("SnapshotId") or None,
                    outpost=machine.get("OutpostArn"),
                )
            )
        return disks

    def cloned_from(self, disk: AttachedDisk) -> str | None:
        return disk.cloned_from

    def local_device(self, disk: AttachedDisk, host: Host) -> str | None:
        return host.by_nvme_serial(disk.id.replace("-", "")) or host.by_name(str(disk.record["device_name"]))

    def check(self, disks: Sequence[AttachedDisk], backup_id: str) -> None:
        if "Name" in self._tags:
            raise ConfigurationError("the tag 'Name' can't be given: it holds the snapshot's name")
        for disk in disks:
            if len(disk.name) + 1 + len(backup_id) > _MAX_TAG_VALUE:
                raise SnapshotError(f"disk name {disk.name} is too long for a snapshot's name tag")
            if disk.outpost and self._lock:
                raise ConfigurationError(
                    f"snapshots of {disk.name} can't be locked: its instance is on Outpost {disk.outpost}",
                    hint="leave out --aws-snapshot-lock-mode",
                )

    def begin(self, disk: AttachedDisk, name: str) -> StartedSnapshot:
        tags = [{"Key": "Name", "Value": name}, *({"Key": key, "Value": text} for key, text in self._tags.items())]
        request = {"VolumeId": disk.id, "TagSpecifications": [{"ResourceType": "snapshot", "Tags": tags}]}
        if disk.outpost:
            request["OutpostArn"] = disk.outpost
        with _translated(f"snapshot of volume {disk.id}"):
            answer = self._ec2.create_snapshot(**request)
        identifier = answer["SnapshotId"]
        record = {**disk.record, "snapshot_id": identifier, "snapshot_name": name, "snapshot_lock_mode": None}
        return StartedSnapshot(disk, name, identifier, record, time.monotonic(), answer)

    def progress(self, snapshots: Sequence[StartedSnapshot]) -> list[int]:
        known = self._describe("snapshot-id", [snapshot.identifier for snapshot in snapshots])
        return [_percent(snapshot, known.get(snapshot.identifier)) for snapshot in snapshots]

    def provider_info(self, snapshots: Sequence[StartedSnapshot]) -> Mapping[str, str | None]:
        account = snapshots[-1].handle.get("OwnerId") if snapshots else None
        return {"account_id": account, "region": self._ec2.meta.region_name}

    def lock(self, snapshot: StartedSnapshot) -> StartedSnapshot:
        if not self._lock:
            return snapshot
        with _translated(f"lock of snapshot {snapshot.identifier}"):
            self._ec2.lock_snapshot(SnapshotId=snapshot.identifier, **self._lock.arguments())
        log.info("snapshot %s is locked in %s mode", snapshot.identifier, self._lock.mode)
        return replace(snapshot, record={**snapshot.record, "snapshot_lock_mode": self._lock.mode})

    def discard(self, disk: AttachedDisk, name: str, snapshot: StartedSnapshot | None) -> None:
        # Asking by name as well finds what a call made whose answer got lost, and that boto3 then repeated.
        made = {found for found, state in self._describe("volume-id", [disk.id]).items() if _name_tag(state) == name}
        if snapshot:
            made.add(snapshot.identifier)
        for identifier in sorted(made):
            if self._locked(identifier):
                with _translated(f"unlocking snapshot {identifier}"):
                    self._ec2.unlock_snapshot(SnapshotId=identifier)
            self.delete(identifier)

    def inspect(self, identifier: str) -> ExistingSnapshot | None:
        try:
            with _translated(f"snapshot {identifier}"):
                found = self._ec2.describe_snapshots(SnapshotIds=[identifier])["Snapshots"]
        except _MissingError:
            return None
        return ExistingSnapshot(_name_tag(found[0]), self._locked(identifier)) if found else None

    def delete(self, identifier: str) -> None:
        try:
            with _translated(f"snapshot {identifier}"):
                self._ec2.delete_snapshot(SnapshotId=identifier)
        except _MissingError:
            log.warning("snapshot %s doesn't exist any more", identifier)

    def close(self) -> None:
        self._ec2.close()
        self._locks.close()

    def _find_instance(self, instance: str) -> Mapping[str, Any]:
        by_id = instance.startswith("i-")
        filters = [] if by_id else [{"Name": "tag:Name", "Values": [instance]}]
        filters.append({"Name": "instance-state-name", "Values": _LIVE_STATES})
        try:
            with _translated(f"instance {instance}"):
                pages = self._ec2.get_paginator("describe_instances").paginate(
                    Filters=filters, **({"InstanceIds": [instance]} if by_id else {})
                )
                found = [i for page in pages for group in page["Reservations"] for i in group["Instances"]]
        except _MissingError:
            found = []
        region = self._ec2.meta.region_name
        if not found:
            raise SnapshotError(
                f"no instance {instance} in region {region}", hint="give its id or the value of its Name tag"
            )
        if len(found) > 1:
            ids = ", ".join(machine["InstanceId"] for machine in found)
            raise SnapshotError(f"several instances in region {region} are named {instance}: {ids}", hint="give the id")
        machine: Mapping[str, Any] = found[0]
        return machine

    def _describe(self, key: str, values: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        with _translated(f"snapshots with {key} {', '.join(values)}"):
            pages = self._ec2.get_paginator("describe_snapshots").paginate(
                Filters=[{"Name": key, "Values": list(values)}], OwnerIds=["self"]
            )
            return {state["SnapshotId"]: state for page in pages for state in page["Snapshots"]}

    def _locked(self, identifier: str) -> str | None:
        """Return why the snapshot is locked. Where the question isn't answered, the deletion itself tells."""
        try:
            with _translated(f"lock of snapshot {identifier}"):
                found = self._locks.describe_locked_snapshots(SnapshotIds=[identifier]).get("Snapshots", [])
        except BarmanCloudError as error:
            log.debug("can't tell whether snapshot %s is locked: %s", identifier, error)
            return None
        for state in found:
            if state.get("LockState") != "expired":
                until = state.get("LockExpiresOn")
                return f"{state.get('LockState')} lock" + (f" until {until.isoformat()}" if until else "")
        return None


class _MissingError(SnapshotError):
    """EC2 doesn't know the instance or snapshot."""


def _name_tag(resource: Mapping[str, Any]) -> str | None:
    return next((tag["Value"] for tag in resource.get("Tags", []) if tag["Key"] == "Name"), None)


def _percent(snapshot: StartedSnapshot, state: Mapping[str, Any] | None) -> int:
    if state is None:
        if time.monotonic() - snapshot.started > _VISIBLE_AFTER:
            raise SnapshotError(f"snapshot {snapshot.identifier} of volume {snapshot.disk.id} has disappeared")
        return 0
    if state["State"] == "completed":
        return COMPLETE
    if state["State"] != "pending":
        reason = state.get("StateMessage") or f"its state is {state['State']}"
        raise SnapshotError(f"snapshot {snapshot.identifier} of volume {snapshot.disk.id} failed: {reason}")
    digits = str(state.get("Progress", "")).rstrip("%")
    return min(int(digits), COMPLETE - 1) if digits.isdigit() else 0


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn botocore's exceptions into ours."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    try:
        yield
    except aws.ClientError as error:
        code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        line = f"{what}: {code}: {message}"
        if code in _NOT_FOUND:
            raise _MissingError(line) from error
        if code in _ACCESS_DENIED:
            raise AccessDeniedError(line, hint="check the policy of the role or user") from error
        if "locked" in code.lower():
            raise LockedError(line, hint="wait until the lock expires, or unlock it") from error
        raise SnapshotError(line) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        raise ConfigurationError(f"{what}: {error}") from error
    except aws.NoRegionError as error:
        raise ConfigurationError("no AWS region for disk snapshots", hint="give --aws-region") from error
    except aws.ProfileNotFound as error:
        raise ConfigurationError(str(error)) from error
    except (aws.HTTPClientError, aws.ConnectionError) as error:
        raise ConnectivityError(f"{what}: {error}") from error
    except ResponseParserError as error:
        raise SnapshotError(f"{what}: the answer isn't one of EC2") from error
    except aws.BotoCoreError as error:
        raise SnapshotError(f"{what}: {error}") from error
