"""Recovery to a target of every kind, set up by ``--write-recovery-settings`` alone."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from barman_cloud.store.open import open_store
from tests.support.commands import run_command
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.ports import wait_for
from tests.support.postgres import PostgresServer, adopt
from tests.support.privileges import server_account
from tests.support.repository import Repository
from tests.support.servers import StoreServer


@dataclass
class History:
    """A server's past: a backup, then a table with one row more at each of some moments."""

    repository: Repository
    server: PostgresServer
    directory: Path
    time: str = ""
    """When there were two rows, as all of the following."""
    lsn: str = ""
    xid: str = ""
    """Of the transaction that added the third row."""

    def restore(self, name: str, *arguments: str, backup: str = "last") -> PostgresServer:
        """Restore into the directory ``name``; the server isn't started yet."""
        target = self.directory / name
        done = run_command("restore", *arguments, self.repository.url, "main", backup, target)
        assert done.returncode == 0, done.stderr
        server_account().own(target)
        return adopt(target, self.server.installation)

    def rows(self, name: str, *arguments: str, backup: str = "last") -> int:
        """Restore, recover to the end, and return how many rows there are."""
        with self.restore(name, *arguments, "--target-action", "promote", backup=backup) as copy:
            copy.wait_recovered()
            count: int = copy.value("SELECT count(*) FROM events")
            copy.amcheck()
            return count


@pytest.fixture(scope="module")
def history() -> Iterator[History]:
    # The servers' user must be able to reach the directory, which pytest's own don't allow.
    directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
    server_account().own(directory)
    repository = Repository(directory / "store")
    with PostgresServer.create(directory / "server") as server:
        try:
            repository.archive_from(server)
            server.query("CREATE TABLE events AS SELECT now() AS at, 1 AS number")
            assert repository.backup(server, "--lz4").returncode == 0
            history = History(repository, server, directory)
            server.query("INSERT INTO events VALUES (now(), 2)")
            server.query("SELECT pg_create_restore_point('two rows')")
            history.time = str(server.value("SELECT clock_timestamp()"))
            history.lsn = str(server.value("SELECT pg_current_wal_insert_lsn()"))
            server.query("SELECT pg_sleep(0.05)")
            history.xid = str(server.value("INSERT INTO events VALUES (now(), 3) RETURNING pg_current_xact_id()::text"))
            server.query("INSERT INTO events VALUES (now(), 4)")
            server.query("DROP TABLE events")
            server.query("CREATE TABLE events AS SELECT 99 AS number")
            server.wait_archived(server.switch_wal())
            yield history
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def test_to_a_time(history: History) -> None:
    assert history.rows("time", "--target-time", history.time, backup="auto") == 2


def test_to_an_lsn(history: History) -> None:
    assert history.rows("lsn", "--target-lsn", history.lsn, backup="auto") == 2


def test_to_a_transaction(history: History) -> None:
    assert history.rows("xid", "--target-xid", history.xid) == 3
    assert history.rows("before", "--target-xid", history.xid, "--target-exclusive") == 2


def test_to_a_restore_point(history: History) -> None:
    assert history.rows("name", "--target-name", "two rows", "--target-tli", "1") == 2


def test_to_the_end_of_the_backup(history: History) -> None:
    assert history.rows("immediate", "--target-immediate") == 1


def test_to_the_end_of_the_archive(history: History) -> None:
    with history.restore("end", "--write-recovery-settings") as copy:
        copy.wait_recovered()
        assert copy.query("SELECT number FROM events") == [(99,)]
        assert copy.value("SELECT timeline_id FROM pg_control_checkpoint()") >= 1


def test_old_targets_in_the_configuration_do_not_count(history: History) -> None:
    copy = history.restore("old", "--target-name", "two rows", "--target-action", "promote")
    with (copy.data / "postgresql.conf").open("a") as configuration:
        configuration.write(f"recovery_target_time = '{history.time}'\nrecovery_target_lsn = '0/1'\n")
    with copy:
        copy.wait_recovered()
        assert copy.value("SELECT count(*) FROM events") == 2


def start_until_it_ends(copy: PostgresServer) -> None:
    """Start a server that gives up by itself, after it answers queries as a standby or before."""

    def has_ended() -> bool:
        try:
            copy.check_alive()
        except RuntimeError:
            return True
        return False

    try:
        with contextlib.suppress(RuntimeError):
            copy.start()
        wait_for(has_ended, what="the server to give up")
    finally:
        copy.stop()


class TestErrorsOfTheStore:
    """What PostgreSQL makes of a ``restore_command`` that fails for another reason than the end of the archive."""

    @pytest.fixture
    def damaged(self, history: History) -> Iterator[History]:
        """The same past, but a segment in its middle is cut."""
        directory = Path(tempfile.mkdtemp(prefix="bc-", dir="/tmp"))
        try:
            shutil.copytree(history.repository.directory, directory / "store")
            info = history.repository.info()
            wals = directory / "store/main/wals"
            found = sorted(path for path in wals.rglob(24 * "?") if path.name > str(info.end_wal))
            os.truncate(found[0], 5 << 20)
            server_account().own(directory)
            yield dataclasses.replace(history, repository=Repository(directory / "store"), directory=directory)
        finally:
            shutil.rmtree(directory)

    def test_recovery_stops_at_a_damaged_segment_instead_of_promoting(self, damaged: History) -> None:
        copy = damaged.restore("stops", "--write-recovery-settings")
        start_until_it_ends(copy)
        assert "5242880 bytes" in copy.log.read_text()
        assert "archive recovery complete" not in copy.log.read_text()

    def test_it_promotes_where_that_was_left_out(self, damaged: History) -> None:
        with damaged.restore("goes on", "--write-recovery-settings", "--no-abort-recovery-on-error") as copy:
            copy.wait_recovered()
            assert numbers(copy) != [99]

    def test_recovery_stops_when_the_credentials_expire(self, history: History, rclone_s3: StoreServer) -> None:
        url = rclone_s3.new_bucket()
        with open_store(url, environ=dict(rclone_s3.environ)) as store:
            root = history.repository.directory
            for path in (path for path in root.rglob("*") if path.is_file()):
                store.put(str(path.relative_to(root)), path.read_bytes())
        with fault_proxy(rclone_s3.endpoint) as proxy:
            target = history.directory / "expired"
            done = run_command(
                "restore",
                "--write-recovery-settings",
                "--endpoint-url",
                proxy.endpoint,
                url,
                "main",
                "last",
                target,
                environ=rclone_s3.environ,
            )
            assert done.returncode == 0, done.stderr
            proxy.add(Fault("GET", "wals/", times=1000, status=403))
            server_account().own(target)
            copy = adopt(target, history.server.installation)
            copy.environ.update(rclone_s3.environ)
            start_until_it_ends(copy)
        assert "archive recovery complete" not in copy.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "refusal", "postgres_says"),
    [
        (
            ["--target-time", "2199-01-01 00:00Z"],
            "can't reach 2199",
            "recovery ended before configured recovery target",
        ),
        (["--target-lsn", "FF/0"], "can't reach LSN", "recovery ended before configured recovery target"),
        (["--target-tli", "77"], "timeline 77 isn't", "recovery target timeline 77 does not exist"),
    ],
)
def test_what_postgresql_would_refuse_after_hours_is_refused_at_once(
    history: History, arguments: list[str], refusal: str, postgres_says: str
) -> None:
    name = f"refused{arguments[0]}"
    target = history.directory / name
    arguments = ["--write-recovery-settings", *arguments]
    done = run_command("restore", *arguments, history.repository.url, "main", "last", target)
    assert (done.returncode, target.exists()) == (1, False)
    assert refusal in done.stderr
    copy = history.restore(name, *arguments, "--force")
    try:
        copy.start(wait=False)
        wait_for(lambda: postgres_says in copy.log.read_text(), what="PostgreSQL's own refusal")
    finally:
        copy.stop(mode="immediate")


def test_a_standby_follows_the_archive(history: History) -> None:
    with history.restore("standby", "--standby-mode") as standby:
        wait_for(lambda: numbers(standby) == [99], what="the standby to catch up")
        assert standby.in_recovery()
        # In a table of its own: the other tests know what is in the first one at the end.
        history.server.query("CREATE TABLE later AS SELECT 100 AS number")
        history.server.wait_archived(history.server.switch_wal())
        wait_for(lambda: numbers(standby, "later") == [100], what="the standby to follow")


def numbers(server: PostgresServer, table: str = "events") -> list[int]:
    """The rows of the table, or none while it isn't there (again)."""
    try:
        return [number for (number,) in server.query(f"SELECT number FROM {table} ORDER BY 1")]
    except psycopg.errors.UndefinedTable:
        return []
