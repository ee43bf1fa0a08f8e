"""Hook scripts of the configuration, run as Barman runs them: real scripts around real commands."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.maintenance import Host
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer
from tests.support.segments import segment, segment_name

WORKS = ("backup", "archive", "delete", "wal_delete", "recovery")
ORDER = ["pre plain", "pre retry", "post retry", "post plain"]
_COMMON = {"CONFIGURATION", "ERROR", "HOOK", "PHASE", "RETRY", "SERVER", "VERSION"}
_BACKUP = {*_COMMON, "BACKUP_DIR", "BACKUP_ID", "BACKUP_INFO_PATH", "NEXT_ID", "PREVIOUS_ID", "STATUS"}
_WAL = {*_COMMON, "COMPRESSION", "FILE", "SEGMENT", "SIZE", "TIMESTAMP"}
VARIABLES = {
    "backup": _BACKUP,
    "delete": _BACKUP,
    "archive": _WAL,
    "wal_delete": _WAL,
    "recovery": {*_BACKUP, "DESTINATION_DIRECTORY", "RECOVER_OPTIONS", "REMOTE_COMMAND", "TABLESPACES"},
}
"""What a script of Barman 3.20.1 is told, without ``BARMAN_``: as seen by scripts that it ran."""
SCRIPT = """#!/bin/sh
# Appends what it is told to LOG, and ends as the file beside it says, which counts down.
{ echo "$1"; env | grep ^BARMAN_; echo; } >> LOG
[ -e "CODE.$1" ] || exit 0
read -r code rest < "CODE.$1"
echo "$rest" > "CODE.$1"
[ "$code" = hang ] && sleep 600
exit "${code:-0}"
"""


class Scripts:
    """The script, its log, and how it is to end."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.codes = directory
        self.path = directory / "script"
        self.path.write_text(SCRIPT.replace("LOG", str(self.log)).replace("CODE", str(directory / "code")))
        self.path.chmod(0o755)

    def keys(self, *works: str) -> str:
        """Return the keys that have it run at every place of ``works``."""
        return "".join(
            f"{phase}_{work}{suffix}_script = {self.path} {phase}_{work}{suffix}\n"
            for work in works
            for phase in ("pre", "post")
            for suffix in ("", "_retry")
        )

    def end_with(self, place: str, codes: str) -> None:
        (self.codes / f"code.{place}").write_text(codes)

    def calls(self) -> list[dict[str, str]]:
        """Return the variables of each call since the last look, without ``BARMAN_``."""
        if not self.log.exists():
            return []
        blocks = self.log.read_text().strip().split("\n\n")
        self.log.unlink()
        lines = [[line.removeprefix("BARMAN_").partition("=")[::2] for line in b.splitlines()[1:]] for b in blocks]
        return [dict(pairs) for pairs in lines]


def places(calls: list[dict[str, str]]) -> list[str]:
    return [f"{call['PHASE']} {'retry' if call['RETRY'] == '1' else 'plain'}" for call in calls]


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    directory = tmp_path / "scripts"
    directory.mkdir()
    return Scripts(directory)


def make_host(tmp_path: Path, scripts: Scripts, *lines: str, works: tuple[str, ...] = WORKS) -> Host:
    (tmp_path / "store").mkdir()
    text = (
        "[barman]\nbarman_home = HOME\n[main]\nbackup_method = postgres\n"
        "basebackups_directory = STORE/main/base\nwals_directory = STORE/main/wals\n" + scripts.keys(*works)
    )
    return Host(tmp_path, text + "".join(f"{line}\n" for line in lines))


def test_scripts_run_around_everything(
    tmp_path: Path, scripts: Scripts, new_postgres: Callable[..., PostgresServer]
) -> None:
    server = new_postgres(initdb=("--wal-segsize=1",))
    host = make_host(tmp_path, scripts, f"conninfo = {server.conninfo}", "immediate_checkpoint = on")

    def run(*words: str) -> list[dict[str, str]]:
        done = host.run(*words)
        assert done.returncode == 0, done.stderr
        calls = scripts.calls()
        for call in calls:
            assert (call["SERVER"], call["CONFIGURATION"], call["ERROR"]) == ("main", str(host.file), "")
            assert set(call) == VARIABLES[call["HOOK"].removesuffix("_script").removesuffix("_retry")]
        return calls

    backups = []
    for number in range(2):
        # The second is taken by Barman's command.
        by_barman = ("server", "backup", "main", "--wait", "--wait-timeout", "1")
        calls = run(*by_barman) if number else run("backup", "main", "--wal-timeout", "0")
        assert places(calls) == ORDER
        assert {call["HOOK"] for call in calls} == {"backup_script", "backup_retry_script"}
        assert [call["STATUS"] for call in calls] == ["EMPTY", "EMPTY", "DONE", "DONE"]
        (backup_id,) = {call["BACKUP_ID"] for call in calls}
        backups.append(backup_id)
        assert {call["PREVIOUS_ID"] for call in calls} == {backups[0] if number else ""}
        assert calls[0]["BACKUP_DIR"].endswith(f"/store/main/base/{backup_id}")
        segments = sorted(path for path in (server.data / "pg_wal").iterdir() if len(path.name) == 24)
        calls = run("wal-archive", "main", str(segments[0]), "--parallel", "4")
        assert places(calls) == ORDER
        assert calls[0]["FILE"] == str(segments[0])
        assert calls[0]["SIZE"] == str(1 << 20)
        assert calls[3]["FILE"].endswith(f"/main/wals/{segments[0].name[:16]}/{segments[0].name}")
        server.switch_wal()
    target = ("main", "first", str(tmp_path / "restored"), "--target-name", "x")
    assert places(run("server", "restore", *target)) == ORDER
    shutil.rmtree(tmp_path / "restored")
    calls = run("restore", *target, "--force")
    assert places(calls) == ORDER
    assert calls[0]["DESTINATION_DIRECTORY"] == str(tmp_path / "restored")
    assert (calls[0]["NEXT_ID"], calls[0]["RECOVER_OPTIONS"]) == (backups[1], '{"name": "x"}')
    scripts.end_with("pre_delete_retry", "63")
    stopped = host.run("backup-delete", "main", "-b", "first")
    assert stopped.returncode == 1
    assert "pre_delete_retry_script of main says that it must not be done" in stopped.stderr
    scripts.calls()
    assert backups[0] in host.run("backup-list", "main").stdout
    assert scripts.calls() == []
    assert run("backup-delete", "main", "-b", "first", "--dry-run") == []
    calls = run("server", "delete", "main", "first")
    of_wal = [call for call in calls if call["HOOK"].startswith("wal_delete")]
    of_backup = [call for call in calls if call["HOOK"].startswith("delete")]
    assert places(of_backup) == ORDER
    assert places(of_wal)[:2] == ORDER[:2]
    assert places(of_wal)[-2:] == ORDER[2:]
    assert {call["SIZE"] for call in of_wal} == {str(1 << 20)}
    assert all(abs(float(call["TIMESTAMP"]) - time.time()) < 3600 for call in of_wal)
    assert calls.index(of_backup[1]) < calls.index(of_wal[0]) < calls.index(of_wal[-1]) < calls.index(of_backup[2])
    server.stop()
    failed = host.run("restore", "main", backups[1], str(tmp_path / "restored"))
    assert failed.returncode != 0
    calls = scripts.calls()
    assert places(calls) == ORDER
    assert [bool(call["ERROR"]) for call in calls] == [False, False, True, True]


def test_scripts_that_fail_hang_and_abort(tmp_path: Path, scripts: Scripts) -> None:
    host = make_host(tmp_path, scripts, "hook_timeout = 5", "hook_retries = 2", works=("archive",))
    path = tmp_path / segment_name(1)
    path.write_bytes(segment(1))

    def archive(expected: int) -> tuple[list[str], str]:
        done = host.run("wal-archive", "main", str(path))
        assert done.returncode == expected, done.stderr
        return places(scripts.calls()), done.stderr

    scripts.end_with("pre_archive_retry", "63")
    called, said = archive(1)
    assert called == ORDER[:2]
    assert "says that it must not be done" in said
    assert list((host.stores).iterdir()) == []
    scripts.end_with("pre_archive", "7")  # a plain script is only told of
    scripts.end_with("pre_archive_retry", "hang 62")  # killed, run again, and to be taken for success
    scripts.end_with("post_archive_retry", "63")
    called, said = archive(0)
    assert called == ["pre plain", "pre retry", "pre retry", "post retry", "post plain"]
    assert "pre_archive_script of main failed with 7" in said
    assert "pre_archive_retry_script of main: killed after 5 s" in said
    assert "post_archive_retry_script of main ended with 63; nothing is undone" in said
    scripts.end_with("pre_archive_retry", "1 1 1 0")  # more often than it is tried
    called, said = archive(1)
    assert called == ["pre plain", "pre retry", "pre retry", "pre retry"]
    assert "never succeeded" in said


def test_barmans_wal_commands_run_them_one_file_after_the_other(tmp_path: Path, scripts: Scripts) -> None:
    host = make_host(tmp_path, scripts, "archiver = on", works=("archive",))
    incoming, outside = host.home / "main" / "incoming", tmp_path / "outside"
    incoming.mkdir(parents=True)
    outside.mkdir()
    names = [segment_name(number) for number in range(1, 7)]
    for number, name in enumerate(names, 1):
        ((incoming if number < 5 else outside) / name).write_bytes(segment(number))
    scripts.end_with("pre_archive_retry", "0 0 63")  # forbids the third, with which this ends
    stopped = host.run("server", "archive-wal", "main")
    assert stopped.returncode == 1
    assert "pre_archive_retry_script of main says that it must not be done" in stopped.stderr
    calls = scripts.calls()
    assert places(calls) == [*ORDER, *ORDER, *ORDER[:2]]
    assert sorted(path.name for path in incoming.iterdir()) == names[2:4]
    done = host.run("server", "archive-wal", "main")
    assert done.returncode == 0, done.stderr
    calls += scripts.calls()
    assert [call["SEGMENT"] for call in calls if call["HOOK"] == "archive_script" and call["PHASE"] == "post"] == names[
        :4
    ]
    assert host.run("server", "cloud-wal-archive", "main", str(outside / names[4])).returncode == 0
    assert places(scripts.calls()) == ORDER
    content = (outside / names[5]).read_bytes()
    sums = f"{hashlib.sha256(content).hexdigest()} *{names[5]}\n".encode()
    with tarfile.open(tmp_path / "sent.tar", "w") as archive:
        for name, data in ((names[5], content), ("SHA256SUMS", sums)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    with (tmp_path / "sent.tar").open("rb") as sent:
        assert host.run("server", "put-wal", "main", stdin=sent).returncode == 0
    calls = scripts.calls()
    assert places(calls) == ORDER
    assert {call["SEGMENT"] for call in calls} == {names[5]}
    assert len(list(host.stores.glob("main/wals/*/*"))) == 6


def test_a_receiver_runs_them_one_file_after_the_other(
    tmp_path: Path, scripts: Scripts, new_postgres: Callable[..., PostgresServer]
) -> None:
    """Scripts that take longer than a segment does to come would be called for several at once, and out of order."""
    server = new_postgres(initdb=("--wal-segsize=1",))
    keys = "streaming_archiver = on\ncreate_slot = auto\nslot_name = scripts"
    host = make_host(tmp_path, scripts, f"conninfo = {server.conninfo}", keys, works=("archive",))
    scripts.path.write_text(scripts.path.read_text().replace("exit ", "sleep 0.2\nexit "))
    receiver = host.start("wal-receive", "main", "--jobs", "4")
    try:
        wait_for(lambda: server.query("SELECT 1 FROM pg_replication_slots WHERE active"), what="the receiver to stream")
        names = [server.switch_wal() for _ in range(4)]
        stored = host.stores / "main" / "wals" / names[0][:16]
        wait_for(lambda: (stored / names[-1]).exists(), what="the last segment to be stored")
    finally:
        receiver.terminate()
        receiver.communicate(timeout=60)
    calls = [call for call in scripts.calls() if call["SEGMENT"] in names]
    assert [call["SEGMENT"] for call in calls] == [name for name in names for _ in ORDER]
    assert places(calls) == ORDER * len(names)


def test_commands_with_a_url_run_no_scripts(tmp_path: Path, scripts: Scripts) -> None:
    host = make_host(tmp_path, scripts, works=("archive",))
    path = tmp_path / segment_name(1)
    path.write_bytes(segment(1))
    assert host.run("wal-archive", f"file://{host.stores}", "main", os.fspath(path)).returncode == 0
    assert scripts.calls() == []
    incoming = host.home / "main" / "incoming"
    incoming.mkdir(parents=True)
    shutil.copy(path, incoming)
    assert host.run("cron", "--wait").returncode == 0
    calls = scripts.calls()
    assert places(calls) == ORDER
    assert calls[0]["FILE"] == str(incoming / path.name)
