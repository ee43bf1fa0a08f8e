"""What the network and the store can do to one request: the kinds of faults, and what may follow from each."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.support.fault_proxy import Answer, Fault, SeenRequest

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome to this network.</body></html>"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
BUSY = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass(frozen=True)
class WireFault:
    """One kind of fault of one request."""

    name: str
    fault: Fault
    borne: bool
    """The command must end well all the same: the fault is transient, and its retry is answered."""
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    """Requests that it is about; another one is left alone."""

    def at(self, index: int, *, lasting: bool = False) -> Fault:
        """Return the fault for the request number ``index`` (from 1) of a run, or from it on."""
        count = 0
        lock = threading.Lock()

        def is_hit(request: SeenRequest) -> bool:
            nonlocal count
            with lock:
                count += 1
                reached = count >= index if lasting else count == index
            return reached and request.method in self.methods and self.fault.only_if(request)

        return replace(self.fault, times=1_000_000 if lasting else 1, only_if=is_hit)


def _change(change: Callable[[Answer], Answer]) -> Fault:
    return Fault(change=change)


def _flip(answer: Answer) -> Answer:
    """One bit in the middle is another."""
    body = bytearray(answer.body)
    if body:
        body[len(body) // 2] ^= 0x10
    return replace(answer, body=bytes(body))


def _reorder(answer: Answer) -> Answer:
    half = len(answer.body) // 2
    return replace(answer, body=answer.body[half:] + answer.body[:half])


def _too_short(answer: Answer) -> Answer:
    """A body that lacks its end, in an answer that says so: well formed, but not what the store has."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def _too_long(answer: Answer) -> Answer:
    return replace(answer, body=answer.body + answer.body[: len(answer.body) // 2 or 1])


def _wrong_length(answer: Answer) -> Answer:
    """Content-Length promises more than comes."""
    return replace(answer, length=len(answer.body) + 100)


def _other_range(answer: Answer) -> Answer:
    """The bytes are those of another place than was asked for, and Content-Range says so."""
    headers = tuple(
        (name, re.sub(r"bytes (\d+)-(\d+)/", lambda m: f"bytes {int(m[1]) + 1}-{int(m[2]) + 1}/", value))
        if name.lower() == "content-range"
        else (name, value)
        for name, value in answer.headers
    )
    return replace(answer, headers=headers, body=answer.body[1:] + b"\0" if answer.body else b"")


def _instead(body: bytes, status: int = 200) -> Fault:
    """The request never reaches the store, and somebody else answers."""
    return Fault(status=status, body=body, headers={"Content-Type": "text/html" if body == HTML else "application/xml"})


def _is_listing(request: SeenRequest) -> bool:
    return request.method == "GET" and "list-type=2" in request.path


def _is_object(request: SeenRequest) -> bool:
    return request.method == "GET" and not _is_listing(request)


def _emptied(answer: Answer) -> Answer:
    """A listing from before anything was written."""
    return replace(answer, body=re.sub(rb"<(Contents|CommonPrefixes)>.*</\1>", b"", answer.body, flags=re.DOTALL))


def _repeated(answer: Answer) -> Answer:
    """A listing that says of each page that there is another one, and gives the same token again."""
    body = re.sub(rb"<IsTruncated>.*?</IsTruncated>", b"", answer.body)
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    return replace(answer, body=body.replace(b"</ListBucketResult>", more))


FAULTS = {
    fault.name: fault
    for fault in (
        WireFault("dropped", Fault(drop=True), borne=True),
        WireFault("reset", Fault(reset=True), borne=True),
        WireFault("lost-answer", Fault(lose_answer=True), borne=True),
        WireFault("cut", Fault(cut=10), borne=True, methods=("GET",)),
        WireFault("status-429", Fault(status=429), borne=True),
        WireFault("status-500", Fault(status=500), borne=True),
        WireFault("status-503", Fault(status=503, body=BUSY), borne=True),
        WireFault("slow-drip", Fault(drip=2.0), borne=True, methods=("GET",)),
        WireFault("late", Fault(delay=2.0), borne=True),
        WireFault("wrong-length", _change(_wrong_length), borne=True, methods=("GET",)),
        WireFault("silent", Fault(delay=300.0, drop=True), borne=False),
        # A listing has no checksum: one in which a letter of a name is another is well formed, and can't be told.
        WireFault("bit-flip", replace(_change(_flip), only_if=_is_object), borne=False, methods=("GET",)),
        WireFault("reordered", _change(_reorder), borne=False, methods=("GET",)),
        WireFault("too-short", _change(_too_short), borne=False, methods=("GET",)),
        WireFault("too-long", _change(_too_long), borne=False, methods=("GET",)),
        WireFault("other-range", _change(_other_range), borne=False, methods=("GET",)),
        WireFault("html", _instead(HTML), borne=False),
        WireFault("empty-200", _instead(b""), borne=False),
        WireFault("error-200", _instead(b"<Error><Code>InternalError</Code><Message>x</Message></Error>"), borne=False),
        WireFault("expired-token", _instead(EXPIRED, 400), borne=False),
        WireFault(
            "denied", _instead(b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>", 403), borne=False
        ),
        WireFault("no-listing", replace(_change(_emptied), only_if=_is_listing), borne=False),
        WireFault("endless-listing", replace(_change(_repeated), only_if=_is_listing), borne=False),
    )
}
"""By name. A fault that isn't ``borne`` may end the command with an error, or be borne as well; never may the command
end with 0 and another result than without it."""

STORMS = ("status-503", "dropped", "late", "expired-token", "html", "empty-200")
"""Faults that are also tried as lasting ones."""
