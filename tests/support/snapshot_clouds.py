"""The three providers of disk snapshots, each with its real library in front of a server on loopback.

:class:`Cloud` is what tests that hold for all providers need: a machine, disks, clones, and what is left of snapshots.
``connect`` of the provider's module is replaced, because the libraries offer no setting for the address of their API
(only boto3 does); nothing else is.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from barman_cloud.snapshots import azure, gcp
from barman_cloud.snapshots.base import SnapshotOptions, SnapshotProvider
from barman_cloud.snapshots.open import open_provider
from tests.support import fake_azure, fake_gcp
from tests.support.fake_azure import FakeAzure
from tests.support.fake_ebs_locks import FakeEbsLocks
from tests.support.fake_gcp import FakeGoogle
from tests.support.rest import RestServer
from tests.support.servers import REGION, StoreServer

DISKS = ("pgdata", "ts-fast")
_NUMBERS = itertools.count(1)


class Cloud(ABC):
    """One provider. ``instance`` has the disks ``DISKS``; names are fresh for each test."""

    kind: str
    server: RestServer
    instance: str
    options: SnapshotOptions

    def provider(self, **options: Any) -> SnapshotProvider:
        """Open the provider as the program does, with these options over the usual ones."""
        fields = {name: getattr(self.options, name) for name in SnapshotOptions.__slots__}
        provider = open_provider(self.kind, SnapshotOptions(**{**fields, **options}))
        provider.poll_seconds = 0.05
        return provider

    @abstractmethod
    def root_disk(self) -> str:
        """The name of the machine's boot disk."""

    @abstractmethod
    def device(self, disk: str) -> str:
        """The link or device below ``/dev`` by which this provider's disk is found on its machine."""

    @abstractmethod
    def attach_clones(self, instance: str, snapshots: Sequence[str]) -> None:
        """Make a new machine of this name, with a disk made of each snapshot (identifiers), attached in this order."""

    @abstractmethod
    def snapshot_names(self) -> list[str]:
        """Names of the snapshots that exist of this cloud's disks."""

    @abstractmethod
    def slow_down(self, polls: int) -> None:
        """Let snapshots that are made from now on be incomplete for so many questions."""

    @abstractmethod
    def fail(self) -> None:
        """Let snapshots of the second disk (or all) fail while they are made."""

    @abstractmethod
    def throttle(self, times: int) -> None:
        """Answer so many of the next requests with the provider's way of saying 429."""


class AwsCloud(Cloud):
    kind = "aws"
    server: FakeEbsLocks

    def __init__(self, server: FakeEbsLocks) -> None:
        import boto3.session

        self.server = server
        self.ec2 = boto3.session.Session().client("ec2")
        self.instances: list[str] = []
        number = next(_NUMBERS)
        self.instance = f"pg-host-{number}"
        self.instance_id, self.zone = self.run_instance(self.instance)
        self.volumes = [self.add_volume(name, f"/dev/sd{letter}") for name, letter in zip(DISKS, "fg", strict=True)]
        self.options = SnapshotOptions(aws_region=REGION)

    @classmethod
    @contextlib.contextmanager
    def running(cls, moto: StoreServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsCloud]:
        server = FakeEbsLocks(moto.endpoint)
        with server.running():
            for name, value in moto.environ.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", server.endpoint)
            cloud = cls(server)
            yield cloud
            server.faults.clear()
            cloud.ec2.terminate_instances(InstanceIds=cloud.instances)

    def run_instance(self, name: str) -> tuple[str, str]:
        image = _any_image(self.server.moto)
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        machine = self.ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)["Instances"][0]
        self.instances.append(machine["InstanceId"])
        return machine["InstanceId"], machine["Placement"]["AvailabilityZone"]

    def add_volume(self, name: str, device: str, *, instance_id: str | None = None, **arguments: Any) -> str:
        tags = [{"ResourceType": "volume", "Tags": [{"Key": "Name", "Value": name}]}]
        volume = self.ec2.create_volume(Size=1, AvailabilityZone=self.zone, TagSpecifications=tags, **arguments)
        identifier: str = volume["VolumeId"]
        self.ec2.attach_volume(VolumeId=identifier, InstanceId=instance_id or self.instance_id, Device=device)
        return identifier

    def root_disk(self) -> str:
        machine = self.ec2.describe_instances(InstanceIds=[self.instance_id])["Reservations"][0]["Instances"][0]
        root: str = machine["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
        return root

    def device(self, disk: str) -> str:
        return f"sd{'fg'[DISKS.index(disk)]}"

    def attach_clones(self, instance: str, snapshots: Sequence[str]) -> None:
        identifier, _ = self.run_instance(instance)
        for snapshot, letter in zip(snapshots, "fghij", strict=False):
            self.add_volume(f"clone-{letter}", f"/dev/sd{letter}", instance_id=identifier, SnapshotId=snapshot)

    def snapshot_names(self) -> list[str]:
        filters = [{"Name": "volume-id", "Values": self.volumes}]
        found = self.ec2.describe_snapshots(Filters=filters, OwnerIds=["self"])["Snapshots"]
        return sorted(tag["Value"] for snapshot in found for tag in snapshot["Tags"] if tag["Key"] == "Name")

    def slow_down(self, polls: int) -> None:
        self.server.pending_polls = polls

    def fail(self) -> None:
        self.server.failed = True

    def throttle(self, times: int) -> None:
        self.server.throttle(times)


class AzureCloud(Cloud):
    kind = "azure"
    server: FakeAzure

    def __init__(self, server: FakeAzure) -> None:
        self.server = server
        self.instance = "pg-host"
        server.add_machine(self.instance, list(DISKS))
        self.options = SnapshotOptions(
            azure_subscription_id=fake_azure.SUBSCRIPTION, azure_resource_group=fake_azure.GROUP
        )

    @classmethod
    @contextlib.contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureCloud]:
        server = FakeAzure()

        def connect(options: SnapshotOptions) -> SnapshotProvider:
            from azure.core.pipeline.policies import SansIOHTTPPolicy
            from azure.mgmt.compute import ComputeManagementClient

            class Bearer(SansIOHTTPPolicy):  # type: ignore[type-arg]
                """The library's own refuses to send a token over plain http."""

                def on_request(self, request: Any) -> None:
                    request.http_request.headers["Authorization"] = f"Bearer {fake_azure.TOKEN}"

            client = ComputeManagementClient(
                _NoCredential(),  # type: ignore[arg-type]
                str(options.azure_subscription_id),
                base_url=server.endpoint,
                authentication_policy=Bearer(),
                polling_interval=0.05,
                retry_backoff_factor=0.01,
            )
            return azure.AzureSnapshots(client, options)

        monkeypatch.setattr(azure, "connect", connect)
        with server.running():
            yield cls(server)

    def root_disk(self) -> str:
        return f"{self.instance}-os"

    def device(self, disk: str) -> str:
        return f"disk/azure/scsi1/lun{DISKS.index(disk)}"

    def attach_clones(self, instance: str, snapshots: Sequence[str]) -> None:
        names = [f"clone-{number}" for number, _ in enumerate(snapshots)]
        for name, snapshot in zip(names, snapshots, strict=True):
            self.server.add_disk(name, source=self.server.resource_id("snapshots", snapshot))
        self.server.add_machine(instance, names)

    def snapshot_names(self) -> list[str]:
        return sorted(self.server.snapshots)

    def slow_down(self, polls: int) -> None:
        self.server.polls = polls

    def fail(self) -> None:
        self.server.failing_disks[DISKS[1]] = "The disk is damaged."

    def throttle(self, times: int) -> None:
        from tests.support.rest import Answer, Fault

        body = {"error": {"code": "TooManyRequests", "message": "Slow down."}}
        self.server.faults.append(Fault("GET", "", Answer(429, body, {"Retry-After": "0"}), times))


class GoogleCloud(Cloud):
    kind = "gcp"
    server: FakeGoogle

    def __init__(self, server: FakeGoogle) -> None:
        self.server = server
        self.instance = "pg-host"
        server.add_instance(self.instance, {f"device-{name}": name for name in DISKS})
        self.options = SnapshotOptions(gcp_project=fake_gcp.PROJECT, gcp_zone=fake_gcp.ZONE)

    @classmethod
    @contextlib.contextmanager
    def running(cls, monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleCloud]:
        server = FakeGoogle()

        def connect(options: SnapshotOptions) -> SnapshotProvider:
            from google.auth.transport.requests import AuthorizedSession

            session = AuthorizedSession(_user(f"{server.endpoint}/token"))  # type: ignore[no-untyped-call]
            session.trust_env = False
            return gcp.GoogleSnapshots(session, server.api, options, retry_pauses=(0.01, 0.02, 0.04))

        monkeypatch.setattr(gcp, "connect", connect)
        with server.running():
            yield cls(server)

    def root_disk(self) -> str:
        return f"{self.instance}-boot"

    def device(self, disk: str) -> str:
        return f"disk/by-id/google-device-{disk}"

    def attach_clones(self, instance: str, snapshots: Sequence[str]) -> None:
        names = [f"clone-{number}" for number, _ in enumerate(snapshots)]
        for name, snapshot in zip(names, snapshots, strict=True):
            self.server.add_disk(name, source=snapshot)
        self.server.add_instance(instance, {f"device-{disk}": name for disk, name in zip(DISKS, names, strict=False)})

    def snapshot_names(self) -> list[str]:
        return sorted(self.server.snapshots)

    def slow_down(self, polls: int) -> None:
        self.server.polls = polls

    def fail(self) -> None:
        self.server.failing_disks[DISKS[1]] = "The disk is damaged."

    def throttle(self, times: int) -> None:
        from tests.support.rest import Answer, Fault

        body = {"error": {"code": 429, "message": "Slow down.", "errors": [{"reason": "rateLimitExceeded"}]}}
        self.server.faults.append(Fault("GET", "compute", Answer(429, body), times))


@functools.cache
def _any_image(endpoint: str) -> str:
    import boto3.session

    # moto makes the whole list of images for every question about one.
    client = boto3.session.Session().client("ec2", endpoint_url=endpoint)
    image: str = client.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    return image


class _NoCredential:
    def get_token(self, *_scopes: str, **_arguments: Any) -> Any:
        raise AssertionError("the test's policy sends the token")


def _user(token_uri: str) -> Any:
    """Credentials of a user who doesn't exist, whose tokens come from ``token_uri``."""
    from google.oauth2.credentials import Credentials

    return Credentials(  # type: ignore[no-untyped-call]
        None, refresh_token="refresh", token_uri=token_uri, client_id="client", client_secret="secret"
    )
