"""The Compute Engine API with instances, disks, snapshots and operations, and the token service.

Written after Google's REST reference (Compute Engine API v1: instances.get, disks.get, regionDisks.get, snapshots.get,
.insert and .delete, globalOperations.get; "Using OAuth 2.0 for Web Server Applications").
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

from tests.support.rest import Answer, Request, RestServer

PROJECT = "pg-project"
ZONE = "europe-west2-b"
TOKEN = "fake-token"

_SNAPSHOT_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")


class FakeGoogle(RestServer):
    """One project. ``polls`` is how often an operation says RUNNING before it is DONE."""

    def __init__(self, *, polls: int = 1) -> None:
        super().__init__()
        self.polls = polls
        self.failing_disks: dict[str, str] = {}
        """Disk name -> message with which the snapshot operation fails."""
        self.on_snapshot: Callable[[str, str], None] | None = None
        """Called with the names of disk and snapshot when a snapshot is taken."""
        self.snapshots: dict[str, dict[str, Any]] = {}
        self._resources: dict[str, dict[str, Any]] = {}
        self._operations: dict[str, dict[str, Any]] = {}
        self._requests: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    @property
    def api(self) -> str:
        return f"{self.endpoint}/compute/v1"

    def add_instance(self, name: str, disks: dict[str, str]) -> None:
        """Add an instance with a boot disk and these disks (device name -> disk name or ``regions/R/disks/NAME``)."""
        boot = {"boot": True, "deviceName": "persistent-disk-0", "source": self._url(self.add_disk(f"{name}-boot"))}
        attached: list[dict[str, Any]] = [boot, {"type": "SCRATCH", "deviceName": "local-ssd-0"}]
        for device, disk in disks.items():
            path = f"projects/{PROJECT}/" + (disk if "/" in disk else f"zones/{ZONE}/disks/{disk}")
            if path not in self._resources:
                self.add_disk(disk)
            attached.append({"deviceName": device, "source": self._url(path), "boot": False})
        self._resources[f"projects/{PROJECT}/zones/{ZONE}/instances/{name}"] = {"name": name, "disks": attached}

    def add_disk(self, name: str, *, source: str | None = None) -> str:
        """Add a disk, empty or made of a snapshot; returns its path."""
        path = f"projects/{PROJECT}/" + (name if "/" in name else f"zones/{ZONE}/disks/{name}")
        disk = {"name": name.rpartition("/")[2], "status": "READY", "selfLink": self._url(path)}
        if source:
            disk["sourceSnapshot"] = self._url(f"projects/{PROJECT}/global/snapshots/{source}")
        self._resources[path] = disk
        return path

    def answer(self, request: Request) -> Answer:
        if request.path == "/token":
            return Answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "authError", "Invalid Credentials")
        path = request.path.removeprefix("/compute/v1/")
        if not path.startswith(f"projects/{PROJECT}/"):
            return _error(404, "notFound", f"The resource '{path}' was not found")
        snapshots = f"projects/{PROJECT}/global/snapshots"
        if request.method == "POST" and path == snapshots:
            return self._once(request, lambda: self._insert(request.json))
        if path.startswith(f"{snapshots}/"):
            return self._snapshot(request, path.rpartition("/")[2])
        if path.startswith(f"projects/{PROJECT}/global/operations/"):
            return self._poll(path.rpartition("/")[2])
        resource = self._resources.get(path)
        return Answer(200, resource) if resource else _error(404, "notFound", f"The resource '{path}' was not found")

    def _once(self, request: Request, change: Callable[[], Answer]) -> Answer:
        """Do a change once for each requestId, and answer a repetition with the first operation."""
        identifier = request.query.get("requestId")
        if identifier and identifier in self._requests:
            return Answer(200, self._requests[identifier])
        answer = change()
        if identifier and answer.status == 200:
            self._requests[identifier] = answer.body
        return answer

    def _insert(self, body: dict[str, Any]) -> Answer:
        name, source = body.get("name", ""), body.get("sourceDisk", "")
        if not _SNAPSHOT_NAME.fullmatch(name):
            return _error(400, "invalid", f"Invalid value for field 'resource.name': '{name}'.")
        if source not in self._resources:
            return _error(404, "notFound", f"The resource '{source}' was not found")
        if name in self.snapshots:
            return _error(
                409, "alreadyExists", f"The resource 'projects/{PROJECT}/global/snapshots/{name}' already exists"
            )
        self.snapshots[name] = {"name": name, "sourceDisk": self._url(source), "status": "CREATING"}
        disk = source.rpartition("/")[2]
        if self.on_snapshot:
            self.on_snapshot(disk, name)
        return self._begin("insert", {"create": name, "disk": disk})

    def _snapshot(self, request: Request, name: str) -> Answer:
        if name not in self.snapshots:
            return _error(404, "notFound", f"The resource 'projects/{PROJECT}/global/snapshots/{name}' was not found")
        if request.method == "GET":
            self._pass_time(name)
            return Answer(200, self.snapshots[name])
        if self.snapshots[name]["status"] == "CREATING":
            return _error(400, "resourceNotReady", f"The resource 'snapshots/{name}' is not ready")
        return self._once(request, lambda: self._begin("delete", {"delete": name}))

    def _begin(self, kind: str, operation: dict[str, Any]) -> Answer:
        name = f"operation-{next(self._ids)}"
        self._operations[name] = {**operation, "polls": self.polls}
        return Answer(200, {"kind": "compute#operation", "name": name, "operationType": kind, "status": "PENDING"})

    def _poll(self, name: str) -> Answer:
        operation = self._operations.get(name)
        if operation is None:
            return _error(404, "notFound", f"The resource 'operations/{name}' was not found")
        if operation["polls"] > 0:
            operation["polls"] -= 1
            progress = round(100 / (operation["polls"] + 2))
            return Answer(200, {"name": name, "status": "RUNNING", "progress": progress})
        state: dict[str, Any] = {"name": name, "status": "DONE", "progress": 100}
        if snapshot := operation.get("delete"):
            self.snapshots.pop(snapshot, None)
        elif message := self.failing_disks.get(operation["disk"]):
            self.snapshots[operation["create"]]["status"] = "FAILED"
            state["error"] = {"errors": [{"code": "RESOURCE_OPERATION_RATE_EXCEEDED", "message": message}]}
        else:
            self.snapshots[operation["create"]]["status"] = "READY"
            state["warnings"] = [{"code": "LARGE_DEPLOYMENT_WARNING", "message": "a warning"}]
        return Answer(200, state)

    def _pass_time(self, snapshot: str) -> None:
        """A question about a snapshot lets its operation go on as well as a question about that does."""
        for name, operation in self._operations.items():
            if operation.get("create") == snapshot and self.snapshots[snapshot]["status"] == "CREATING":
                self._poll(name)

    def _url(self, path: str) -> str:
        return f"{self.api}/{path}"


def _error(status: int, reason: str, message: str) -> Answer:
    details = [{"domain": "global", "reason": reason, "message": message}]
    return Answer(status, {"error": {"code": status, "message": message, "errors": details}})
