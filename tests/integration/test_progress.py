"""What people and programs see of the commands that move data: live lines, summaries, JSON; on a real server."""

from __future__ import annotations

import csv
import io
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import program, run_command
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, command_environment, temporary_server_directory
from tests.support.privileges import storing_account
from tests.support.repository import Completed, Repository
from tests.support.schemas import SCHEMAS, require_valid
from tests.support.terminals import Terminal

UMBRELLA = program("backup").removesuffix("-backup")


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server with incompressible rows whose WAL takes a second each segment to be archived."""
    with (
        temporary_server_directory() as directory,
        PostgresServer.create(
            directory / "server",
            initdb=("--wal-segsize=1",),
            settings={"archive_mode": "on", "summarize_wal": "on"},
        ) as server,
    ):
        server.query("CREATE TABLE t AS SELECT g AS a, repeat('x', 200) FROM generate_series(1, 5000) g")
        yield server


@pytest.fixture
def repository(server: PostgresServer, shared: Repository) -> Repository:
    """The same, when nothing waits to be archived: what others left would make a backup wait for minutes."""
    status = server.data / "pg_wal" / "archive_status"
    wait_for(lambda: not list(status.glob("*.ready")), what="the archiver to have done all")
    return shared


@pytest.fixture(scope="module")
def shared(server: PostgresServer) -> Iterator[Repository]:
    """Where backups of these tests go, with the first one: streamed, and told in JSON."""
    with temporary_server_directory() as directory:
        repository = Repository(directory / "store")
        server.archive_with(f"sleep 0.6; barman-cloud-wal-archive {repository.url} main %p")
        done = repository.backup(server, "--method", "stream", "--zstd", "--progress", "json", *summary_to(repository))
        assert done.returncode == 0, done.stderr
        (repository.directory / "first.stderr").write_text(done.stderr)
        (repository.directory / "first.json").write_text(summary(repository, keep=True))
        yield repository


def have_two_backups(server: PostgresServer, repository: Repository) -> None:
    """Take another backup unless a test before has left one, and let the WAL of all of them arrive."""
    if len(repository.ids) < 2:
        assert repository.backup(server, "--zstd", "--immediate-checkpoint").returncode == 0
    server.wait_archived(server.switch_wal())


def summary_to(repository: Repository) -> list[str]:
    return ["--json-summary", str(repository.directory / "summary.json")]


def summary(repository: Repository, *, keep: bool = False) -> Any:
    text = (repository.directory / "summary.json").read_text()
    document = json.loads(text)
    require_valid(document, "summary")
    return text if keep else document


def progress_lines(stderr: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    for line in lines:
        require_valid(line, "progress")
    return lines


def umbrella(*words: str, **environ: str) -> Completed:
    return subprocess.run(
        [UMBRELLA, *words], env=command_environment(environ), capture_output=True, text=True, timeout=280, check=False
    )


def on_terminal(columns: int, name: str, *arguments: str, **environ: str) -> Terminal:
    environment = {**command_environment(environ), "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    return Terminal.run(storing_account().command([program(name), *arguments]), columns, environ=environment)


def test_the_backup_told_its_phases_and_its_end(repository: Repository) -> None:
    stderr = (repository.directory / "first.stderr").read_text()
    lines = progress_lines(stderr)
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    assert [phase for phase in phases if phase in ("waiting for the checkpoint", "copying", "waiting for WAL")] == [
        "waiting for the checkpoint", "copying", "waiting for WAL",
    ]  # fmt: skip
    last = lines[-1]
    assert (last["event"], last["command"]) == ("done", "backup")
    told = json.loads((repository.directory / "first.json").read_text())
    backup_id = repository.ids[0]
    stored = sum(path.stat().st_size for path in repository.path(backup_id=backup_id).glob("*.tar*"))
    assert (told["result"], told["exit_code"], told["stored_bytes"]) == ("done", 0, stored)
    assert told["data_bytes"] > 10 << 20
    assert told["items"] == len(list(repository.path(backup_id=backup_id).glob("*.tar*")))
    info = repository.info(backup_id)
    assert told["backup"] | {"timeline": 1} == {
        "backup_id": backup_id, "name": None, "type": "full", "parent_backup_id": None, "timeline": 1,
        "first_wal": info.begin_wal, "last_wal": info.end_wal, "wal": "archived", "next": [],
    }  # fmt: skip
    assert sum(phase["seconds"] for phase in told["phases"]) <= told["seconds"] + 0.1


@pytest.mark.parametrize(
    "columns", [pytest.param(40, marks=pytest.mark.long), 80, pytest.param(200, marks=pytest.mark.long)]
)
def test_a_backup_on_a_terminal_is_never_blank_and_ends_with_a_line(
    columns: int, server: PostgresServer, repository: Repository
) -> None:
    throttled = ("--max-bandwidth", "12MB", "--immediate-checkpoint")
    with on_terminal(columns, "backup", *throttled, repository.url, "main", **server.client_environ) as terminal:
        terminal.until(lambda: any("copying" in line and "%" in line for line in terminal.lines))
        terminal.until(lambda: any("data" in line and ".tar" in line for line in terminal.lines))
        if columns == 80:
            terminal.resize(100, 20)  # wider, because what is on its way may not fit a narrower one
        terminal.until(lambda: any("waiting for WAL" in line for line in terminal.lines))
        assert terminal.finish() == 0
        assert terminal.longest_blank < 4  # 2 on a machine that is not busy
        text = "".join(terminal.everything)
        found = re.fullmatch(
            r"full backup (\d{8}T\d{6}): [\d.]+ MiB in (\d+) archives → [\d.]+ MiB \(1\.0×\), [\d.]+ s, [\d.]+ MiB/s, "
            r"needs WAL ([0-9A-F]{24})(…[0-9A-F]{24})? \(archived\)",
            text if columns < 200 else terminal.everything[-1],
        )
        assert found, terminal.everything
        assert found[1] == repository.ids[-1]


def test_without_a_terminal_nothing_is_said_unless_asked(server: PostgresServer, repository: Repository) -> None:
    by_itself = ("--method", "stream", "--include-wal")
    done = repository.backup(server, *by_itself)
    assert (done.stdout, done.stderr) == ("", "")
    done = repository.backup(server, "-v", *by_itself)
    assert done.stdout == ""
    assert all(re.match(r"\d{4}-\d\d-\d\d .* INFO: ", line) for line in done.stderr.splitlines())
    assert "INFO: full backup " in done.stderr.splitlines()[-1]
    done = repository.backup(
        server, "-v", "--progress", "none", "--incremental", "no-such-backup", *summary_to(repository)
    )
    assert done.returncode != 0
    told = summary(repository)
    assert (told["result"], told["exit_code"]) == ("failed", done.returncode)
    assert told["error"] in done.stderr
    assert "backup" not in told
    done = repository.backup(server, "--json-summary", "/no/such/place/file")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (3, "", 1)


def test_a_chain_is_counted_backup_by_backup(server: PostgresServer, repository: Repository, tmp_path: Path) -> None:
    server.query("UPDATE t SET a = a + 1 WHERE a < 50")
    done = repository.backup(server, "--incremental", repository.ids[0], "--progress", "json", *summary_to(repository))
    assert done.returncode == 0, done.stderr
    full, increment = repository.ids[0], repository.ids[-1]
    told = summary(repository)
    assert (told["backup"]["type"], told["backup"]["parent_backup_id"]) == ("incremental", full)
    copying = [line for line in progress_lines(done.stderr) if line["phase"] == "copying" and line["total_bytes"]]
    # What didn't change counts as done, and isn't moved.
    assert told["data_bytes"] < copying[0]["total_bytes"] / 3
    done = run_command("restore", "--progress", "json", repository.url, "main", increment, tmp_path / "restored")
    assert done.returncode == 0, done.stderr
    totals = {line["phase"]: line["total_bytes"] for line in progress_lines(done.stderr)}
    for backup_id in (full, increment):
        stored = sum(path.stat().st_size for path in repository.path(backup_id=backup_id).glob("*.tar*"))
        assert totals[f"restoring {backup_id}"] == stored
    with on_terminal(100, "backup-delete", "-b", increment, repository.url, "main") as terminal:
        assert terminal.finish() == 0
        assert terminal.everything[-1].startswith(f"deleted 1 backup ({increment}): ")


def test_a_restore_says_what_to_type_next(repository: Repository, tmp_path: Path) -> None:
    target = tmp_path / "it's here"
    done = run_command(
        "restore",
        "-v",
        "--progress",
        "json",
        *summary_to(repository),
        repository.url,
        "main",
        repository.ids[0],
        target,
    )
    assert done.returncode == 0, done.stderr
    lines = progress_lines(done.stderr)
    restoring = [line for line in lines if line["phase"] == "restoring"]
    assert restoring[0]["measure"] == "stored"
    stored = sum(path.stat().st_size for path in repository.path(backup_id=repository.ids[0]).glob("*.tar*"))
    assert {line["total_bytes"] for line in restoring} == {stored}
    assert lines[-1]["stored_bytes"] == stored
    told = summary(repository)
    assert told["stored_bytes"] == stored
    assert told["restore"]["files"] == told["restore"]["verified_files"] + 1 or told["restore"]["files"] > 500
    assert f"backup {repository.ids[0]} restored into {target}: " in done.stderr
    # The lines are what a shell takes.
    script = "\n".join(re.sub(r"^(next:| +) ?", "", line).split("    (")[0] for line in told["restore"]["next"])
    assert script.splitlines()[-1].startswith("pg_ctl -D ")
    subprocess.run(["sh", "-ec", script.replace("pg_ctl -D", "test -d").replace(" start", "")], check=True)
    settings = (target / "postgresql.auto.conf").read_text()
    assert re.search(rf"^restore_command = '.*wal-restore .*{re.escape(repository.url)} main %f %p'$", settings, re.M)
    assert (target / "recovery.signal").exists()


def test_lists_for_people_spreadsheets_and_programs(
    server: PostgresServer, repository: Repository, tmp_path: Path
) -> None:
    have_two_backups(server, repository)
    command = [UMBRELLA, "verify", repository.url, "main", repository.ids[0]]
    environment = {**command_environment(), "TERM": "xterm", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    with Terminal.run(command, 120, environ=environment) as terminal:
        assert terminal.finish() == 0
        assert terminal.longest_blank < 4  # 2 on a machine that is not busy
        assert re.match(r"verified 1 backup and \d+ WAL files?: .*, nothing is wrong$", terminal.everything[-1])
    verified = umbrella(
        "verify", repository.url, "main", repository.ids[0], "--format", "json", *summary_to(repository)
    )
    assert verified.returncode == 0, verified.stderr
    require_valid(json.loads(verified.stdout), "verify")
    told = summary(repository)
    assert (told["verification"]["level"], told["verification"]["backups"]) == ("ok", 1)
    assert told["stored_bytes"] > 0
    run_command("backup-keep", "--target", "full", repository.url, "main", repository.ids[0])
    table = run_command("backup-list", "--format", "csv", repository.url, "main")
    rows = list(csv.DictReader(io.StringIO(table.stdout)))
    assert [row["backup_id"] for row in rows] == repository.ids
    first, *others = rows
    assert (first["status"], first["type"], first["verified_state"], first["kept"]) == ("DONE", "full", "whole", "full")
    assert {row["verified_time"] for row in others} == {""}
    stored = sum(path.stat().st_size for path in repository.path(backup_id=repository.ids[0]).glob("*.tar*"))
    assert int(first["stored_bytes"]) == stored
    assert float(first["ratio"]) == pytest.approx(int(first["size_bytes"]) / stored, abs=0.001)
    in_store = sum(path.stat().st_size for path in (repository.directory / "main/wals").rglob("0*") if path.is_file())
    assert 0 < sum(int(row["wal_bytes"]) for row in rows) <= in_store
    wide = umbrella("backup-list", "--format", "wide", BARMAN_CLOUD_URL=repository.url, BARMAN_CLOUD_SERVER="main")
    assert wide.returncode == 0, wide.stderr
    title, *lines = wide.stdout.splitlines()
    assert title.split() == ["Backup", "ID", "Type", "Status", "End", "Time", "Age", "Duration", "Size", "Stored",
                             "Ratio", "WAL", "Verified", "Kept", "Name"]  # fmt: skip
    assert re.match(rf"{repository.ids[0]}  full +DONE .* whole \d+ (?:s|min) ago  full", lines[0])
    for command in ([program("backup-list")], [UMBRELLA, "backup-list"]):
        done = run_any([*command, "--format", "json", repository.url, "main"])
        require_valid(json.loads(done.stdout), "backup-list")
    for command in ([program("backup-show")], [UMBRELLA, "backup-show"]):
        done = run_any([*command, "--format", "json", repository.url, "main", repository.ids[0]])
        require_valid(json.loads(done.stdout), "backup-show")
    done = umbrella("check", "--format", "json", repository.url, "main")
    require_valid(json.loads(done.stdout), "check")
    page = tmp_path / "report.html"
    done = umbrella("report", "--html", str(page), BARMAN_CLOUD_URL=repository.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert all(f'data-backup="{backup_id}"' in page.read_text() for backup_id in repository.ids)
    done = umbrella("report", repository.url, "main")
    assert "  any moment from " in done.stdout
    assert all(backup_id in done.stdout for backup_id in repository.ids)


def run_any(command: list[str]) -> Completed:
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_deletion_says_what_went_and_what_was_freed(
    server: PostgresServer, repository: Repository, tmp_path: Path
) -> None:
    have_two_backups(server, repository)
    victim = repository.ids[1]
    before = sum(path.stat().st_size for path in repository.path(backup_id=victim).iterdir())
    archives = len(list(repository.path(backup_id=victim).glob("*.tar*")))
    done = run_command(
        "backup-delete", "--dry-run", "-q", *summary_to(repository), "-b", victim, repository.url, "main"
    )
    assert done.stderr == ""
    assert all(line.startswith("Skipping deletion of ") for line in done.stdout.splitlines())
    assert summary(repository)["deletion"]["backup_ids"] == []
    with on_terminal(120, "backup-delete", *summary_to(repository), "-b", victim, repository.url, "main") as terminal:
        assert terminal.finish() == 0
        assert terminal.longest_blank < 4  # 2 on a machine that is not busy
        (line,) = terminal.everything
    told = summary(repository)
    assert told["deletion"]["backup_ids"] == [victim]
    assert (told["deletion"]["archives"], told["deletion"]["wal_files"]) == (archives, 0)
    assert told["deletion"]["freed_bytes"] == before
    mib = f"{before / 2**20:.1f} MiB"
    assert line.startswith(f"deleted 1 backup ({victim}): {archives} archives and 0 WAL files, {mib} freed: ")
    have_two_backups(server, repository)
    quiet = run_command("backup-delete", "-b", repository.ids[1], repository.url, "main")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_every_schema_is_named_in_its_page() -> None:
    page = (SCHEMAS.parent / "json.md").read_text()
    assert [path.name for path in SCHEMAS.iterdir() if path.name not in page] == []


@pytest.mark.parametrize("mode", ["spool", pytest.param("direct", marks=pytest.mark.long)])
def test_a_terminal_shows_where_it_is_and_what_was_received(server: PostgresServer, tmp_path: Path, mode: str) -> None:
    (tmp_path / "store").mkdir()
    spool = ("--spool-dir", str(tmp_path / "spool")) if mode == "spool" else ()
    command = [
        program("backup").removesuffix("-backup"), "wal-receive", "--zstd", "--mode", mode, *spool, "--json-summary",
        str(tmp_path / "summary.json"), f"file://{tmp_path}/store", "main", "--dbname", server.conninfo,
    ]  # fmt: skip
    environ = {**command_environment(), "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}
    with Terminal.run(command, 100, environ=environ) as terminal:
        terminal.until(lambda: any(re.search(r" receiving WAL +0:\d\d$", line) for line in terminal.lines))
        terminal.until(
            lambda: any(re.match(r"  timeline 1 at 0/[0-9A-F]+, .* not stored yet$", x) for x in terminal.lines)
        )
        server.query("INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 3000) g")
        name = server.switch_wal()
        terminal.until(lambda: list((tmp_path / "store").glob(f"main/wals/*/{name}*")))
        terminal.until(lambda: any(re.search(r" receiving WAL +\d.* MiB  \d+  ", line) for line in terminal.lines))
        # The server itself writes into the next segment now and then; here it does so each time.
        server.query("SELECT pg_create_restore_point('into the next segment')")
        terminal.until(lambda: any(re.match(r"  timeline 1 at 0/[0-9A-F]+(?<!00000), ", x) for x in terminal.lines))
        terminal.kill(signal.SIGINT)
        assert terminal.finish() == 0
        assert terminal.longest_blank < 4  # 2 on a machine that is not busy
        line = "".join(terminal.everything)
    told = json.loads((tmp_path / "summary.json").read_text())
    require_valid(told, "summary")
    about = told["receiver"]
    assert (about["mode"], about["timeline"], about["waiting_bytes"]) == (mode, 1, 0)
    segments = [path for path in (tmp_path / "store").glob("main/wals/*/0*") if "partial" not in path.name]
    assert told["items"] == len(segments)
    assert told["data_bytes"] == len(segments) << 20
    assert told["stored_bytes"] == sum(path.stat().st_size for path in segments)
    start = f"received WAL from {about['first_lsn']} to {about['last_lsn']}, timeline 1: {len(segments)}.0 MiB in "
    assert line.startswith(start), line
    assert line.endswith(", all of it is stored"), line
