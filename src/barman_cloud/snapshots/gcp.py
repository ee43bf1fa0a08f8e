"""Snapshots of Google persistent disks, through the Compute Engine REST API.

Google's own compute library weighs 69 MB and takes two seconds to import; of its API this needs six calls, which are
documented ("Compute Engine API", v1: instances.get, disks.get, snapshots.insert, .get, .delete, globalOperations.get).
Credentials and tokens are google-auth's.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from barman_cloud import logs
from barman_cloud.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    ConnectivityError,
    SnapshotError,
)
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

_SCOPE = "https://www.googleapis.com/auth/compute"
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""Resource names of the Compute Engine API (RFC 1035)."""
_REQUEST_SECONDS = 60
_DELETE_SECONDS = 600
_UNSETTLED = ("CREATING", "UPLOADING")
_TRANSIENT = (429, 500, 502, 503, 504)
_SLOW_DOWN = ("rateLimitExceeded", "userRateLimitExceeded")
_RETRY_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def connect(options: SnapshotOptions) -> GoogleSnapshots:
    """Open the Compute Engine API with the application default credentials."""
    require_options(gcp_project=options.gcp_project)
    try:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError
        from google.auth.transport.requests import AuthorizedSession
    except ImportError as error:  # google-auth turns a missing requests into a plain ImportError
        raise missing_extra("Google", error.name, "google") from None
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
    except DefaultCredentialsError as error:
        raise ConfigurationError(
            f"no Google credentials for disk snapshots: {str(error).splitlines()[0]}",
            hint="set GOOGLE_APPLICATION_CREDENTIALS, or attach a service account to the machine",
        ) from error
    return GoogleSnapshots(
        AuthorizedSession(credentials),  # type: ignore[no-untyped-call]
        f"https://compute.{credentials.universe_domain}/compute/v1",
        options,
    )


class GoogleSnapshots(SnapshotProvider):
    """Persistent disks of one project. Identifiers are snapshot names; snapshots are global to the project."""

    kind = "gcp"

    def __init__(
        self, session: Any, endpoint: str, options: SnapshotOptions, retry_pauses: Sequence[float] = _RETRY_PAUSES
    ) -> None:
        self._session = session
        self._endpoint = endpoint
        self._project = options.gcp_project
        self._zone = options.gcp_zone
        self._retry_pauses = retry_pauses

    def attached_disks(self, instance: str) -> list[AttachedDisk]:
        require_options(gcp_zone=self._zone)
        where = f"projects/{self._project}/zones/{self._zone}/instances/{instance}"
        machine = self._call("GET", where, f"instance {instance} in zone {self._zone} of project {self._project}")
        disks = []
        for attached in machine.get("disks", ()):
            if "source" not in attached:  # a local SSD
                continue
            # The source is a full URL; a regional disk has a region where others have a zone.
            path = "projects/" + attached["source"].partition("/projects/")[2]
            name = path.rpartition("/")[2]
            record = {"device_name": attached["deviceName"], "snapshot_project": self._project}
            disks.append(AttachedDisk(name, path, (name,), record, is_root=bool(attached.get("boot"))))
        return disks

    def cloned_from(self, disk: AttachedDisk) -> str | None:
        source = self._call("GET", disk.id, f"disk {disk.name}").get("sourceSnapshot")
        return source.rpartition("/")[2] if source else None

    def local_device(self, disk: AttachedDisk, host: Host) -> str | None:
        return host.by_google_name(str(disk.record["device_name"]))

    def check(self, disks: Sequence[AttachedDisk], backup_id: str) -> None:
        for disk in disks:
            name = snapshot_name(disk.name, backup_id)
            if not _NAME.fullmatch(name):
                raise SnapshotError(
                    f"{name} can't be the name of a Google snapshot",
                    hint="a disk name of up to 47 characters leaves room",
                )

    def begin(self, disk: AttachedDisk, name: str) -> StartedSnapshot:
        self._call("GET", disk.id, f"disk {disk.name}")
        operation = self._call(
            "POST",
            f"projects/{self._project}/global/snapshots",
            f"snapshot {name} of disk {disk.name}",
            body={"name": name, "sourceDisk": disk.id},
        )
        record = {**disk.record, "snapshot_name": name}
        return StartedSnapshot(disk, name, name, record, time.monotonic(), operation["name"])

    def progress(self, snapshots: Sequence[StartedSnapshot]) -> list[int]:
        return [
            self._operation(snapshot.handle, f"snapshot {snapshot.name} of disk {snapshot.disk.name}")
            for snapshot in snapshots
        ]

    def provider_info(self, snapshots: Sequence[StartedSnapshot]) -> Mapping[str, str | None]:
        return {"project": self._project}

    def discard(self, disk: AttachedDisk, name: str, snapshot: StartedSnapshot | None) -> None:
        await_settled(self, name, lambda: self._state(name) in _UNSETTLED)
        self.delete(name)

    def inspect(self, identifier: str) -> ExistingSnapshot | None:
        try:
            return ExistingSnapshot(self._call("GET", self._snapshot(identifier), f"snapshot {identifier}")["name"])
        except _MissingError:
            return None

    def delete(self, identifier: str) -> None:
        what = f"deletion of snapshot {identifier}"
        try:
            operation = self._call("DELETE", self._snapshot(identifier), f"snapshot {identifier}")["name"]
        except _MissingError:
            log.info("snapshot %s doesn't exist any more", identifier)
            return
        deadline = time.monotonic() + _DELETE_SECONDS
        pause = 0.2
        while self._operation(operation, what) < COMPLETE:
            if time.monotonic() > deadline:
                raise SnapshotError(f"snapshot {identifier} is still being deleted after {_DELETE_SECONDS} s")
            time.sleep(pause)
            pause = min(2 * pause, self.poll_seconds)

    def close(self) -> None:
        self._session.close()

    def _state(self, name: str) -> str | None:
        try:
            return str(self._call("GET", self._snapshot(name), f"snapshot {name}").get("status"))
        except _MissingError:
            return None

    def _snapshot(self, name: str) -> str:
        return f"projects/{self._project}/global/snapshots/{name}"

    def _operation(self, name: str, what: str) -> int:
        """Return the progress of an operation in percent; ``SnapshotError`` if it failed."""
        state = self._call("GET", f"projects/{self._project}/global/operations/{name}", what)
        if state.get("status") != "DONE":
            return min(int(state.get("progress", 0)), COMPLETE - 1)
        for warning in state.get("warnings", ()):
            log.warning("%s: %s: %s", what, warning.get("code"), warning.get("message"))
        if errors := state.get("error", {}).get("errors"):
            raise SnapshotError(f"{what}: {errors[0].get('code')}: {errors[0].get('message')}")
        return COMPLETE

    def _call(self, method: str, path: str, what: str, *, body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Make one request, again after a pause if Google says so or is silent, and return the answer as JSON."""
        # The same id makes Google answer a repeated request with the operation of the first.
        query = None if method == "GET" else {"requestId": str(uuid.uuid4())}
        url = f"{self._endpoint}/{path}"
        for pause in (*self._retry_pauses, None):
            try:
                with _translated(what):
                    answer = self._session.request(method, url, json=body, params=query, timeout=_REQUEST_SECONDS)
            except ConnectivityError as error:
                if pause is None:
                    raise
                log.debug("%s: asking again in %g s", error, pause)
                time.sleep(pause)
                continue
            if answer.status_code < 400:
                result: dict[str, Any] = answer.json()
                return result
            reason, message = _error_of(answer)
            if answer.status_code not in _TRANSIENT and reason not in _SLOW_DOWN:
                raise _refusal(answer.status_code, f"{what}: {reason}: {message}")
            if pause is not None:
                log.debug("%s: %s: asking again in %g s", what, reason, pause)
                time.sleep(_retry_after(answer) or pause)
        if answer.status_code >= 500:
            raise ConnectivityError(f"{what}: {reason}: {message}")
        raise SnapshotError(f"{what}: {reason}: {message}")


class _MissingError(SnapshotError):
    """Google has no resource of this name."""


def _refusal(status: int, line: str) -> Exception:
    if status == 404:
        return _MissingError(line)
    if status == 409:
        return ConflictError(line)
    if status in (401, 403):
        return AccessDeniedError(
            line, hint="check the roles and, on a machine, the access scopes of the service account"
        )
    return SnapshotError(line)


def _error_of(answer: Any) -> tuple[str, str]:
    """Return reason and message of an error answer ("Errors" of the API's guide)."""
    try:
        error = answer.json()["error"]
        reasons = error.get("errors") or [{}]
        return str(reasons[0].get("reason") or error.get("status") or answer.status_code), str(error.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(answer.status_code), answer.reason or "no explanation"


def _retry_after(answer: Any) -> float | None:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn google-auth's and requests' exceptions into ours."""
    import requests
    from google.auth import exceptions as google

    try:
        yield
    except google.TransportError as error:
        raise ConnectivityError(f"{what}: {error}") from error
    except google.GoogleAuthError as error:
        raise AccessDeniedError(f"{what}: {str(error).splitlines()[0]}", hint="check the Google credentials") from error
    except requests.RequestException as error:
        raise ConnectivityError(f"{what}: {error}") from error
