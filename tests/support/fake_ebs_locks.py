"""EC2 by moto, with what moto lacks of snapshots: locks, and snapshots that take their time or fail.

Everything but that is passed on. Written after the EC2 API reference (LockSnapshot, UnlockSnapshot,
DescribeLockedSnapshots, DeleteSnapshot).
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from tests.support.rest import Answer, Fault, Request, RestServer

_XML = {"Content-Type": "text/xml;charset=UTF-8"}
_NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
_COMPLETED = "<status>completed</status>"


class FakeEbsLocks(RestServer):
    """A proxy before moto's ``endpoint``."""

    def __init__(self, moto: str) -> None:
        super().__init__()
        self.moto = moto
        self.locks: dict[str, dict[str, str]] = {}
        """Snapshot id -> parameters of its LockSnapshot call."""
        self.pending_polls = 0
        """How many DescribeSnapshots answers still say pending."""
        self.failed = False
        """Whether snapshots end in the state ``error``."""
        self.on_snapshot: Callable[[str, str], None] | None = None
        """Called with the ids of volume and snapshot when a snapshot is taken."""

    def answer(self, request: Request) -> Answer:
        form = {key: values[-1] for key, values in parse_qs(request.body.decode()).items()}
        action = form.get("Action", "")
        snapshot = form.get("SnapshotId", "")
        if action == "LockSnapshot":
            return self._lock_snapshot(snapshot, form)
        if action == "UnlockSnapshot":
            if self.locks.pop(snapshot, {}).get("LockMode") == "compliance":
                return error(400, "SnapshotLocked", f"The snapshot {snapshot} is locked in compliance mode.")
            return _xml(action, f"<snapshotId>{snapshot}</snapshotId>")
        if action == "DescribeLockedSnapshots":
            wanted = [value for key, value in form.items() if key.startswith("SnapshotId.")]
            return _xml(
                action, f"<snapshotSet>{''.join(map(self._item, filter(self.locks.get, wanted)))}</snapshotSet>"
            )
        if action == "DeleteSnapshot" and snapshot in self.locks:
            return error(400, "SnapshotLocked", f"The snapshot {snapshot} is locked and can't be deleted.")
        passed_on = self._pass_on(request)
        if action == "CreateSnapshot" and self.on_snapshot:
            identifier = passed_on.body.decode().partition("<snapshotId>")[2].partition("<")[0]
            self.on_snapshot(form["VolumeId"], identifier)
        return self._slow_down(passed_on) if action == "DescribeSnapshots" else passed_on

    def throttle(self, times: int) -> None:
        """Answer the next requests with RequestLimitExceeded."""
        self.faults.append(Fault("POST", "/", error(503, "RequestLimitExceeded", "Request limit exceeded."), times))

    def actions(self) -> list[str]:
        """The actions of all requests so far."""
        return [parse_qs(request.body.decode()).get("Action", [""])[0] for request in self.requests]

    def _lock_snapshot(self, snapshot: str, form: dict[str, str]) -> Answer:
        if form.get("LockMode") == "governance" and "CoolOffPeriod" in form:
            return error(400, "InvalidParameterCombination", "CoolOffPeriod is not allowed in governance mode.")
        if ("LockDuration" in form) == ("ExpirationDate" in form):
            return error(400, "InvalidParameterCombination", "Specify either LockDuration or ExpirationDate.")
        self.locks[snapshot] = {key: form[key] for key in form if key not in ("Action", "Version", "SnapshotId")}
        return _xml("LockSnapshot", self._fields(snapshot))

    def _item(self, snapshot: str) -> str:
        return f"<item>{self._fields(snapshot)}</item>"

    def _fields(self, snapshot: str) -> str:
        lock = self.locks[snapshot]
        state = "compliance-cooloff" if "CoolOffPeriod" in lock else lock["LockMode"]
        expires = lock.get("ExpirationDate", "2099-01-01T00:00:00.000Z")
        return (
            f"<snapshotId>{snapshot}</snapshotId><lockState>{state}</lockState><lockExpiresOn>{expires}</lockExpiresOn>"
        )

    def _slow_down(self, answer: Answer) -> Answer:
        if self.pending_polls > 0 and _COMPLETED.encode() in answer.body:
            self.pending_polls -= 1
            body = answer.body.decode().replace(_COMPLETED, "<status>pending</status>")
            return Answer(answer.status, re.sub("100%", "42%", body).encode(), _XML)
        if self.failed:
            state = "<status>error</status><statusMessage>The volume is damaged.</statusMessage>"
            return Answer(answer.status, answer.body.decode().replace(_COMPLETED, state).encode(), _XML)
        return answer

    def _pass_on(self, request: Request) -> Answer:
        skipped = ("host", "content-length", "connection", "accept-encoding")
        headers = {key: value for key, value in request.headers.items() if key not in skipped}
        message = urllib.request.Request(self.moto + request.path, request.body, headers, method=request.method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(message, timeout=90) as reply:
                return Answer(reply.status, reply.read(), _XML)
        except urllib.error.HTTPError as reply:
            return Answer(reply.code, reply.read(), _XML)


def error(status: int, code: str, message: str) -> Answer:
    """An error answer of EC2."""
    body = (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
        "<RequestID>test</RequestID></Response>"
    )
    return Answer(status, body.encode(), _XML)


def _xml(action: str, content: str) -> Answer:
    body = f'<{action}Response xmlns="{_NAMESPACE}"><requestId>test</requestId>{content}</{action}Response>'
    return Answer(200, body.encode(), _XML)
