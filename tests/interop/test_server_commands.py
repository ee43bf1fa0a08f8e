"""Our server commands beside Barman's server: the same words and PostgreSQL, each with a bucket of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from barman_cloud.store.open import open_store
from barman_cloud.store.options import StoreOptions
from tests.support.barman_server import BarmanServer
from tests.support.incrementals import SUMMARIZED
from tests.support.installations import Installation
from tests.support.peers import Commands
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt, run_as_server, server_directory
from tests.support.receivers import stored_wal
from tests.support.server_commands import Completed, ServerCommands, normalised, shape
from tests.support.servers import StoreServer

pytestmark = [pytest.mark.interop, pytest.mark.long, pytest.mark.timeout(900), pytest.mark.xdist_group("interop")]
SUM = "SELECT count(*), sum(abalance), sum(aid) FROM pgbench_accounts"

SAME = (
    ("list-servers",),
    ("list-backups", "main"),
    ("list-backup", "all"),
    ("-q", "list-backups", "main"),
    ("show-backup", "main", "latest"),
    ("show-backup", "main", "first"),
    ("status", "main"),
    ("check-backup", "main", "latest"),
    ("keep", "main", "oldest", "--target", "standalone"),
    ("keep", "main", "full", "--status"),
    ("list-backups", "main"),
    ("keep", "main", "oldest", "--release"),
    ("keep", "main", "full", "-s"),
    ("check-wal-archive", "--timeline", "2", "main"),
    ("switch-wal", "main", "--force"),
    ("list-processes", "main"),
    ("lock-directory-cleanup",),
    ("receive-wal", "main", "--create-slot", "--if-not-exists"),
)
"""Commands whose output, text and JSON, is the same but for what differs from run to run."""

SAME_JSON = frozenset({
    ("list-servers",), ("list-backups", "main"), ("show-backup", "main", "latest"), ("show-backup", "main", "first"),
    ("status", "main"), ("check-backup", "main", "latest"), ("keep", "main", "full", "-s"),
})  # fmt: skip
"""Those that are also compared as JSON; each call of Barman takes a second."""

REFUSED = (
    ("list-backups", "nope"),
    ("show-backup", "main", "nope"),
    ("delete", "main", "nope"),
    ("backup", "main", "--incremental", "nope"),
    ("keep", "main", "latest", "--target", "full"),
    ("keep", "main", "latest"),
    ("receive-wal", "main"),
    ("terminate-process", "main", "backup"),
    ("check-wal-archive", "main"),
    ("show-backup", "main"),
    ("frob",),
    ("backup", "main", "--name", "latest"),
)
"""Commands that both refuse, with the same exit code and nothing on standard output but the same lines."""


class Both:
    """One PostgreSQL, and a Barman server and ours on it."""

    def __init__(self, theirs: BarmanServer, mine: ServerCommands) -> None:
        self.theirs = theirs
        self.mine = mine

    def run(self, *words: str) -> tuple[Completed, Completed]:
        theirs = run_as_server(self.theirs.command(*words), environ=self.theirs.environ, check=False)
        return theirs, self.mine.try_run(*words)

    def successes(self, *words: str) -> tuple[str, str]:
        theirs, mine = self.run(*words)
        assert (theirs.returncode, mine.returncode) == (0, 0), (words, theirs.stderr, mine.stderr)
        return theirs.stdout, mine.stdout


def tidy(text: str) -> str:
    """Return output without what is known to differ: offsets and numbers of WAL, workers, our pids."""
    text = re.sub(r"^\d+ (receive-wal)$", r"PID \1", normalised(text), flags=re.MULTILINE)
    text = re.sub("slot '(?:theirs|barman)'", "slot 'SLOT'", text)
    text = re.sub(r"(End Offset|Begin Offset|Number of files|Number of WALs)( *): \d+", r"\1\2: N", text)
    return re.sub(r"^ *WAL rate .*\n", "", text, flags=re.MULTILINE)


def test_side_by_side(
    postgres_installation: Installation,
    new_postgres: Callable[..., PostgresServer],
    rclone_s3: StoreServer,
    barman_peer: Commands,
    directories: Callable[[], Path],
) -> None:
    if postgres_installation.major < 17:
        pytest.skip("PostgreSQL has incremental backups from 17 on")
    server = new_postgres(settings={**SUMMARIZED, "max_wal_senders": "10"})
    server.pgbench("-i", "-s", "1")
    server.create_tablespace("fast")
    streamed = {
        "archiver": "off", "streaming_archiver": "on", "slot_name": "theirs", "create_slot": "auto",
        "streaming_conninfo": server.conninfo, "description": '"streamed to cloud"',
    }  # fmt: skip
    barman = BarmanServer.create(
        barman_peer, directories(), server, "main", rclone_s3.new_bucket(), rclone_s3.environ, **streamed
    )
    url = rclone_s3.new_bucket()
    mine = ServerCommands.create(directories(), server, url, rclone_s3.environ, parallel_jobs="1")
    both = Both(barman, mine)

    assert "replication slot: FAILED" in both.run("check", "main")[1].stdout
    theirs, ours = (checked.stdout for checked in both.run("check", "main"))
    assert names_of(ours)[: len(names_of(theirs))] == names_of(theirs)
    both.successes("receive-wal", "main", "--create-slot")
    barman.run("cron")
    with mine.receiving():
        wait_for(lambda: "receive-wal running: OK" in both.run("check", "main")[0].stdout, what="Barman's receiver")
        both.successes("switch-wal", "main", "--force", "--archive")
        told = both.successes("backup", "main", "--name", "full", "--immediate-checkpoint", "--wait")
        assert backup_lines(told[0]) == backup_lines(told[1])
        server.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 10 = 0")
        both.successes("backup", "main", "--name", "more", "--immediate-checkpoint", "--incremental", "last", "--wait")

        for words in SAME:
            theirs, ours = both.successes(*words)
            assert tidy(ours) == tidy(theirs), words
            if words not in SAME_JSON:
                continue
            theirs, ours = both.successes("-f", "json", *words)
            assert json_shape(ours) == json_shape(theirs), words
            assert ours.endswith("\n") == theirs.endswith("\n")
        for words in REFUSED:
            theirs, ours = both.run(*words)
            assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), (words, ours.stderr)
            assert bool(ours.stderr) == bool(theirs.stderr), words
        theirs, ours = both.successes("check", "main")
        assert ours.startswith(normalised(theirs).split("\twal size")[0].split("\tbackup minimum size")[0])
        assert names_of(ours)[: len(names_of(theirs))] == names_of(theirs)
        theirs, ours = both.successes("check", "main", "--nagios")
        assert re.sub(r"\d+B", "N", ours) == re.sub(r"\d+B", "N", theirs)
        theirs, ours = both.successes("-f", "json", "replication-status", "main")
        assert json_shape(ours) == json_shape(theirs)
        theirs, ours = both.successes("show-servers", "main")
        assert {"active", "backup_method", "slot_name", "wals_directory"} <= keys_of(ours) & keys_of(theirs)
        restored = [directories() / "data" for _ in range(2)]
        rules = [f"fast:{target.parent / 'fast'}" for target in restored]
        barman.run("restore", "main", "latest", str(restored[0]), "--tablespace", rules[0], "--target-immediate")
        mine.run("recover", "main", "latest", str(restored[1]), "--tablespace", rules[1], "--target-immediate")
        assert (restored[1] / "recovery.signal").exists() == (restored[0] / "recovery.signal").exists()
        for target in restored:
            assert "recovery_target = 'immediate'" in (target / "postgresql.auto.conf").read_text()
        both.successes("delete", "main", "latest")
        both.successes("terminate-process", "main", "receive-wal")
    assert [run.returncode for run in both.run("terminate-process", "main", "receive-wal")] == [1, 1]
    both.successes("receive-wal", "main", "--drop-slot")
    assert len(json.loads(mine.run("-f", "json", "list-backups", "main"))["main"]) == 1


def names_of(checked: str) -> list[str]:
    return [line.split(":")[0].strip() for line in checked.splitlines()[1:]]


def keys_of(shown: str) -> set[str]:
    return {line.split(":")[0].strip() for line in shown.splitlines()[1:]}


def json_shape(text: str) -> object:
    """Return the shape of a JSON answer; ids, which are keys of some, and rates, which may be none, left out."""
    value = json.loads(text)
    found = shape(value)

    def without(item: object) -> object:
        if isinstance(item, dict):
            left_out = ("wal_rate", "wal_rate_per_second")
            return {key: without(inner) for key, inner in item.items() if key not in left_out}
        return [without(inner) for inner in item] if isinstance(item, list) else item

    return without(found)


def backup_lines(told: str) -> list[str]:
    """Return the lines of a backup by their first words; what Barman removes and archives on the way left out."""
    kept = [line for line in normalised(told).splitlines() if not line.startswith("\t")]
    skipped = ("This is the first backup", "WAL segments preceding", "Processing xlog segments", "Starting backup copy")
    words = [line for line in kept if not line.startswith(skipped)]
    return [re.sub(r"\(WAL, [0-9A-F]{8}\)|in \S*main/base", "", line) for line in words]


def test_a_barman_server_is_taken_over_in_place(
    postgres_installation: Installation,
    new_postgres: Callable[..., PostgresServer],
    rclone_s3: StoreServer,
    barman_peer: Commands,
    directories: Callable[[], Path],
) -> None:
    """The same configuration file and bucket: its keep, its manifests and its WAL that isn't archived go on."""
    if postgres_installation.major < 17:
        pytest.skip("PostgreSQL has incremental backups from 17 on")
    server = new_postgres(settings=SUMMARIZED)
    server.pgbench("-i", "-s", "1")
    url, home = rclone_s3.new_bucket(), directories()
    barman = BarmanServer.create(
        barman_peer, home, server, "main", url, rclone_s3.environ,
        archiver="off", streaming_archiver="on", slot_name="barman", create_slot="auto", aws_region="eu-central-1",
    )  # fmt: skip
    barman.run("receive-wal", "main", "--create-slot")
    barman.run("cron")
    wait_for(lambda: server.value("SELECT count(*) FROM pg_replication_slots WHERE active") == 1, what="the receiver")
    barman.run("switch-wal", "main", "--force", "--archive")
    barman.run("backup", "main", "--immediate-checkpoint", "--name", "full", "--wait")
    barman.run("backup", "main", "--immediate-checkpoint", "--incremental", "last", "--name", "more", "--wait")
    barman.run("keep", "main", "full", "--target", "full")
    listed = barman.run("list-backups", "main")
    server.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 7 = 0")
    segment = server.switch_wal()
    waiting = home / "main" / "streaming" / segment
    wait_for(waiting.exists, what="the segment in Barman's streaming directory")
    server.query("CREATE TABLE begun AS SELECT 'in the segment that was begun' AS a")
    begun = waiting.with_name(f"{server.value('SELECT pg_walfile_name(pg_current_wal_insert_lsn())')}.partial")
    wait_for(lambda: b"in the segment that was begun" in begun.read_bytes(), what="the row in Barman's partial segment")

    ours = ServerCommands(home, server, barman.environ)
    refused = ours.try_run("import-state", "main")
    assert refused.returncode == 1 and "receive-wal of server main runs on this machine" in refused.stderr
    barman.run("terminate-process", "main", "receive-wal")
    wait_for(lambda: server.value("SELECT count(*) FROM pg_replication_slots WHERE active") == 0, what="its end")
    assert "2 objects" in ours.run("import-state", "main"), "the manifests, which were only on the host"
    assert not waiting.exists()
    options = StoreOptions(endpoint_url=rclone_s3.endpoint)
    stored = stored_wal(open_store(url, None, options, environ=rclone_s3.environ))
    assert b"in the segment that was begun" in stored[begun.name], "the last WAL, if the server is lost now"
    assert ours.run("import-state", "main").endswith("was imported before\n")
    shown = re.sub(r"(Size: \S+ \S+).*", r"\1", ours.run("list-backups", "main"))
    assert shown.splitlines() == re.sub(r"(Size: \S+ \S+).*", r"\1", listed).splitlines()
    assert "Keep: full" in ours.run("keep", "main", "full", "--status")

    with ours.receiving():
        ours.run("backup", "main", "--immediate-checkpoint", "--incremental", "latest", "--name", "ours", "--wait")
        server.query("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 5 = 0")
        ours.run("switch-wal", "main", "--archive")
        place = server_directory(directories())
        ours.run("restore", "main", "ours", str(place / "data"), "--target-action", "promote", "--target-immediate")
        ours.run("restore", "main", "more", str(place / "to-the-end"))
    assert re.search("^restore_command = .*eu-central-1", (place / "to-the-end/postgresql.auto.conf").read_text(), re.M)
    copy = adopt(place / "to-the-end", server.installation)
    copy.environ.update(rclone_s3.environ)
    with copy:
        copy.wait_recovered()
        assert copy.query(SUM) == server.query(SUM)
        copy.amcheck()
