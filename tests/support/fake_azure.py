"""Azure Resource Manager with virtual machines, managed disks and snapshots, as azure-mgmt-compute sees them.

Written after Microsoft's REST reference (Compute: Virtual Machines - Get, Disks - Get, Snapshots - Get, Create Or
Update, Delete; Azure Resource Manager: "Track asynchronous operations"). Names are compared ignoring case, as ARM does.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from tests.support.rest import Answer, Request, RestServer

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
GROUP = "pg-group"
LOCATION = "uksouth"
TOKEN = "fake-token"

_RESOURCE = re.compile(
    r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.Compute"
    r"/(?P<kind>virtualMachines|disks|snapshots)/(?P<name>[^/]+)",
    re.IGNORECASE,
)
_OPERATION = re.compile(r".*/providers/Microsoft\.Compute/locations/[^/]+/operations/(?P<id>[^/]+)")


class FakeAzure(RestServer):
    """One subscription. ``polls`` is how often an operation says InProgress before it ends."""

    def __init__(self, *, polls: int = 1) -> None:
        super().__init__()
        self.polls = polls
        self.failing_disks: dict[str, str] = {}
        """Disk name -> message with which the snapshot operation fails."""
        self.on_snapshot: Callable[[str, str], None] | None = None
        """Called with the names of disk and snapshot when a snapshot is taken."""
        self._resources: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._operations: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    def add_machine(
        self, name: str, data_disks: list[str], *, group: str = GROUP, disk_group: str | None = None
    ) -> None:
        """Add a machine with an OS disk and these data disks (LUN 0, 1 …); disks that don't exist are made."""
        attached = []
        for lun, disk in enumerate(data_disks):
            if (("disks", (disk_group or group).lower(), disk.lower())) not in self._resources:
                self.add_disk(disk, group=disk_group or group)
            attached.append({"lun": lun, "name": disk, "managedDisk": {"id": _id(disk_group or group, "disks", disk)}})
        os_disk = {"name": f"{name}-os", "osType": "Linux", "managedDisk": {"id": _id(group, "disks", f"{name}-os")}}
        self._put(group, "virtualMachines", name, {"storageProfile": {"osDisk": os_disk, "dataDisks": attached}})

    def add_disk(self, name: str, *, source: str | None = None, group: str = GROUP) -> None:
        """Add a disk, empty or a copy of the resource with the id ``source``."""
        creation = {"createOption": "Copy", "sourceResourceId": source} if source else {"createOption": "Empty"}
        self._put(group, "disks", name, {"creationData": creation, "provisioningState": "Succeeded"})

    def resource_id(self, kind: str, name: str, group: str = GROUP) -> str:
        return _id(group, kind, name)

    @property
    def snapshots(self) -> dict[str, dict[str, Any]]:
        """Name -> resource of every snapshot."""
        return {key[2]: value for key, value in self._resources.items() if key[0] == "snapshots"}

    def answer(self, request: Request) -> Answer:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "AuthenticationFailed", "Authentication failed.")
        if "api-version" not in request.query:
            return _error(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        if found := _OPERATION.fullmatch(request.path):
            return self._poll(found["id"])
        found = _RESOURCE.fullmatch(request.path)
        if not found:
            return _error(404, "InvalidResourceType", f"No resource type for {request.path}")
        if found["subscription"] != SUBSCRIPTION:
            return _error(
                404, "SubscriptionNotFound", f"The subscription '{found['subscription']}' could not be found."
            )
        key = (_kind(found["kind"]), found["group"].lower(), found["name"].lower())
        if request.method == "GET":
            self._pass_time(key)
            resource = self._resources.get(key)
            message = f"The Resource 'Microsoft.Compute/{found['kind']}/{found['name']}' was not found."
            return Answer(200, resource) if resource else _error(404, "ResourceNotFound", message)
        if key[0] != "snapshots":
            return _error(405, "MethodNotAllowed", "Not allowed.")
        if request.method == "PUT":
            return self._create(found["group"], found["name"], request.json)
        return self._delete(key)

    def _create(self, group: str, name: str, body: dict[str, Any]) -> Answer:
        if "location" not in body:
            return _error(400, "LocationRequired", "The location property is required for this definition.")
        creation = body.get("properties", {}).get("creationData", {})
        source = creation.get("sourceUri") or creation.get("sourceResourceId") or ""
        found = _RESOURCE.fullmatch(source)
        if creation.get("createOption") != "Copy" or not found:
            return _error(400, "InvalidParameter", "Required parameter 'creationData' is missing or invalid.")
        if ("disks", found["group"].lower(), found["name"].lower()) not in self._resources:
            return _error(404, "NotFound", f"Disk {found['name']} is not found.")
        properties = {**body["properties"], "provisioningState": "Updating"}
        key = self._put(group, "snapshots", name, properties, location=body["location"])
        if self.on_snapshot:
            self.on_snapshot(found["name"], name)
        operation = self._begin({"create": key, "disk": found["name"]})
        return Answer(202, self._resources[key], self._headers(operation))

    def _delete(self, key: tuple[str, str, str]) -> Answer:
        if key not in self._resources:
            return Answer(204)
        if self._resources[key]["properties"]["provisioningState"] == "Updating":
            return _error(409, "OperationNotAllowed", f"Snapshot {key[2]} is being created.")
        return Answer(202, None, self._headers(self._begin({"delete": key})))

    def _begin(self, operation: dict[str, Any]) -> str:
        identifier = f"op-{next(self._ids)}"
        self._operations[identifier] = {**operation, "polls": self.polls}
        return identifier

    def _poll(self, identifier: str) -> Answer:
        operation = self._operations.get(identifier)
        if operation is None:
            return _error(404, "NotFound", "The operation was not found.")
        if operation["polls"] > 0:
            operation["polls"] -= 1
            return Answer(200, {"name": identifier, "status": "InProgress"})
        if key := operation.get("delete"):
            self._resources.pop(key, None)
        elif message := self.failing_disks.get(operation["disk"]):
            self._resources[operation["create"]]["properties"]["provisioningState"] = "Failed"
            error = {"code": "InternalExecutionError", "message": message}
            return Answer(200, {"name": identifier, "status": "Failed", "error": error})
        else:
            self._resources[operation["create"]]["properties"]["provisioningState"] = "Succeeded"
        return Answer(200, {"name": identifier, "status": "Succeeded"})

    def _pass_time(self, key: tuple[str, str, str]) -> None:
        """A question about a snapshot lets its operation go on as well as a question about that does."""
        for identifier, operation in self._operations.items():
            state = self._resources.get(key, {"properties": {}})["properties"].get("provisioningState")
            if operation.get("create") == key and state == "Updating":
                self._poll(identifier)

    def _headers(self, operation: str) -> dict[str, str]:
        base = f"{self.endpoint}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/locations/{LOCATION}"
        url = f"{base}/operations/{operation}?api-version=2025-01-02"
        return {"Azure-AsyncOperation": url, "Location": f"{url}&monitor=true"}

    def _put(
        self, group: str, kind: str, name: str, properties: dict[str, Any], location: str = LOCATION
    ) -> tuple[str, str, str]:
        key = (kind, group.lower(), name.lower())
        resource = {"id": _id(group, kind, name), "name": name, "location": location, "properties": properties}
        self._resources[key] = resource
        return key


def _id(group: str, kind: str, name: str) -> str:
    return f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.Compute/{kind}/{name}"


def _kind(text: str) -> str:
    return {"virtualmachines": "virtualMachines"}.get(text.lower(), text.lower())


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message}})
