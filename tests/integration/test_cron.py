"""``barman-cloud cron``: what is due is done once, by one host, whatever happens to who does it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from barman_cloud.archive.compression import decompress_stream
from barman_cloud.catalog.layout import Layout
from barman_cloud.schedule.history import last_runs
from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.maintenance import Host
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer
from tests.support.schemas import require_valid
from tests.support.segments import segment, segment_name
from tests.support.servers import StoreServer
from tests.support.terminals import Terminal

NOON, NIGHT, NEXT_NIGHT = "2026-11-28T12:00:00Z", "2026-11-29T03:00:00Z", "2026-11-30T03:00:00Z"
STORE = """
basebackups_directory = STORE/{name}/base
wals_directory = STORE/{name}/wals
backup_method = local-to-cloud
"""
GLOBAL = "[barman]\nbarman_home = HOME\n"


def section(name: str, *lines: str) -> str:
    return f"[{name}]{STORE.format(name=name)}" + "".join(f"{line}\n" for line in lines)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    made: list[Host] = []

    def make(text: str, name: str = "host") -> Host:
        (tmp_path / "store").mkdir(exist_ok=True)
        made.append(Host(tmp_path, GLOBAL + text, name))
        return made[-1]

    yield make
    for host in made:
        host.end_all()


def test_a_pass_does_what_is_due_once_and_a_failure_stops_nobody_else(hosts: Callable[..., Host]) -> None:
    text = section("main", "retention_policy = REDUNDANCY 2", "backup_schedule = 0 2 * * *", "conninfo = host=/nowhere")
    text += section("other", "retention_policy = REDUNDANCY 2", "schedule_time_zone = Europe/Vienna")
    text += section("off", "active = off", "retention_policy = REDUNDANCY 2")
    text += "[broken]\nbasebackups_directory = s3://b/x\nwals_directory = s3://b/x\naws_profile = nobody\n"
    host = hosts(text)
    first = host.run("cron", now=NOON)
    assert first.stdout == ""  # schedules count from when they were first seen
    assert first.returncode == 1
    assert "ERROR: server broken: " in first.stderr
    assert "nobody" in first.stderr
    waited = host.run("cron", "--wait", now=NIGHT)
    assert sorted(waited.stdout.splitlines()) == [
        "main: backup started (due since 2026-11-29 02:00:00Z)",
        "main: retention started (due since 2026-11-29 03:00:00Z)",
        "other: cleanup started (due since 2026-11-29 02:30:00Z)",
        "other: retention started (due since 2026-11-29 03:00:00Z)",
    ]
    assert "main backup: " in waited.stderr
    again = json.loads(host.run("cron", "--wait", "--format", "json", now=NIGHT).stdout)
    require_valid(again, "cron")
    assert (sorted(again["servers"]), again["jobs"], list(again["errors"])) == (
        ["broken", "main", "other"],
        [],
        ["broken"],
    )
    (run,) = host.runs("main", "backup")
    assert (run.exit_code, run.message.split(":")[0]) == (1, "cannot connect to PostgreSQL")
    for job in ("retention", "cleanup"):
        assert [run.exit_code for run in host.runs("other", job)] == [0]
    assert host.runs("off", "retention") == []
    # Days without a pass: once, not once a day, and in time for a job with a time zone of its own.
    later = json.loads(host.run("cron", "main", "--wait", "--format", "json", now="2026-12-09T01:00:00Z").stdout)
    require_valid(later, "cron")
    assert ("backup", "started") in [(job["job"], job["state"]) for job in later["jobs"]]
    assert len(host.runs("main", "backup")) == 2
    listed = host.run("cron", "main", "--list", now="2026-12-09T01:00:00Z")
    assert "failed (exit code 1): cannot connect" in listed.stdout
    assert "next 2026-12-09 02:00:00Z" in listed.stdout


def test_two_hosts_at_once_run_a_job_once(hosts: Callable[..., Host], moto: StoreServer) -> None:
    url = moto.new_bucket()
    place = f"basebackups_directory = {url}/p\nwals_directory = {url}/p\nendpoint_url = {moto.endpoint}\n"
    text = "".join(f"[{name}]\n{place}retention_policy = REDUNDANCY 2\n" for name in ("main", "other"))
    one, two = hosts(text, "one"), hosts(text, "two")
    assert one.run("cron", now=NOON, environ=moto.environ).returncode == 0
    passes = [host.start("cron", "--wait", now=NIGHT, environ=moto.environ) for host in (one, two, one, two)]
    for process in passes:
        output, _ = process.communicate(timeout=250)
        assert process.returncode == 0, output
    store = open_store(url, options=StoreOptions(endpoint_url=moto.endpoint), environ=moto.environ)
    for server in ("main", "other"):
        assert [run.exit_code for run in last_runs(store, Layout("p", server), "retention", 10)] == [0]


def test_a_job_whose_process_was_killed_is_run_again_and_not_for_ever(hosts: Callable[..., Host]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        host = hosts(
            section("main", "backup_schedule = 0 2 * * *", f"conninfo = host=127.0.0.1 port={port} connect_timeout=900")
        )
        host.cron(now=NOON)
        for minute in range(3):
            now = f"2026-11-29T03:0{minute}:00Z"
            assert ("the last run was lost" if minute else "due since") in host.cron(now=now)
            wait_for(lambda: host.processes("backup"), what="the backup to start")
            assert host.listed(now=now)["main"]["jobs"][0]["result"] == "running"
            assert host.cron(now=now) == ""
            (supervisor,) = host.processes("--run", "backup@main")
            os.kill(supervisor.pid, signal.SIGKILL)
            wait_for(lambda: not host.processes("backup"), what="the backup to end with its supervisor")
        assert host.cron(now="2026-11-29T03:05:00Z") == ""  # lost three times: not before its next time
        assert "backup started" in host.cron(now=NEXT_NIGHT)
        wait_for(lambda: host.processes("backup"), what="the backup to start")
        (supervisor,) = host.processes("--run", "backup@main")
        supervisor.terminate()  # an orderly end is recorded
        wait_for(lambda: not host.processes(), what="the processes to end")
    runs = host.runs("main", "backup")
    assert len(runs) == 4
    assert runs[0].exit_code not in (0, None)
    assert [run.exit_code for run in runs[1:]] == [None, None, None]
    assert runs[1].message == "its process went away before it had ended"


def test_waiting_files_are_archived_and_bad_ones_set_aside(hosts: Callable[..., Host]) -> None:
    host = hosts(section("main", "compression = gzip", "archiver = on"))
    incoming = host.home / "main" / "incoming"
    incoming.mkdir(parents=True)
    names = [segment_name(number) for number in (1, 2, 3)]
    for number, name in enumerate(names, 1):
        (incoming / name).write_bytes(segment(number))
    (incoming / names[1]).write_bytes(b"no WAL at all" * 1000)
    os.utime(incoming / names[1], (1, 1))
    (incoming / f".{names[0]}.part").write_bytes(b"being written")
    done = host.run("cron", "--wait", now=NOON)
    assert done.returncode == 1, done.stderr
    assert sorted(path.name for path in incoming.iterdir()) == [f".{names[0]}.part"]
    stored = {path.name: path for path in host.stores.glob("main/wals/*/*")}
    assert set(stored) == {f"{names[0]}.gz", f"{names[2]}.gz"}
    assert b"".join(decompress_stream([stored[f"{names[2]}.gz"].read_bytes()], "gzip")) == segment(3)
    (aside,) = (host.home / "main" / "errors").iterdir()
    assert aside.name.startswith(names[1])
    # The same again is success, other content of the same name isn't.
    (incoming / names[0]).write_bytes(segment(1))
    assert host.run("cron", "--wait", now=NOON).returncode == 0
    (incoming / names[0]).write_bytes(segment(1, content=7))
    assert host.run("cron", "--wait", now=NOON).returncode == 1
    assert list(incoming.glob("0*")) == []
    assert b"".join(decompress_stream([stored[f"{names[0]}.gz"].read_bytes()], "gzip")) == segment(1)


@pytest.mark.long
def test_a_streamed_server_is_maintained(
    hosts: Callable[..., Host], new_postgres: Callable[..., PostgresServer]
) -> None:
    server = new_postgres(settings={"wal_sender_timeout": "10s"}, initdb=("--wal-segsize=1",))
    host = hosts(
        f"[main]\nconninfo = {server.conninfo}\nbackup_method = postgres\nstreaming_archiver = on\nslot_name = cron\n"
        "create_slot = auto\nbasebackups_directory = STORE/main/base\nwals_directory = STORE/main/wals\n"
        "retention_policy = REDUNDANCY 1\nimmediate_checkpoint = on\nbackup_schedule = 0 2 * * *\n"
        "verify_schedule = 30 2 * * *\n"
    )
    assert host.cron(now=NOON) == "main: receiver of WAL started\n"
    active = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'cron' AND active"
    wait_for(lambda: server.query(active), what="the receiver to stream")
    assert host.listed(now=NOON)["main"]["receiver"]["owner"].startswith("process ")
    assert host.cron(now=NOON) == ""  # it lives
    (receiver,) = host.processes("wal-receive")
    receiver.kill()
    wait_for(lambda: not server.query(active), what="the server to see that")
    assert host.cron(now=NOON) == "main: receiver of WAL started\n"
    wait_for(lambda: server.query(active), what="the receiver to stream")
    # Barman's commands find it, although cron has started it.
    (receiver,) = host.processes("wal-receive")
    assert f"{receiver.pid} receive-wal\n" in host.run("server", "list-processes", "main").stdout
    second = host.run("server", "receive-wal", "main")
    assert (second.returncode, "Another receive-wal process is already running" in second.stderr) == (1, True)
    stopped = host.run("server", "receive-wal", "main", "--stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"Stopped process receive-wal({receiver.pid})\n"), stopped.stderr
    wait_for(lambda: not server.query(active), what="the server to see that")
    assert host.run("server", "terminate-process", "main", "receive-wal").returncode == 1  # there is none any more
    assert host.cron(now=NOON) == "main: receiver of WAL started\n"
    wait_for(lambda: server.query(active), what="the receiver to stream")
    for night in (NIGHT, NEXT_NIGHT):
        assert "main: backup started" in host.run("cron", "--wait", now=night).stdout
        assert host.runs("main", "backup")[0].exit_code == 0, host.log
    later = "2026-11-30T05:00:00Z"
    assert "main: retention started" in host.run("cron", "--wait", now=later).stdout
    for job in ("verify", "retention"):
        assert host.runs("main", job)[0].exit_code == 0, job
    backups = host.run("backup-list", "main", "--format", "json")
    assert backups.stdout.count('"backup_id"') == 1, backups.stdout
    assert host.run("check", "main", "--minimum-redundancy", "1").returncode == 0
    host.end_all()
    wait_for(lambda: not server.query(active), what="the receiver to end")


def test_who_waits_on_a_terminal_sees_that_jobs_run_and_what_they_say(hosts: Callable[..., Host]) -> None:
    host = hosts(section("main", "retention_policy = REDUNDANCY 2", "backup_schedule = 0 2 * * *", "conninfo = PLACE"))
    with closing(socket.create_server(("127.0.0.1", 0), backlog=100)) as silent:  # a server that never says a word
        port = silent.getsockname()[1]
        host.file.write_text(host.file.read_text().replace("PLACE", f"host=127.0.0.1 port={port} connect_timeout=600"))
        host.cron(now=NOON)
        environ = {**host.environ(NIGHT, {}), "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
        with Terminal.run(host.command("cron", "--wait"), 100, environ=environ) as terminal:
            terminal.until(lambda: any("main: backup started" in line for line in terminal.lines))
            terminal.until(lambda: any(re.search(r" waiting for jobs  \d/\d  \d+:\d\d$", x) for x in terminal.lines))
            accepted, _ = silent.accept()
            silent.close()
            accepted.close()
            assert terminal.finish() == 1
            shown = "".join(terminal.everything)
    assert "main backup: " in shown
    assert "cannot connect to PostgreSQL" in shown
    assert "waiting for jobs" not in shown
