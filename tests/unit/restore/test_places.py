"""Where tablespaces go, whatever a backup says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import BackupInfo, Tablespace
from barman_cloud.errors import OperationError, UsageError
from barman_cloud.restore.places import parse_tablespace_rules, place_tablespaces, why_unusual

TARGET = Path("/var/lib/postgresql/18/main")


def placed(location: str, oid: int = 16384, **rules: str) -> Path:
    info = BackupInfo("1", tablespaces=[Tablespace("fast", oid, location)])
    (plan,) = place_tablespaces(info, TARGET, rules)
    return plan.target


def test_rules() -> None:
    assert parse_tablespace_rules(["a:/x", "b:/y:z", "a:/w"]) == {"a": "/w", "b": "/y:z"}
    for bad in ("a", ":", "a:", ":/x", ""):
        with pytest.raises(UsageError):
            parse_tablespace_rules([bad])


@pytest.mark.parametrize(
    "location",
    [
        "/mnt/fast",
        "/srv/pg/ts1",
        "/data/ts",
        "/tablespaces/x",
        "/var/lib/postgresql/tablespaces/x/data",
        "/u01/pg",
        "/home/postgres/ts",
        "/opt/pg/ts",
        "/usr/local/pgsql/ts",
        "/tmp/ts",
        "/etcetera",
        "/var/lib/pgsql/16/ts",
    ],
)
def test_a_usual_place_is_taken_and_named(location: str, caplog: pytest.LogCaptureFixture) -> None:
    assert placed(location) == Path(location)
    assert f"tablespace fast goes to {location}, where it was (hint: --tablespace fast:LOCATION" in caplog.text


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("/etc/cron.d", "the system's"),
        ("/etc/systemd/system/x.service.d", "the system's"),
        ("/", "the root"),
        ("/root/.ssh", "the system's"),
        ("/home/alice/.ssh", "hidden"),
        ("/usr/lib/x", "the system's"),
        ("/usr/local/bin", "the system's"),
        ("/var/spool/cron", "the system's"),
        ("/proc/1", "the system's"),
        ("/dev/shm/x", "the system's"),
        ("/mnt/../etc/x", "the system's"),
        ("/var/run/x", "the system's"),
        (f"{TARGET}/global", "inside the recovery directory"),
        (f"{TARGET}/pg_tblspc/16384", "inside"),
    ],
)
def test_no_other_place_is_unless_confirmed(location: str, reason: str) -> None:
    with pytest.raises(OperationError, match=reason) as caught:
        placed(location)
    assert f"--tablespace fast:{location}" in str(caught.value.hint)
    assert placed(location, fast=location) == Path(os.path.realpath(location))


@pytest.mark.parametrize(
    "location", ["", ".", "pg_tblspc/16385", "pg_tblspc/16384/..", "../../etc/x", "base", "x", "/a\0b", "/a\nb"]
)
def test_what_is_no_location(location: str) -> None:
    with pytest.raises(OperationError, match="no place for one"):
        placed(location)
    assert placed(location, fast="/mnt/fast") == Path("/mnt/fast")


def test_in_place_tablespaces() -> None:
    assert placed("pg_tblspc/16384") == TARGET / "pg_tblspc/16384"


def test_a_link_to_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert "the system's" in str(why_unusual(tmp_path / "link" / "x", TARGET))


def test_two_of_one_oid() -> None:
    info = BackupInfo("1", tablespaces=[Tablespace("a", 16384, "/mnt/a"), Tablespace("b", 16384, "/mnt/b")])
    with pytest.raises(OperationError, match="same oid"):
        place_tablespaces(info, TARGET, {})
