"""Snapshots of Azure managed disks, through azure-mgmt-compute."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.errors import AccessDeniedError, ConflictError, ConnectivityError, SnapshotError
from barman_cloud.snapshots.base import (
    COMPLETE,
    AttachedDisk,
    ExistingSnapshot,
    SnapshotOptions,
    SnapshotProvider,
    StartedSnapshot,
    await_settled,
    missing_extra,
    require_options,
    snapshot_name,
)

if TYPE_CHECKING:
    from barman_cloud.snapshots.mounts import Host

log = logs.get_logger(__name__)

_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]{0,78}\w)?", re.ASCII)
"""Naming rules for Azure resources, Microsoft.Compute/snapshots."""
_OPERATION_POLL_SECONDS = 5
_DELETE_SECONDS = 600
_UNSETTLED = ("Creating", "Updating")


def connect(options: SnapshotOptions) -> AzureSnapshots:
    """Open the subscription's compute service with the credential that the options name, else the default chain."""
    require_options(
        azure_subscription_id=options.azure_subscription_id, azure_resource_group=options.azure_resource_group
    )
    try:
        from azure.identity import AzureCliCredential, DefaultAzureCredential, ManagedIdentityCredential
        from azure.mgmt.compute import ComputeManagementClient
    except ModuleNotFoundError as error:
        raise missing_extra("Azure", error.name, "azure") from None
    kinds = {"azure-cli": AzureCliCredential, "managed-identity": ManagedIdentityCredential}
    credential = kinds.get(options.azure_credential or "", DefaultAzureCredential)()
    client = ComputeManagementClient(
        credential, str(options.azure_subscription_id), polling_interval=_OPERATION_POLL_SECONDS, logging_enable=False
    )
    return AzureSnapshots(client, options)


class AzureSnapshots(SnapshotProvider):
    """Managed disks of one subscription. Identifiers are snapshot names; snapshots go to the resource group given."""

    kind = "azure"

    def __init__(self, client: Any, options: SnapshotOptions) -> None:
        self._compute = client
        self._subscription = options.azure_subscription_id
        self._group = options.azure_resource_group

    def attached_disks(self, instance: str) -> list[AttachedDisk]:
        with _translated(f"virtual machine {instance} in resource group {self._group}"):
            machine = self._compute.virtual_machines.get(self._group, instance)
        storage = machine.storage_profile
        disks = [
            AttachedDisk(
                name=disk.name,
                id=disk.managed_disk.id,
                aliases=(disk.name,),
                record={"location": machine.location, "lun": disk.lun},
            )
            for disk in storage.data_disks or ()
            if disk.managed_disk
        ]
        if storage.os_disk and storage.os_disk.managed_disk:
            root = storage.os_disk
            disks.append(AttachedDisk(root.name, root.managed_disk.id, (root.name,), record={}, is_root=True))
        return disks

    def cloned_from(self, disk: AttachedDisk) -> str | None:
        if disk.is_root:
            return None
        source = self._disk(disk).creation_data.source_resource_id or ""
        kind, name = source.split("/")[-2:] if "/" in source else ("", "")
        return name if kind.lower() == "snapshots" else None

    def local_device(self, disk: AttachedDisk, host: Host) -> str | None:
        lun = disk.record["lun"]
        return host.by_azure_lun(int(lun)) if lun is not None else None

    def check(self, disks: Sequence[AttachedDisk], backup_id: str) -> None:
        for disk in disks:
            name = snapshot_name(disk.name, backup_id)
            if not _NAME.fullmatch(name):
                raise SnapshotError(
                    f"{name} can't be the name of an Azure snapshot",
                    hint="a disk name of up to 64 characters leaves room",
                )

    def begin(self, disk: AttachedDisk, name: str) -> StartedSnapshot:
        # Azure's call creates or updates: without this question a snapshot of that name would be replaced.
        if self.inspect(name):
            raise ConflictError(f"snapshot {name} already exists in resource group {self._group}")
        location = self._disk(disk).location
        body = {
            "location": location,
            "properties": {"creationData": {"createOption": "Copy", "sourceUri": disk.id}, "incremental": True},
        }
        with _translated(f"snapshot {name} of disk {disk.name}"):
            poller = self._compute.snapshots.begin_create_or_update(self._group, name, body)
        record = {**disk.record, "location": location, "snapshot_name": name}
        return StartedSnapshot(disk, name, name, record, time.monotonic(), poller)

    def progress(self, snapshots: Sequence[StartedSnapshot]) -> list[int]:
        return [self._percent(snapshot) for snapshot in snapshots]

    def provider_info(self, snapshots: Sequence[StartedSnapshot]) -> Mapping[str, str | None]:
        return {"subscription_id": self._subscription, "resource_group": self._group}

    def discard(self, disk: AttachedDisk, name: str, snapshot: StartedSnapshot | None) -> None:
        await_settled(self, name, lambda: self._state(name) in _UNSETTLED)
        self.delete(name)

    def inspect(self, identifier: str) -> ExistingSnapshot | None:
        found = self._find(identifier)
        return ExistingSnapshot(found.name) if found else None

    def delete(self, identifier: str) -> None:
        try:
            with _translated(f"snapshot {identifier}"):
                poller = self._compute.snapshots.begin_delete(self._group, identifier)
                poller.wait(_DELETE_SECONDS)
                if not poller.done():
                    raise SnapshotError(f"snapshot {identifier} is still being deleted after {_DELETE_SECONDS} s")
                poller.result()
        except _MissingError:
            log.info("snapshot %s doesn't exist any more", identifier)

    def close(self) -> None:
        self._compute.close()

    def _find(self, name: str) -> Any:
        try:
            with _translated(f"snapshot {name}"):
                return self._compute.snapshots.get(self._group, name)
        except _MissingError:
            return None

    def _state(self, name: str) -> str | None:
        found = self._find(name)
        return found.provisioning_state if found else None

    def _disk(self, disk: AttachedDisk) -> Any:
        # /subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/NAME: not always in the machine's group.
        parts = disk.id.strip("/").split("/")
        with _translated(f"disk {disk.name}"):
            return self._compute.disks.get(parts[3], parts[-1])

    def _percent(self, snapshot: StartedSnapshot) -> int:
        poller = snapshot.handle
        if not poller.done():
            return 0
        with _translated(f"snapshot {snapshot.name} of disk {snapshot.disk.name}"):
            made = poller.result()
        state = made.provisioning_state
        if state not in (None, "Succeeded"):
            raise SnapshotError(f"snapshot {snapshot.name} of disk {snapshot.disk.name} ended as {state}")
        return COMPLETE


class _MissingError(SnapshotError):
    """Azure has no resource of this name."""


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn azure-core's exceptions into ours."""
    from azure.core import exceptions as azure

    try:
        yield
    except azure.ClientAuthenticationError as error:
        raise AccessDeniedError(f"{what}: {_first_line(error)}", hint="check --azure-credential") from error
    except azure.HttpResponseError as error:
        code = error.error.code if error.error else None
        line = f"{what}: {code or error.status_code}: {_first_line(error)}"
        if error.status_code == 404:
            raise _MissingError(line) from error
        if error.status_code in (401, 403):
            raise AccessDeniedError(line, hint="check the role assignments of the identity") from error
        raise SnapshotError(line) from error
    except (azure.ServiceRequestError, azure.ServiceResponseError) as error:
        raise ConnectivityError(f"{what}: {_first_line(error)}") from error
    except azure.AzureError as error:
        raise SnapshotError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the message proper: azure-core appends the code and the response on further lines."""
    text = getattr(getattr(error, "error", None), "message", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0].removeprefix("(None) ")
