"""``START_REPLICATION``: WAL as it is written, what is told the server about it, and how a timeline ends.

The messages are in PostgreSQL's documentation, "Streaming Replication Protocol". All LSNs are int.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from typing import NamedTuple

from psycopg.pq import ExecStatus

from barman_cloud.errors import IntegrityError
from barman_cloud.postgres.wal import MAX_SEGMENT_SIZE, MIN_SEGMENT_SIZE, format_lsn, parse_lsn
from barman_cloud.replication.session import ConnectionLostError, EndOfCopy, ReplicationSession, rows_of

_WAL, _KEEPALIVE = b"w", b"k"
_WAL_HEADER = struct.Struct(">cQQQ")
_KEEPALIVE_MESSAGE = struct.Struct(">cQQB")
_STATUS = struct.Struct(">cQQQQB")
_EPOCH = 946684800
"""2000-01-01 in Unix time, from which the protocol counts microseconds."""
_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


class Wal(NamedTuple):
    """A piece of WAL, and how far the server has written when it sent it."""

    start: int
    data: memoryview
    server_end: int


class Keepalive(NamedTuple):
    """The server's sign of life."""

    server_end: int
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class NextTimeline:
    """The timeline that the server went on with, and the LSN where the one that was streamed ended."""

    timeline: int
    begin: int


class WalStream:
    """WAL of one timeline from ``start`` on. Refusals are those of the session."""

    def __init__(self, session: ReplicationSession, start: int, timeline: int, slot: str | None) -> None:
        self._session = session
        named = f"SLOT {quoted(slot)} " if slot else ""
        session.send(f"START_REPLICATION {named}PHYSICAL {format_lsn(start)} TIMELINE {timeline}")
        result = session.result()
        self.ended: NextTimeline | None = None
        """Set at once where the timeline has nothing behind ``start``."""
        if result is not None and result.status == ExecStatus.TUPLES_OK:
            self.ended = _next_timeline(rows_of(result))
            session.finish()
        elif result is None or result.status != ExecStatus.COPY_BOTH:
            raise ConnectionLostError("the server doesn't begin to stream")

    def receive(self, seconds: float) -> Wal | Keepalive | None:
        """Return the next message; None if there was none within ``seconds`` or the timeline ended (``ended``)."""
        try:
            message = self._session.copy_both_receive(seconds)
        except EndOfCopy:
            self._end()
            return None
        if message is None:
            return None
        kind, size = bytes(message[:1]), len(message)
        if kind == _WAL and size >= _WAL_HEADER.size:
            _, start, server_end, _ = _WAL_HEADER.unpack_from(message)
            return Wal(start, message[_WAL_HEADER.size :], server_end)
        if kind == _KEEPALIVE and size >= _KEEPALIVE_MESSAGE.size:
            _, server_end, _, wants_reply = _KEEPALIVE_MESSAGE.unpack_from(message)
            return Keepalive(server_end, bool(wants_reply))
        raise IntegrityError(f"the server's stream has a message that is none: {size} bytes of kind {kind!r}")

    def report(self, written: int, flushed: int) -> None:
        """Tell the server how far WAL was received, and how far it needn't be kept for us any more."""
        now = int((time.time() - _EPOCH) * 1_000_000)
        self._session.copy_both_send(_STATUS.pack(b"r", written, flushed, 0, now, 0))

    def stop(self) -> None:
        """End the stream from our side, and take what is still on its way."""
        self._session.copy_both_end()
        try:
            while self._session.copy_both_receive(1.0) is not None:
                pass
        except EndOfCopy:
            self._session.finish()

    def _end(self) -> None:
        self._session.copy_both_end()
        while (result := self._session.result()) is not None:
            if result.status == ExecStatus.TUPLES_OK:
                self.ended = _next_timeline(rows_of(result))
        if self.ended is None:
            raise ConnectionLostError("the server ended the stream: it shuts down")


def timeline_history(session: ReplicationSession, timeline: int) -> bytes:
    """Return the content of a timeline's history file, as the server has it; empty for timeline 1."""
    if timeline == 1:
        return b""
    session.send(f"TIMELINE_HISTORY {timeline}")
    result = session.result()
    content = result.get_value(0, 1) if result is not None else None
    session.finish()
    return content or b""


def segment_size_of(session: ReplicationSession) -> int:
    """Return the size of the server's WAL segments in bytes."""
    text = str(session.query("SHOW wal_segment_size")[0][0])
    number = text.rstrip("kMGB")
    size = int(number) * _UNITS[text[len(number) :]]
    if not MIN_SEGMENT_SIZE <= size <= MAX_SEGMENT_SIZE:
        raise IntegrityError(f"the server says that its WAL segments have {size} bytes")
    return size


def quoted(name: str) -> str:
    """Return an identifier of a replication command in quotes."""
    return '"' + name.replace('"', '""') + '"'


def _next_timeline(rows: list[list[str | None]]) -> NextTimeline:
    return NextTimeline(int(str(rows[0][0])), parse_lsn(str(rows[0][1])))
