"""Servers of the configuration as a user meets them: models, ``all``, what ``check`` says of keys, and mistakes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import program
from tests.support.maintenance import Host
from tests.support.postgres import command_environment
from tests.support.segments import segment, segment_name

NOW = "2026-11-28T12:00:00Z"


def section(name: str, *lines: str) -> str:
    text = f"[{name}]\nbasebackups_directory = STORE/{name}/base\nwals_directory = STORE/{name}/wals\n"
    return text + "".join(f"{line}\n" for line in lines)


def make_host(tmp_path: Path, text: str) -> Host:
    (tmp_path / "store").mkdir()
    return Host(tmp_path, "[barman]\nbarman_home = HOME\n" + text)


def archive(host: Host, server: str, number: int) -> str:
    """Archive a segment and return the name of its object."""
    path = host.home / segment_name(number)
    path.write_bytes(segment(number))
    done = host.run("wal-archive", server, str(path))
    assert done.returncode == 0, done.stderr
    return next(found.name for found in host.stores.glob(f"{server}/wals/*/*") if found.name.startswith(path.name))


def test_an_active_model_counts_on_every_host_until_it_is_taken_off(tmp_path: Path) -> None:
    text = section("main", "cluster = c", "backup_method = postgres")
    text += "[dense]\nmodel = true\ncluster = c\ncompression = zstd\nconninfo = host=db2 password=secret\n"
    text += "[foreign]\nmodel = true\ncluster = other\ncompression = xz\n"
    host = make_host(tmp_path, text)
    other = Host(tmp_path, host.file.read_text(), "other")
    assert archive(host, "main", 1).endswith(segment_name(1))
    switched = host.run("config-switch", "main", "dense")
    assert switched.returncode == 0, switched.stderr
    assert "main: model dense is active now\n" in switched.stdout
    assert "  compression: (none) -> zstd\n" in switched.stdout
    assert "secret" not in switched.stdout + switched.stderr
    assert archive(other, "main", 2).endswith(".zst")
    assert "main (model dense)" in other.run("cron", "--list", now=NOW).stdout
    assert "nothing to do" in host.run("config-switch", "main", "dense").stdout
    refused = host.run("config-switch", "main", "foreign")
    assert refused.returncode == 4
    assert re.search(r"host.conf:\d+: model .foreign. is for cluster .other., and server .main. is of", refused.stderr)
    # A configuration that lost the model says so instead of going on without.
    other.file.write_text(other.file.read_text().replace("[dense]", "[denser]"))
    lost = other.run("check", "main")
    assert lost.returncode == 4
    assert "the active model of main can't be applied: no model 'dense'" in lost.stderr
    assert host.run("config-switch", "main", "--reset").returncode == 0
    assert archive(other, "main", 3).endswith(segment_name(3))
    # What a Barman server of this machine says counts only until the bucket says something.
    (host.stores / "main" / "maintenance" / "active_model").unlink()
    (host.home / "main").mkdir(exist_ok=True)
    (host.home / "main" / ".active-model.auto").write_text("dense")
    assert archive(host, "main", 4).endswith(".zst")
    assert host.run("config-switch", "main", "--reset").returncode == 0
    assert archive(host, "main", 5).endswith(segment_name(5))


def test_the_receiver_ends_when_the_model_changes(tmp_path: Path) -> None:
    text = section("main", "streaming_archiver = on")
    host = make_host(tmp_path, text + "[m]\nmodel = true\ncluster = main\nconninfo = host=db2\n")
    code = (
        "import sys, signal; from datetime import timedelta; from barman_cloud.store.open import open_store\n"
        "from barman_cloud.catalog.layout import Layout; from barman_cloud.schedule.lease import acquire\n"
        f"acquire(open_store('file://{host.stores}'), Layout('', 'main'), 'wal-receive', timedelta(minutes=3))\n"
        "print('ready', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as receiver:
        try:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            assert host.cron(now=NOW) == ""
            said = host.run("config-switch", "main", "m").stdout
            assert "main: the receiver of WAL is ended; the next pass of cron starts it again\n" in said
            assert receiver.wait(200) == -signal.SIGTERM
        finally:
            receiver.kill()


def test_check_tells_what_the_configuration_holds(tmp_path: Path) -> None:
    host = make_host(
        tmp_path,
        section(
            "main", "backup_method = postgres", "reuse_backup = link", "encryption = gpg", "streaming_archiver = on"
        )
        + section("quiet", "archiver = on", "backup_method = postgres", "max_incoming_wals_queue = 1")
        + "[split]\nbasebackups_directory = s3://a/x\nwals_directory = s3://b/x\n",
    )
    for server in ("main", "quiet"):
        archive(host, server, 1)
    incoming = host.home / "quiet" / "incoming"
    incoming.mkdir(parents=True)
    for number in (2, 3):
        (incoming / segment_name(number)).write_bytes(b"")
    done = host.run("check", "all", "--format", "json")
    assert done.returncode == 1
    reports = json.loads(done.stdout)["servers"]
    assert [report["server"] for report in reports] == ["main", "quiet", "split"]
    found = {
        (report["server"], finding["subject"], finding["level"]): finding["message"]
        for report in reports
        for finding in report["findings"]
    }
    assert found["main", "configuration", "critical"].startswith("encryption has no effect here")
    assert found["main", "configuration", "ok"].startswith("reuse_backup is not used here")
    assert found["main", "configuration", "warning"].startswith("streaming_archiver is on without slot_name")
    assert found["main", "receiver", "critical"] == "WAL is not received, although streaming_archiver is on"
    assert "2 WAL files wait in" in found["quiet", "incoming", "warning"]
    assert "needs both in one place" in found["split", "store", "unknown"]
    assert ("quiet", "configuration", "warning") not in found
    again = json.loads(host.run("check", "all", "--format", "json").stdout)["servers"]
    assert [list(report) for report in again] == [list(report) for report in reports]
    assert host.run("check", "all", "--nagios").returncode == 2


@pytest.mark.parametrize(
    ("lines", "words", "expected"),
    [
        (
            "backup_method = rsync",
            ["backup", "main"],
            r"host.conf:6: backup_method rsync can't store backups in a bucket",
        ),
        ("backup_schedule = 0 0 30 2 *", ["cron"], "host.conf:6: backup_schedule: .* never comes"),
        (
            "schedule_time_zone = Europe/Wien",
            ["cron"],
            "host.conf:6: schedule_time_zone: 'Europe/Wien' is not a time zone",
        ),
        ("[main]", ["cron", "main"], r"host.conf:6: section \[main\] is there twice"),
        ("[all]", ["check", "all"], r"host.conf:6: a server can't be named 'all'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, lines: str, words: list[str], expected: str) -> None:
    host = make_host(tmp_path, section("main", lines))
    done = host.run(*words, now=NOW)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert re.search(expected, line)
    assert "(hint: " in line
    assert list(host.stores.iterdir()) == []


def test_another_user_than_barman_user_is_refused_for_local_state(tmp_path: Path) -> None:
    host = make_host(tmp_path, section("main"))
    host.file.write_text(host.file.read_text().replace("[barman]", "[barman]\nbarman_user = nobody-else"))
    for words in (["cron"], ["config-switch", "main", "--reset"]):
        done = host.run(*words)
        assert done.returncode == 4
        assert "host.conf:2: barman_user is 'nobody-else', and there is no such user" in done.stderr
    assert host.run("backup-list", "main").returncode == 0
    assert sorted(path.name for path in host.home.iterdir()) == []


def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "barman_cloud", "--version"], capture_output=True, text=True, check=True,
        env=command_environment(), cwd=os.path.dirname(program("x")),
    )  # fmt: skip
    assert done.stdout.startswith("barman-cloud ")
