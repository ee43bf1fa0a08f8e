"""Recovery settings as PostgreSQL reads them."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.errors import OperationError, UsageError
from barman_cloud.restore.recovery_settings import RecoverySettings, explain, restore_command, write

TIME = datetime(2026, 11, 22, 14, 30, tzinfo=timezone(timedelta(hours=1)))
INFO = BackupInfo(
    "20261122T121102", version=180000, end_time=datetime(2026, 11, 22, 12, 30, tzinfo=UTC), end_xlog="16/B374D848"
)


def test_written_after_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "postgresql.auto.conf").write_text("work_mem = '64MB'")
    (tmp_path / "standby.signal").touch()
    settings = RecoverySettings("cmd 'x' %f %p", time=TIME, action="promote", timeline=3, exclusive=True)
    write(tmp_path, settings, "20261122T121102")
    assert (tmp_path / "postgresql.auto.conf").read_text() == (
        "work_mem = '64MB'\n"
        "# begin recovery settings\n"
        "# Recovery of backup 20261122T121102, written by barman-cloud-restore.\n"
        "restore_command = 'cmd ''x'' %f %p'\n"
        "recovery_target = ''\n"
        "recovery_target_lsn = ''\n"
        "recovery_target_name = ''\n"
        "recovery_target_xid = ''\n"
        "recovery_target_time = '2026-11-22 14:30:00+01:00'\n"
        "recovery_target_inclusive = 'off'\n"
        "recovery_target_timeline = '3'\n"
        "recovery_target_action = 'promote'\n"
        "# end recovery settings\n"
    )
    assert (tmp_path / "recovery.signal").exists()
    assert not (tmp_path / "standby.signal").exists()


def test_written_twice_is_there_once(tmp_path: Path) -> None:
    write(tmp_path, RecoverySettings("first", name="here"), "1")
    with (tmp_path / "postgresql.auto.conf").open("a") as file:
        file.write("work_mem = '1MB'\n")
    write(tmp_path, RecoverySettings("second", standby=True), "2")
    text = (tmp_path / "postgresql.auto.conf").read_text()
    assert text.startswith("work_mem = '1MB'\n# begin")
    assert text.count("restore_command") == 1
    assert "restore_command = 'second'" in text
    assert (tmp_path / "standby.signal").exists()
    assert not (tmp_path / "recovery.signal").exists()


@pytest.mark.parametrize(
    ("given_settings", "name", "value"),
    [
        ({"lsn": 0x16B374D848}, "recovery_target_lsn", "16/B374D848"),
        ({"name": "before drop"}, "recovery_target_name", "before drop"),
        ({"xid": "771"}, "recovery_target_xid", "771"),
        ({"immediate": True}, "recovery_target", "immediate"),
    ],
)
def test_the_target_stands_behind_the_emptied_ones(given_settings: dict[str, Any], name: str, value: str) -> None:
    parameters = RecoverySettings("c", **given_settings).parameters()
    assert parameters[name] == value
    assert next(reversed(parameters)) == name
    assert sum(1 for other, text in parameters.items() if other.startswith("recovery_target") and not text) == 4


def test_no_target_empties_all() -> None:
    assert list(RecoverySettings("c").parameters().values()) == ["c", "", "", "", "", ""]


@pytest.mark.parametrize("bad", [{"lsn": 1, "xid": "2"}, {"action": "promote"}, {"exclusive": True}])
def test_combinations_that_mean_nothing(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RecoverySettings("c", **bad)


def test_a_server_without_recovery_signal() -> None:
    RecoverySettings("c").check(INFO)
    with pytest.raises(OperationError, match="older than 12"):
        RecoverySettings("c").check(BackupInfo("1", version=110005))


@given(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    st.text("ab %'\"\\\\", max_size=5),
)
def test_a_restore_command_reads_back_as_it_was_meant(url: str, server: str) -> None:
    command = restore_command("/opt/bin/barman-cloud-wal-restore", ["--endpoint-url=http://h:1/%"], url, server)
    replaced = command.replace("%%", "\0").replace("%f", "NAME").replace("%p", "PATH").replace("\0", "%")
    assert shlex.split(replaced) == [
        "/opt/bin/barman-cloud-wal-restore",
        "--abort-recovery-on-error",
        "--endpoint-url=http://h:1/%",
        url,
        server,
        "NAME",
        "PATH",
    ]


def test_errors_that_postgresql_may_take_for_the_end() -> None:
    assert restore_command("p", [], "u", "s", abort_on_error=False) == "p u s %f %p"
    assert restore_command("p", [], "u", "s") == "p --abort-recovery-on-error u s %f %p"


def test_a_setting_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write(tmp_path, RecoverySettings("c", name="two\nlines"), "1")


def test_what_was_chosen_is_explained() -> None:
    text = "\n".join(explain(RecoverySettings("wal %f", time=TIME), Path("/data")))
    assert "wal %f" in text
    assert "recovery_target_time = 2026-11-22 14:30:00+01:00" in text
    assert "pause" in text
    assert "end of the archived WAL" in "\n".join(explain(RecoverySettings("c", standby=True), Path("/data")))
