"""``barman-cloud server`` on a real server: it prints what Barman's server printed (``tests/golden/server``)."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import program
from tests.support.incrementals import SUMMARIZED
from tests.support.installations import Installation
from tests.support.peers import our_commands
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt, run_as_server, server_directory, temporary_server_directory
from tests.support.privileges import server_account
from tests.support.server_commands import ServerCommands, normalised, shape

GOLDEN = Path(__file__).parents[1] / "golden" / "server"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class House:
    """A server that is streamed by the commands of one host: a full backup, and an incremental one where that works."""

    server: PostgresServer
    host: ServerCommands
    store: Path
    directory: Path
    told: str
    """What ``backup --wait`` printed."""
    shown: str
    document: dict[str, Any]
    """What ``show-backup`` says of the newest backup, as text and as JSON, when there is no WAL that is newer."""
    stack: contextlib.ExitStack
    receivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Those of the host, the newest last."""

    def receive(self) -> None:
        """Let the host receive WAL, which it does unless a test has killed its receiver."""
        if self.receivers and self.receivers[-1].poll() is None:
            return
        self.await_free_slot()
        server_directory(self.host.home / "state")
        self.receivers.append(self.stack.enter_context(self.host.receiving()))

    def await_free_slot(self) -> None:
        active = "SELECT count(*) FROM pg_replication_slots WHERE active"
        wait_for(lambda: self.server.value(active) == 0, what="the slot to be free")

    def has_everything(self) -> None:
        """Wait until all WAL is in the store: what is told of it doesn't change then."""
        name = self.server.switch_wal()
        wait_for(lambda: list((self.store / "main" / "wals" / name[:16]).glob(f"{name}*")), what="the segment")


@pytest.fixture
def house(shared: House) -> House:
    shared.receive()
    return shared


@pytest.fixture(scope="module")
def shared(postgres_installation: Installation) -> Iterator[House]:
    with temporary_server_directory() as directory, temporary_server_directory() as place:
        store = server_directory(place / "store")
        settings = SUMMARIZED if postgres_installation.major >= 17 else {}
        with PostgresServer.create(directory, postgres_installation, settings=settings) as server:
            server.create_tablespace("ts_fast")
            server.query("CREATE TABLE t TABLESPACE ts_fast AS SELECT generate_series(1, 1000) AS n")
            host = ServerCommands.create(
                place / "host", server, f"file://{store}",
                compression="zstd", retention_policy="REDUNDANCY 1", parallel_jobs="1",
                primary_conninfo=f"{server.conninfo} application_name=copy", cloud_wal_restore_parallel="4",
            )  # fmt: skip
            with contextlib.ExitStack() as stack:
                first = stack.enter_context(host.receiving())
                told = host.run("backup", "main", "--name", "opts", "--immediate-checkpoint", "--wait")
                server.query("INSERT INTO t SELECT generate_series(1001, 2000)")
                host.run("switch-wal", "main", "--archive", "--archive-timeout", "200")
                host.run(
                    "backup", "main", "--name", "i3", "--incremental", "latest", "--immediate-checkpoint", "--wait"
                )
                shown, document = host.run("show-backup", "main", "i3"), host.json("show-backup", "main", "latest")
                yield House(server, host, store, place, told, shown, document["main"], stack, [first])


def golden(name: str) -> str:
    return (GOLDEN / name).read_text()


def test_a_backup_tells_what_it_does_as_barman_does(house: House) -> None:
    lines = normalised(house.told).splitlines()
    assert lines == [
        "Starting backup using postgres method for server main in main/base/ID",
        "Backup start at LSN: LSN (WAL, 00000028)",
        lines[2],
        "Copy done (time: DURATION)",
        "Finalising the backup.",
        "Backup size: SIZE",
        lines[6],
        "Backup completed (start time: TIME, elapsed time: DURATION)",
        "Waiting for the WAL file WAL from server 'main'",
    ]
    assert lines[2].startswith("Starting backup copy via a replication connection for ID to the cloud storage: file://")
    assert lines[6].startswith("Backup end at LSN: LSN (WAL, ")


def test_lists_are_barmans_word_for_word(house: House) -> None:
    assert house.host.run("list-servers") == "main - streamed to cloud\n"
    assert house.host.json("list-server") == {"main": {"description": "streamed to cloud"}}
    listed = normalised(house.host.run("list-backups", "main"))
    failed = "main ID 'opts' - F - FAILED\n"
    assert listed == normalised(golden("list-backups.txt")).replace(failed, "")
    mine, theirs = house.host.json("list-backups", "all"), json.loads(golden("list-backups.json"))
    assert shape(mine["main"]) == shape([{**theirs["main"][0], "retention_status": "VALID"}])
    assert [(entry["backup_name"], entry["backup_type"]) for entry in mine["main"]] == [
        ("i3", "incremental"), ("opts", "full"),
    ]  # fmt: skip
    ids = [entry["backup_id"] for entry in mine["main"]]
    assert house.host.run("list-backups", "--minimal", "main").split() == ids
    files = house.host.run("list-files", "main", "latest").split()
    assert {f"main/base/{ids[0]}/{name}" for name in ("backup.info", "data.tar")} <= set(files)
    assert any(name.startswith("main/wals/") for name in files)
    assert not any(
        "/wals/" in name for name in house.host.json("list-files", "main", "i3", "--target", "data")["_INFO"]
    )


def test_a_backup_is_shown_as_barman_shows_it(house: House) -> None:
    shown = normalised(house.shown).splitlines()
    # An incremental backup of ours may need more than one segment; the line is the same.
    assert shown == normalised(golden("show-backup-incremental.txt")).rstrip("\n").splitlines()
    mine = house.document
    theirs = json.loads(golden("show-backup-incremental.json"))["main"]
    theirs["wal_information"] |= {"wal_rate": mine["wal_information"]["wal_rate"]}
    assert shape(mine) == shape(theirs)
    assert (
        mine["catalog_information"]["parent_backup_id"]
        == house.host.json("list-backups", "main")["main"][1]["backup_id"]
    )
    full = house.host.json("show-backup", "main", "first")["main"]
    assert full["catalog_information"]["children_backup_ids"] == [mine["backup_id"]]
    assert full["wal_information"]["no_of_files"] > 0


@pytest.mark.long
def test_status_and_check_are_barmans(house: House) -> None:
    assert normalised(house.host.run("status", "main")) == normalised(golden("status.txt"))
    assert shape(house.host.json("status", "all")) == shape(json.loads(golden("status.json")))
    checked = house.host.run("check", "main")
    own = "\twal continuity: OK\n\tconfiguration: OK\n"
    expected = golden("check.txt").replace("FAILED (there are 1", "OK (there are 0")
    assert normalised(checked) == normalised(expected) + own
    theirs = json.loads(golden("check.json"))["main"]
    assert set(house.host.json("check", "main")["main"]) == set(theirs) | {"wal_continuity", "configuration"}
    nagios = house.host.run("check", "main", "--nagios")
    assert nagios.startswith("BARMAN OK - Ready to serve") and "|main=" in nagios and " main_wals=" in nagios


def test_who_streams_is_told(house: House) -> None:
    def clients() -> list[tuple[str, str]]:
        told = house.host.json("replication-status", "main")["main"]["streaming_clients"]
        return [(client["application_name"], client["sync_stage"]) for client in told]

    # One that has just begun, or gone, is told of too.
    wait_for(lambda: clients() == [("barman_receive_wal", "3/3 Remote write")], what="the receiver alone to stream")
    assert "  1. Async WAL streamer\n     Application name: barman_receive_wal\n" in house.host.run(
        "replication-status", "main"
    )
    assert house.host.run("list-processes", "main").startswith("Active subprocesses for server main:\n")
    second = house.host.try_run("receive-wal", "main")
    assert (second.returncode, second.stdout) == (1, "Starting receive-wal for server main\n")
    assert second.stderr == "ERROR: Another receive-wal process is already running for server main.\n"


def test_what_is_wrong_is_one_line_and_one(house: House) -> None:
    for words, message in (
        (("list-backups", "nope"), "Unknown server 'nope'"),
        (("show-backup", "main", "nope"), "Unknown backup 'nope' for server 'main'"),
        (("backup", "main", "--incremental", "nope"), "Unknown backup 'nope' for server 'main'"),
        (("keep", "main", "i3", "--target", "full"), "Unable to execute the keep command on backup"),
        (("keep", "main", "i3"), "one of the arguments -r/--release -s/--status --target is required"),
        (("restore", "main", "latest", "/x", "--remote-ssh-command", "ssh pg"), "--remote-ssh-command isn't supported"),
        (("terminate-process", "main", "backup"), "Termination of backup failed: no such process for server main"),
        (("receive-wal", "main", "--create-slot"), "Replication slot 'barman' already exists"),
        (("receive-wal", "main", "--drop-slot"), "Cannot drop replication slot 'barman' on server 'main' because"),
        (("check-wal-archive", "main"), "WAL archive check failed for server main: "),
        (("sync-info", "main"), "server main is not passive"),
        (("get-wal", "main", "0000000100000000000000FF"), "WAL file '0000000100000000000000FF' not found"),
    ):
        done = house.host.try_run(*words)
        assert done.returncode == 1, words
        assert done.stderr.startswith(f"ERROR: {message}") and done.stderr.count("\n") == 1, done.stderr
    assert json.loads(house.host.try_run("-f", "json", "status", "nope").stdout) == {
        "_ERROR": ["Unknown server 'nope'"]
    }
    for words in (("show-backup", "main"), ("frob",), ("backup", "main", "--name", "latest"), ("list-backups",)):
        done = house.host.try_run(*words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_a_keep_holds_and_a_wal_range_is_checked(house: House) -> None:
    backup_id = house.host.json("list-backups", "main")["main"][1]["backup_id"]
    assert house.host.json("keep", "main", "first", "--target", "full") == {}
    assert house.host.run("keep", "main", "opts", "--status") == "Server main:\n\tKeep: full\n"
    refused = house.host.try_run("delete", "main", backup_id)
    assert refused.returncode == 1 and f"Skipping delete of backup {backup_id} for server main" in refused.stderr
    house.host.run("keep", "main", "first", "-r")
    assert house.host.json("keep", "main", "first", "-s") == {
        "main": {"keep_status": {"description": "Keep", "message": "nokeep"}}
    }
    assert house.host.json("check-backup", "main", "latest") == {}
    info = house.host.json("show-backup", "main", "first")["main"]["base_backup_information"]
    found = house.host.run("check-archived-wal-range", "main", info["begin_wal"], info["end_wal"])
    assert found == "Server main:\n\tWAL sequence check for server main: all segments are present\n"
    wanted = house.host.try_run("check-archived-wal-range", "main", "000000010000000000000000", info["end_wal"])
    assert wanted.returncode == 1 and "\t\t000000010000000000000000\n" in wanted.stdout


def test_wal_files_come_and_go(house: House) -> None:
    host, directory = house.host, server_directory(house.directory / "wal")
    name = house.server.switch_wal()
    wait_for(lambda: (house.store / "main" / "wals" / name[:16] / f"{name}.zst").exists(), what="the segment")
    host.run("get-wal", "main", name, "-o", str(directory))
    host.run("cloud-wal-restore", "main", name, str(directory / "restored"))
    segment = (directory / name).read_bytes()
    assert (directory / "restored").read_bytes() == segment
    missing = host.try_run("cloud-wal-restore", "main", "0000000100000000000000FF", str(directory / "x"))
    assert missing.returncode == 1
    shutil.copy(directory / name, house.directory / name)
    server_account().own(house.directory / name)
    host.run("cloud-wal-archive", "main", str(house.directory / name))  # the same again is success
    following = host.run("get-wal", "main", name, "--peek", "1")
    assert following == f"{name}\n"

    def put(sums: bool, content: bytes) -> int:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            members = {name: content}
            if sums:
                members["SHA256SUMS"] = f"{sha256(segment).hexdigest()} *{name}\n".encode()
            for member, data in members.items():
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        path = directory / "stream.tar"
        path.write_bytes(packed.getvalue())
        shell = f"{' '.join(host.command('put-wal', 'main'))} < {path}"
        return run_as_server(["/bin/sh", "-c", shell], environ=host.environ, check=False).returncode

    assert put(sums=True, content=segment) == 0
    assert put(sums=False, content=segment) == 1
    assert put(sums=True, content=segment[:-1] + b"x") == 1


def test_another_host_with_the_same_configuration_has_everything(
    house: House, postgres_installation: Installation
) -> None:
    """It lists, takes the next incremental backup, and receives WAL where the first host, now lost, had stopped."""
    text = house.host.configuration.read_text()
    other = ServerCommands(server_directory(house.directory / "other"), house.server)
    other.configuration.write_text(text.replace(str(house.host.home), str(other.home)))
    server_account().own(other.home)
    house.has_everything()
    assert other.run("list-backups", "main") == house.host.run("list-backups", "main")
    pid = int(house.host.run("list-processes", "main").split()[-2])
    run_as_server(["/bin/kill", f"-{int(signal.SIGKILL)}", str(pid)])
    shutil.rmtree(house.host.home / "state")
    house.await_free_slot()
    with other.receiving():
        other.run("switch-wal", "main", "--force", "--archive", "--archive-timeout", "200")
        options = ("--incremental", "latest-full") if postgres_installation.major >= 17 else ()
        other.run("backup", "main", "--immediate-checkpoint", "--wait", "--name", "of-other", *options)
        assert other.run("check", "main").count("OK") > 20
        taken = other.json("list-backups", "main")["main"][0]
        assert taken["backup_name"] == "of-other"
        other.run("delete", "main", taken["backup_id"])
    assert len(other.json("list-backups", "main")["main"]) == 2


@pytest.mark.parametrize("plain", [False, True])
def test_a_restore_needs_no_configuration_afterwards(house: House, plain: bool) -> None:
    """``restore_command`` stands alone: it is absolute, and needs neither configuration nor ``barman_home``."""
    directory = server_directory(house.directory / f"restored-{plain}")
    lost = ServerCommands(server_directory(house.directory / f"lost-{plain}"), house.server)
    lost.configuration.write_text(house.host.configuration.read_text().replace(str(house.host.home), str(lost.home)))
    server_account().own(lost.home)
    rules = (f"--tablespace=ts_fast:{directory / 'ts'}", "--target-immediate", "--target-action=promote")
    target = directory / "data"
    if plain:
        words = [our_commands().path("barman-cloud"), "-c", str(lost.configuration), "restore", *rules]
        run_as_server([*words, "main", "last", target])
    else:
        told = lost.run("restore", "main", "latest", str(target), *rules)
        assert "Doing PITR. Recovery target immediate: True\n" in told
        assert told.endswith("Your PostgreSQL server has been successfully prepared for recovery!\n")
    shutil.rmtree(lost.home)
    written = (target / "postgresql.auto.conf").read_text()
    wal_restore = program("wal-restore")
    command = f"{wal_restore} --abort-recovery-on-error --parallel=4 file://{house.store} main %f %p"
    assert f"restore_command = '{command}'" in written
    assert "primary_conninfo" not in written
    with adopt(target, house.server.installation) as copy:
        copy.wait_recovered()
        assert copy.value("SELECT count(*) FROM t") == 2000


def test_a_restore_writes_the_command_and_the_file_that_it_is_told(house: House) -> None:
    directory = server_directory(house.directory / "told")
    target = directory / "data"
    words = ("restore", "main", "latest", str(target), f"--tablespace=ts_fast:{directory / 'ts'}", "--target-immediate")
    refused = house.host.try_run(*words, "--recovery-conf-filename=conf.d/recovery.conf")
    assert (refused.returncode, target.exists()) == (1, False)
    assert "--recovery-conf-filename 'conf.d/recovery.conf' is not the name of a file" in refused.stderr
    command = f"{program('wal-restore')} file://{house.store} main %f %p"
    house.host.run(
        *words, "--target-action=promote", f"--restore-command={command}", "--recovery-conf-filename=own.conf"
    )
    assert f"restore_command = '{command}'\n" in (target / "own.conf").read_text()
    assert "restore_command" not in (target / "postgresql.auto.conf").read_text()
    with (target / "postgresql.conf").open("a") as settings:
        settings.write("include = 'own.conf'\n")
    with adopt(target, house.server.installation) as copy:
        copy.wait_recovered()
        assert copy.value("SHOW restore_command") == command
        assert copy.value("SELECT count(*) FROM t") == 2000


def test_a_standby_streams_from_the_primary(house: House) -> None:
    directory = server_directory(house.directory / "standby")
    target = directory / "data"
    house.host.run(
        "restore", "main", "latest", str(target), "--standby-mode", f"--tablespace=ts_fast:{directory / 'ts'}"
    )
    assert (target / "standby.signal").exists() and not (target / "recovery.signal").exists()
    with adopt(target, house.server.installation) as copy:
        wait_for(lambda: copy.query("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"), what="streaming")
        house.server.query("INSERT INTO t VALUES (-1)")
        wait_for(lambda: copy.value("SELECT count(*) FROM t WHERE n = -1") == 1, what="the row to arrive")
        assert copy.in_recovery()


def test_files_of_this_machine_are_backed_up_under_the_servers_name(house: House) -> None:
    """``backup_method = local-to-cloud``, with WAL that comes by ``cloud-wal-archive``."""
    store = server_directory(house.directory / "files")
    host = ServerCommands.create(
        house.directory / "files-host", house.server, f"file://{store}",
        backup_method="local-to-cloud", streaming_archiver="off", archiver="on", compression="gzip",
    )  # fmt: skip
    wait = ("--wait", "--wait-timeout", "1")  # nothing archives
    told = host.run("backup", "main", "--immediate-checkpoint", "--name", "local", "--jobs", "1", *wait)
    assert told.startswith("Starting backup using local-to-cloud-concurrent method for server main in main/base/")
    found = host.json("show-backup", "main", "local")["main"]["base_backup_information"]
    assert found["backup_method"] == "local-to-cloud-concurrent"
    assert "  Server Name            : main\n" in host.run("show-backup", "main", "latest")
    missing = host.try_run("check-backup", "main", "latest")
    assert missing.returncode == 1 and "At least one WAL file is missing" in missing.stderr
    house.server.switch_wal()
    host.run("cloud-wal-archive", "main", str(house.server.data / "pg_wal" / found["begin_wal"]))
    host.run("check-backup", "main", "latest")
    failed = host.try_run("check", "main")
    assert failed.returncode == 1 and "\tarchive_mode: FAILED (please set it to 'on')\n" in failed.stdout
