"""Messages of a stream that a server wouldn't send: named, never taken for WAL."""

import struct
from types import SimpleNamespace

import pytest
from psycopg.pq import ExecStatus

from barman_cloud.errors import IntegrityError
from barman_cloud.replication.wal_stream import Keepalive, WalStream

KEEPALIVE = struct.pack(">cQQB", b"k", 0x3000000, 0, 1)
PIECE = struct.pack(">cQQQ", b"w", 0x2000000, 0x3000000, 0)


def stream(message: bytes) -> WalStream:
    session = SimpleNamespace(
        send=lambda command: None,
        result=lambda: SimpleNamespace(status=ExecStatus.COPY_BOTH),
        copy_both_receive=lambda seconds: memoryview(message),
    )
    return WalStream(session, 0x2000000, 1, None)  # type: ignore[arg-type]


def test_pieces_and_signs_of_life() -> None:
    assert stream(PIECE + b"wal").receive(1.0) == (0x2000000, b"wal", 0x3000000)
    assert stream(KEEPALIVE).receive(1.0) == Keepalive(0x3000000, wants_reply=True)


@pytest.mark.parametrize("whole", [PIECE, KEEPALIVE], ids=["piece", "keepalive"])
def test_a_message_that_is_cut_anywhere_is_refused(whole: bytes) -> None:
    for size in range(len(whole)):
        with pytest.raises(IntegrityError, match=f"{size} bytes of kind"):
            stream(whole[:size]).receive(1.0)


def test_a_message_of_another_kind_is_refused() -> None:
    with pytest.raises(IntegrityError, match="of kind b'x'"):
        stream(b"x" * 100).receive(1.0)
