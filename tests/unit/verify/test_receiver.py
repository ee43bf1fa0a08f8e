"""What a receiver last said of itself, as it is read and judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from barman_cloud.catalog import receiver_state
from barman_cloud.catalog.layout import Layout
from barman_cloud.catalog.receiver_state import ReceiverState
from barman_cloud.errors import IntegrityError
from barman_cloud.store.base import StoreURL
from barman_cloud.verify.findings import Level
from barman_cloud.verify.receiver import look_at_receiver, metrics
from tests.support.memory_store import MemoryStore

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LAYOUT = Layout("", "main")
STATE = ReceiverState(
    time=NOW - timedelta(seconds=20),
    started=NOW - timedelta(days=3),
    mode="direct",
    host="backup1",
    pid=77,
    application_name="barman_cloud_receive",
    slot="barman",
    connected=True,
    timeline=2,
    server_lsn=0x5000000,
    received_lsn=0x4FF0000,
    flushed_lsn=0x4FE0000,
    waiting_bytes=3 << 20,
    waiting_limit=80 << 20,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(StoreURL("memory", "bucket", "", "memory://bucket"))


def judged(store: MemoryStore, state: ReceiverState, newest_wal: datetime | None = None) -> tuple[Level, str]:
    receiver_state.write(store, LAYOUT, state)
    read, (finding,) = look_at_receiver(store, LAYOUT, NOW, newest_wal)
    assert read == state
    assert finding.subject == "receiver"
    assert (finding.hint is None) == (finding.level is Level.OK)
    return finding.level, finding.message


def test_none_is_nothing_to_talk_about(store: MemoryStore) -> None:
    assert look_at_receiver(store, LAYOUT, NOW) == (None, ())


def test_one_that_runs_says_how_far_it_is(store: MemoryStore) -> None:
    level, message = judged(store, STATE)
    assert level is Level.OK
    for words in ("(direct) on backup1", "timeline 2 up to 0/4FE0000", "128 KiB behind", "20 s ago", "3 of 80 MiB"):
        assert words in message
    numbers = metrics(STATE, NOW)
    assert numbers["receiver_up"] == 1
    assert numbers["receiver_lag_bytes"] == 128 << 10


def test_a_problem_a_silence_and_an_end_are_told_apart(store: MemoryStore) -> None:
    level, message = judged(store, replace(STATE, problem="WAL can't be stored: away"))
    assert (level, message) == (Level.CRITICAL, "wal-receive (direct) on backup1: WAL can't be stored: away")
    silent = replace(STATE, time=NOW - timedelta(minutes=10))
    level, message = judged(store, silent)
    assert (level, message) == (Level.CRITICAL, "wal-receive (direct) on backup1 was last heard of 10 min ago")
    assert metrics(silent, NOW)["receiver_up"] == 0
    level, message = judged(store, replace(silent, running=False))
    assert level is Level.WARNING
    assert "was stopped 10 min ago" in message
    level, message = judged(store, replace(silent, running=False, problem="slot s was invalidated"))
    assert level is Level.CRITICAL
    assert message.endswith("ended 10 min ago: slot s was invalidated")
    level, message = judged(store, silent, newest_wal=NOW - timedelta(minutes=1))
    assert level is Level.OK
    assert "by another way" in message


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"time": 5}', b"\xff", b"[" * 20000])
def test_what_is_not_understood_is_named(store: MemoryStore, content: bytes) -> None:
    store.put(receiver_state.key(LAYOUT), content)
    with pytest.raises(IntegrityError, match=r"wal-receive\.json"):
        receiver_state.read(store, LAYOUT)
    state, (finding,) = look_at_receiver(store, LAYOUT, NOW)
    assert state is None
    assert finding.level is Level.WARNING


def test_later_versions_may_say_more_and_types_count(store: MemoryStore) -> None:
    document = STATE.to_json() | {"mood": "good"}
    import json

    store.put(receiver_state.key(LAYOUT), json.dumps(document).encode())
    assert receiver_state.read(store, LAYOUT) == STATE
    store.put(receiver_state.key(LAYOUT), json.dumps(document | {"server_lsn": "0/5"}).encode())
    with pytest.raises(IntegrityError):
        receiver_state.read(store, LAYOUT)
