"""Settings that lead away from a restored directory: found, neutralised, undone."""

from __future__ import annotations

import logging
import shlex
import subprocess
from pathlib import Path

import pytest

from barman_cloud.catalog.backup_info import BackupInfo
from barman_cloud.restore import configuration
from barman_cloud.restore.configuration import (
    explain_changes,
    find_astray,
    neutralise,
    start_commands,
    warn_of_astray,
)

DEBIAN = """\
data_directory = '/var/lib/postgresql/18/main'\t\t# use data in another directory
hba_file = '/etc/postgresql/18/main/pg_hba.conf'
ident_file = '/etc/postgresql/18/main/pg_ident.conf'
external_pid_file = '/var/run/postgresql/18-main.pid'
port = 5432
#hba_file = 'ConfigDir/pg_hba.conf'
include_dir = 'conf.d'
"""
INFO = BackupInfo("1", version=180000, config_file="/etc/postgresql/18/main/postgresql.conf")


@pytest.fixture
def pgdata(tmp_path: Path) -> Path:
    (tmp_path / "data dir").mkdir()
    return tmp_path / "data dir"


def names(directory: Path) -> list[tuple[str, int, str]]:
    return [(found.file, found.line, found.name) for found in find_astray(directory)]


def test_debian(pgdata: Path) -> None:
    (pgdata / "postgresql.conf").write_text(DEBIAN)
    assert names(pgdata) == [
        ("postgresql.conf", 1, "data_directory"),
        ("postgresql.conf", 2, "hba_file"),
        ("postgresql.conf", 3, "ident_file"),
        ("postgresql.conf", 4, "external_pid_file"),
        ("postgresql.conf", 7, "include_dir"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "port = 1\n",
        "data_directory = 'HERE'\nhba_file = 'HERE/pg_hba.conf'\n",
        "data_directory = 'HERE/'\n",
        "external_pid_file = ''\n",
        "include_if_exists 'nothing.conf'\n",
        "include 'here.conf'\ninclude_dir 'conf.d'\n",
        "include 'HERE/here.conf'\n",
    ],
)
def test_what_stays_inside_is_fine(pgdata: Path, text: str) -> None:
    (pgdata / "here.conf").write_text("port = 2\n")
    (pgdata / "conf.d").mkdir()
    (pgdata / "postgresql.conf").write_text(text.replace("HERE", str(pgdata)))
    assert names(pgdata) == []
    before = (pgdata / "postgresql.conf").stat()
    neutralise(pgdata)
    assert (pgdata / "postgresql.conf").stat().st_ino == before.st_ino
    assert explain_changes(pgdata, INFO) == []


def test_included_files_are_looked_into(pgdata: Path) -> None:
    (pgdata / "conf.d").mkdir()
    (pgdata / "conf.d/1.conf").write_text("hba_file = '/x'\ninclude '../deeper.conf'\n")
    (pgdata / "conf.d/.hidden.conf").write_text("hba_file = '/x'\n")
    (pgdata / "conf.d/other.txt").write_text("hba_file = '/x'\n")
    (pgdata / "deeper.conf").write_text("include 'deeper.conf'\nident_file '/y'\n")
    (pgdata / "postgresql.conf").write_text("include_dir = 'conf.d'\ninclude '/etc/common.conf'\n")
    (pgdata / "postgresql.auto.conf").write_text("hba_file = '/z'\n")
    found = names(pgdata)
    assert ("conf.d/1.conf", 1, "hba_file") in found
    assert ("deeper.conf", 2, "ident_file") in found
    assert ("postgresql.conf", 2, "include") in found
    assert ("postgresql.auto.conf", 1, "hba_file") in found
    assert not any("hidden" in file or "other" in file for file, _, _ in found)
    neutralise(pgdata)
    assert names(pgdata) == []
    assert "/x" in "".join(explain_changes(pgdata, INFO))


def test_a_link_is_not_followed_out_of_the_directory(pgdata: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/other.conf").write_text("hba_file = '/x'\n")
    (pgdata / "conf.d").symlink_to(tmp_path / "etc")
    (pgdata / "postgresql.conf").write_text("include_dir = 'conf.d'\n")
    assert names(pgdata) == [("postgresql.conf", 1, "include_dir")]
    neutralise(pgdata)
    assert (tmp_path / "etc/other.conf").read_text() == "hba_file = '/x'\n"


def test_a_configuration_that_is_no_file_is_left_alone(
    pgdata: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "real.conf").write_text(DEBIAN)
    (pgdata / "postgresql.conf").symlink_to(tmp_path / "real.conf")
    neutralise(pgdata)
    assert (tmp_path / "real.conf").read_text() == DEBIAN
    assert "not looked into" in caplog.text


def test_neutralised_is_undone_by_the_command_that_is_shown(pgdata: Path) -> None:
    path = pgdata / "postgresql.conf"
    path.write_text(DEBIAN + "hba_file = '/etc/my_hba.conf'\n")
    path.chmod(0o640)
    (pgdata / "my_hba.conf").write_text("")
    before = path.read_bytes()
    for _ in range(2):
        neutralise(pgdata)
        assert names(pgdata) == []
        assert path.stat().st_mode & 0o777 == 0o640
        assert "port = 5432\n" in path.read_text()
        assert path.read_text().count("my_hba.conf") == 2
    undo = next(line for line in explain_changes(pgdata, INFO) if "to undo" in line)
    subprocess.run(shlex.split(undo.split("to undo", 1)[1]), check=True)
    assert path.read_bytes() == before


def test_the_commands_that_start_the_copy(pgdata: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (pgdata / "postgresql.conf").write_text(DEBIAN)
    monkeypatch.setattr(configuration, "_DEBIAN_TOOL", tmp_path)
    command, debian = start_commands(pgdata, INFO, find_astray(pgdata))
    words = shlex.split(command)
    assert words[:4] == ["pg_ctl", "-D", str(pgdata), "-o"]
    assert shlex.split(words[4]) == [
        "-c",
        f"data_directory={pgdata}",
        "-c",
        f"hba_file={pgdata}/pg_hba.conf",
        "-c",
        f"ident_file={pgdata}/pg_ident.conf",
        "-c",
        "external_pid_file=",
    ]
    assert debian == (f"pg_createcluster 18 main_restored -d '{pgdata}' && pg_ctlcluster 18 main_restored start")
    monkeypatch.setattr(configuration, "_DEBIAN_TOOL", tmp_path / "nothing")
    assert len(start_commands(pgdata, INFO, find_astray(pgdata))) == 1


def test_what_leads_elsewhere_is_warned_of(pgdata: Path, caplog: pytest.LogCaptureFixture) -> None:
    warn_of_astray(pgdata, INFO)
    assert not caplog.records
    (pgdata / "postgresql.conf").write_text(DEBIAN)
    with caplog.at_level(logging.WARNING):
        warn_of_astray(pgdata, INFO)
    assert "line 1: data_directory = '/var/lib/postgresql/18/main'" in caplog.text
    assert "line 7: include_dir = 'conf.d', which isn't there" in caplog.text
    assert "is started by: pg_ctl -D" in caplog.text


def test_a_line_that_is_added_does_not_shift_the_ones_below(pgdata: Path) -> None:
    (pgdata / "main_hba.conf").touch()
    (pgdata / "postgresql.conf").write_text(
        "hba_file = '/etc/x/main_hba.conf'\nport = 5\ndata_directory = '/old'\nwork_mem = 1\n"
    )
    neutralise(pgdata)
    kept = [line for line in (pgdata / "postgresql.conf").read_text().splitlines() if not line.startswith("#")]
    assert kept == [f"hba_file = '{pgdata}/main_hba.conf' # barman-cloud-restore", "port = 5", "work_mem = 1"]
    assert names(pgdata) == []


def test_a_directory_whose_name_only_begins_like_this_one_is_another(pgdata: Path) -> None:
    (pgdata / "postgresql.conf").write_text(f"data_directory = '{pgdata}2'\nhba_file = '{pgdata}.old/pg_hba.conf'\n")
    assert [name for _, _, name in names(pgdata)] == ["data_directory", "hba_file"]
