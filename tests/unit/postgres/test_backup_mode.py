"""The session of a backup, on a real server: who uses it, how often, and who is told when it is lost."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

import pytest

from barman_cloud.errors import OperationError
from barman_cloud.postgres import backup_mode
from barman_cloud.postgres.backup_mode import BackupMode
from barman_cloud.postgres.connection import (
    Connection,
    ConnectionParameters,
    connect,
    connection_arguments,
)
from tests.support.file_operations import descriptors_left_by
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer


@pytest.fixture
def connection(postgres: PostgresServer) -> Connection:
    return connect(ConnectionParameters(postgres.conninfo))


def ignore(_error: OperationError) -> None:
    """What happens to the session is not this test's subject."""


def test_the_interval_is_in_seconds(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    plain = select.poll

    class Poll:
        def __init__(self) -> None:
            self._poll = plain()
            self.register = self._poll.register

        def poll(self, timeout: float | None) -> list[tuple[int, int]]:
            """poll(2) takes milliseconds."""
            waits.append(timeout)
            return self._poll.poll(timeout)

    monkeypatch.setattr(backup_mode.select, "poll", Poll)
    mode = BackupMode(connection, ignore, keepalive_interval=45)
    mode.start("test", immediate_checkpoint=True)
    wait_for(lambda: waits)
    mode.close()
    assert waits == [45_000]


@pytest.mark.parametrize("interval", [0, 3600])
def test_a_session_that_ends_is_noticed_at_once(
    connection: Connection, postgres: PostgresServer, interval: float
) -> None:
    lost = threading.Event()
    told: list[OperationError] = []

    def on_lost(error: OperationError) -> None:
        told.append(error)
        lost.set()

    mode = BackupMode(connection, on_lost, keepalive_interval=interval)
    mode.start("test", immediate_checkpoint=True)
    postgres.query(f"SELECT pg_terminate_backend({connection.info.backend_pid})")
    assert lost.wait(60)
    mode.close()
    assert len(told) == 1
    assert "session of the backup was lost" in str(told[0])


def test_a_promotion_during_the_backup_is_refused(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = BackupMode(connection, ignore)
    mode.start("test", immediate_checkpoint=True)
    monkeypatch.setattr(backup_mode, "label_timeline", lambda _label: 7)
    with pytest.raises(OperationError, match="moved from timeline 7 to 1"):
        mode.stop()
    mode.close()


def test_nothing_stays_open(postgres: PostgresServer) -> None:
    def take(_number: int) -> None:
        mode = BackupMode(connect(ConnectionParameters(postgres.conninfo)), ignore)
        mode.start("test", immediate_checkpoint=True)
        mode.close()

    assert descriptors_left_by(take) == 0


class TestSession:
    """Nothing that a role or a database sets reaches the queries of a backup."""

    @pytest.fixture
    def as_hindered(self, postgres: PostgresServer) -> Callable[[str], str]:
        postgres.query("DROP ROLE IF EXISTS hindered")
        postgres.query("CREATE ROLE hindered LOGIN SUPERUSER")
        for setting in (
            "statement_timeout = '500ms'",
            "lock_timeout = '500ms'",
            "search_path = 'evil'",
            "datestyle = 'SQL'",
        ):
            postgres.query(f"ALTER ROLE hindered SET {setting}")
        connection = connect(ConnectionParameters(f"{postgres.conninfo} user=hindered"))

        def show(name: str) -> str:
            row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
            assert row is not None
            return str(row[0])

        return show

    def test_settings_of_the_role_do_not_count(self, as_hindered: Callable[[str], str]) -> None:
        found = {name: as_hindered(name) for name in ("statement_timeout", "lock_timeout", "search_path", "datestyle")}
        assert found["statement_timeout"] == found["lock_timeout"] == "0"
        assert found["search_path"] in ("", '""')
        assert found["datestyle"].startswith("ISO")

    def test_a_dead_peer_is_noticed_within_a_minute_and_a_slow_one_is_not_taken_for_dead(self) -> None:
        found = connection_arguments(ConnectionParameters(), "test")
        silence = found["keepalives_idle"] + found["keepalives_interval"] * found["keepalives_count"]
        assert 30 <= silence <= 90
        assert 10_000 <= found["tcp_user_timeout"] <= 90_000, "in milliseconds, unlike the others"
